"""The tokens of SQL text as `mysqldump` writes it, with bounded memory."""

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from cdxsync.base.errors import Failed

MAX_TOKEN_BYTES = 64 << 20
"""The largest value, in bytes of the dump."""
_CHUNK = 1 << 18
# No repeat can backtrack, so that nothing is tried twice, whatever the text is. Possessive
# repeats would say so, but the first releases of CPython 3.11 get those of groups wrong.
_TOKEN = re.compile(
    rb"""(?P<blank>[ \t\r\n]+)
    |(?P<comment>--(?=[ \t\r\n])[^\n]*\n|\#[^\n]*\n|/\*.*?\*/)
    |(?P<hex>0[xX][0-9A-Fa-f]+|[xX]'[0-9A-Fa-f]*')
    |(?P<bits>[bB]'[01]*')
    |(?P<number>[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)
    |(?P<word>[A-Za-z_$@][A-Za-z0-9_$@.]*)
    |(?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
# A repeated group remembers each round: a limit keeps that small, and `_end_of_quoted` goes on from there.
_INSIDE = {
    b"'": re.compile(rb"(?:[^'\\]+|\\.|''){0,1000}", re.DOTALL),
    b'"': re.compile(rb'(?:[^"\\]+|\\.|""){0,1000}', re.DOTALL),
    b"`": re.compile(rb"(?:[^`]+|``){0,1000}", re.DOTALL),
}
"""The text between quotes."""
_OPENERS = (b"'", b"`", b"/*", b"--", b"#", b"x'", b"X'", b"b'", b"B'")
_ESCAPES = {b"0": b"\0", b"b": b"\b", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"Z": b"\x1a"}
_ESCAPED = re.compile(rb"\\(.)|''", re.DOTALL)


class Token(NamedTuple):
    """A token: its kind (`text`, `name`, `hex`, `bits`, `number`, `word`, `mark`), its bytes, and its line."""

    kind: str
    data: bytes
    line: int


def unescape(quoted: bytes) -> bytes:
    """The value of a quoted text, by MySQL's rules for backslashes and doubled quotes."""

    def value(match: re.Match[bytes]) -> bytes:
        letter = match[1]
        if letter is None:
            return b"'"
        if letter in b"%_":
            return b"\\" + letter
        return _ESCAPES.get(letter, letter)

    return _ESCAPED.sub(value, quoted[1:-1])


class Tokens:
    """Reads tokens one after another; blanks and comments, also those with a version such as `/*!40101 … */`, are
    left out."""

    def __init__(self, source: BinaryIO, name: str) -> None:
        self._source = source
        self._name = name
        self._buffer = b""
        self._place = 0
        self._ended = False
        self.line = 1

    def failure(self, text: str, line: int | None = None) -> Failed:
        """An error about a line of the dump."""
        return Failed(f"{self._name}, line {line or self.line}: {text}. Nothing was imported", code="import_failed")

    def __iter__(self) -> Iterator[Token]:
        while (token := self.next()) is not None:
            yield token

    def next(self) -> Token | None:
        """The next token, None at the end. Raises `Failed`."""
        while (found := self._whole()) is not None:
            kind, end = found
            data, line = self._buffer[self._place : end], self.line
            self.line += data.count(b"\n")
            self._place = end
            if kind not in ("blank", "comment"):
                return Token(kind, data, line)
        return None

    def _whole(self) -> tuple[str, int] | None:
        """Kind and end of the token at the place; reads more where it may continue."""
        while True:
            at_end = self._place >= len(self._buffer)
            found = None if at_end else self._find()
            whole = found is not None and found[1] < len(self._buffer)
            if whole and found is not None and found[0] in ("mark", "word"):
                # Such as `/` of a comment whose end is not read yet.
                whole = not self._buffer.startswith(_OPENERS, self._place)
            if whole or (found is not None and self._ended and not self._unfinished(found[0])):
                return found
            if self._ended:
                if at_end:
                    return None
                raise self.failure("a quoted text or comment has no end")
            if len(self._buffer) - self._place > MAX_TOKEN_BYTES:
                raise self.failure(f"a value has more than {MAX_TOKEN_BYTES >> 20} MiB")
            self._read()

    def _find(self) -> tuple[str, int] | None:
        """Kind and end of the token at the place; None for a quoted text whose end is not read yet."""
        quote = self._buffer[self._place : self._place + 1]
        if quote in _INSIDE:
            end = self._end_of_quoted(quote)
            return None if end is None else ("name" if quote == b"`" else "text", end)
        match = _TOKEN.match(self._buffer, self._place)
        return None if match is None else (match.lastgroup or "mark", match.end())

    def _end_of_quoted(self, quote: bytes) -> int | None:
        end = self._place + 1
        while (match := _INSIDE[quote].match(self._buffer, end)) and match.end() > end:
            end = match.end()
        return end + 1 if self._buffer.startswith(quote, end) else None

    def _unfinished(self, kind: str) -> bool:
        return kind == "mark" and self._buffer.startswith((b"/*",), self._place)

    def _read(self) -> None:
        # More each time, so that a long value is scanned only a few times.
        rest = self._buffer[self._place :]
        data = self._source.read(max(_CHUNK, len(rest)))
        self._ended = not data
        self._buffer, self._place = rest + data, 0

    def skip_lines(self, until: re.Pattern[bytes]) -> None:
        """Skip to after the first line that matches `until`, or to the end."""
        while True:
            end = self._buffer.find(b"\n", self._place)
            if end < 0:
                if self._ended:
                    self._place = len(self._buffer)
                    return
                if len(self._buffer) - self._place > MAX_TOKEN_BYTES:
                    raise self.failure("a line is too long")
                self._read()
                continue
            line = self._buffer[self._place : end]
            self._place = end + 1
            self.line += 1
            if until.match(line):
                return
