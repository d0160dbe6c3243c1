"""What a prompt's front matter says of it: two texts, in the forms in which YAML writes texts (`docs/protocol.md 9.2`).

No YAML engine reads what hosts send: its anchors, merges and nested forms cost far more than the text is long. This
takes time in proportion to the block, of which `MAX_LINES` lines and `MAX_LENGTH` characters are looked at, no more.
"""

import itertools
import re
from collections.abc import Sequence

from cdxsync.base import texts

MAX_LINES = 200
MAX_LENGTH = 16 * 1024
NAMES = ("description", "argument_hint")
_BOUNDARY = re.compile(r"-{3,}[ \t]*")
_NOT_PLAIN = re.compile(r"""[\[\]{},&*!|>'"%@`#-]|[?:](?:\s|$)""")
"""How what is no plain text begins. With a hyphen a text may, too; as it is written it reads the same."""
_COMMENT = re.compile(r"(?:^|[ \t])#.*")
_KEY = re.compile(r"[^:#]{0,255}:(?:[ \t]|$)|-(?:[ \t]|$)")
_BLOCK = re.compile(r"([|>])[-+1-9]{0,2}(?:[ \t]+#.*)?")
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_ESCAPED = dict(
    {"0": "\0", "a": "\a", "b": "\b", "t": "\t", "\t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b"},
    **{" ": " ", '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029"},
)


def read(text: str) -> dict[str, str]:
    """`description` and `argument_hint` of a prompt, cleaned; without those that its front matter does not have.

    What is none of YAML's forms of a text counts as written: Codex's own prompts have `argument-hint: [FILE] [--all]`,
    which YAML refuses. No front matter, or one that is not closed, has neither.
    """
    lines = re.split(r"\r\n|\r|\n", text[:MAX_LENGTH])
    if not _BOUNDARY.fullmatch(lines[0]):
        return {}
    block = list(itertools.takewhile(lambda line: not _BOUNDARY.fullmatch(line), lines[1 : MAX_LINES + 1]))
    if len(block) == len(lines[1 : MAX_LINES + 1]):
        return {}
    found = {}
    for number, line in enumerate(block):
        key, colon, written = line.partition(":")
        name = key.rstrip().lower().replace("-", "_")
        if colon and name in NAMES:
            below = itertools.takewhile(lambda after: not after.strip() or after[0] in " \t", block[number + 1 :])
            value = _value(written.strip(), list(below))
            found[name] = texts.clean(written if value is None else value)
    return found


def _value(written: str, below: Sequence[str]) -> str | None:
    """A value that begins behind its key and goes on in the lines `below`; None for what is no form of a text."""
    if written[:1] in ("'", '"'):
        return _quoted(written, below)
    if _BLOCK.fullmatch(written):
        return " ".join(line.strip() for line in below)
    first = _COMMENT.sub("", written, count=1).strip()
    if first and (_NOT_PLAIN.match(first) or re.search(r":(?:[ \t]|$)", first)):
        return None
    more = [line.strip() for line in below if line.strip()]
    if any(_KEY.match(line) or line[0] == "#" for line in more):  # a nested value, or the end of this one
        return None
    return " ".join([first, *(_COMMENT.sub("", line, count=1) for line in more)])


def _quoted(written: str, below: Sequence[str]) -> str | None:
    quote, parts = written[0], []
    rest, lines = written[1:], iter(below)
    pattern = re.compile(r"(?:[^'\n]|'')*'(?!')" if quote == "'" else r'(?:[^"\\\n]|\\.)*"')
    while True:
        end = pattern.match(rest)
        if end is not None:
            if not re.fullmatch(r"[ \t]*(?:#.*)?", rest[end.end() :]):
                return None
            parts.append(rest[: end.end() - 1])
            break
        parts.append(rest)
        following = next(lines, None)
        if following is None:
            return None
        rest = following.strip()
    if quote == "'":
        return " ".join(parts).replace("''", "'")
    whole = "".join(part[:-1] if _continues(part) else part + " " for part in parts[:-1]) + parts[-1]
    return _ESCAPE.sub(_unescaped, whole)


def _continues(part: str) -> bool:
    """Whether a line ends with a backslash that is not escaped: the next follows without a blank."""
    return (len(part) - len(part.rstrip("\\"))) % 2 == 1


def _unescaped(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3]
    if digits is None:
        return _ESCAPED.get(match[4], match[0])
    code = int(digits, 16)
    return match[0] if code > 0x10FFFF or 0xD800 <= code < 0xE000 else chr(code)
