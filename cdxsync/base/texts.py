"""Texts as they come from outside: made safe to show on a terminal or a page, and digests in them."""

import re

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: titles, links
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]?"
)
# C0 but TAB, DEL, C1, and the marks that reorder text around them.
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# The same, and what has no width; a tab, and the ends of lines, are no harm in a text of several lines.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]|\r(?!\n)"
)
DIGEST = re.compile(r"[0-9a-f]{64}")
"""A SHA-256 as it goes over the wire."""
NUL_PROBLEM = "must not contain the character U+0000"
"""For texts that are stored unchanged: not every database can hold that character."""


def clean(text: str) -> str:
    """`text` without terminal escapes and control characters, trimmed. Line ends become blanks."""
    text = re.sub(r"\r\n|\r|\n", " ", _ESCAPES.sub("", text))
    return _CONTROLS.sub("", text).strip()


def shown(text: str) -> str:
    """`text` as a terminal may show it: what would steer the terminal, or hide, is written as in JSON, `\\u001b`."""
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def read_digest(value: object) -> str:
    """A digest as sent, trimmed and lower-cased. Raises ValueError with the text for the field."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("is required: 64 hex digits (SHA-256 of the compact document)")
    digest = value.strip().lower()
    if not DIGEST.fullmatch(digest):
        raise ValueError("must be 64 hex digits (SHA-256)")
    return digest
