"""Texts from outside, made safe to show on a terminal or a page."""

import re

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: titles, links
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]?"
)
# C0 but TAB, DEL, C1, and the marks that reorder text around them.
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


NUL_PROBLEM = "must not contain the character U+0000"
"""For texts that are kept as they are: not every database can hold it."""


def clean(text: str) -> str:
    """`text` without terminal escapes and control characters, trimmed. Line ends become blanks."""
    text = re.sub(r"\r\n|\r|\n", " ", _ESCAPES.sub("", text))
    return _CONTROLS.sub("", text).strip()
