"""The lines of an export: their shapes, and reading and writing them with a running checksum."""

import hashlib
import hmac
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec

from cdxsync.base.errors import Failed

FORMAT = "cdxsync-export-1"
MAX_LINE_BYTES = 256 << 20
"""Longer than any row that the limits of requests allow."""


class Header(msgspec.Struct, forbid_unknown_fields=True):
    """The first line. `schema` is the last migration, `key_ids` the keys of sealed values and MACs, `rows` the counts.

    `rows_have_macs` says whether every row that gives rights must have a good MAC.
    """

    format: str
    program_version: str
    schema: str
    key_ids: list[str]
    rows: dict[str, int]
    rows_have_macs: bool = False


class Row(msgspec.Struct, forbid_unknown_fields=True):
    """One row of a table."""

    table: str
    row: dict[str, Any]


class Keys(msgspec.Struct, forbid_unknown_fields=True):
    """The keyring, and the signing keys, as in their files."""

    keyring: dict[str, Any]
    signing: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class End(msgspec.Struct, forbid_unknown_fields=True):
    """The last line: the checksum of all lines before it."""

    end: bool
    sha256: str


class Writer:
    """Writes lines to a binary stream."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._digest = hashlib.sha256()

    def write(self, line: Header | Keys | Row) -> None:
        """Write one line."""
        data = msgspec.json.encode(line) + b"\n"
        self._digest.update(data)
        self._target.write(data)

    def end(self) -> None:
        """Write the last line."""
        self._target.write(msgspec.json.encode(End(end=True, sha256=self._digest.hexdigest())) + b"\n")


class Reader:
    """Reads lines from a binary stream; `number` is that of the last line, from 1."""

    def __init__(self, source: BinaryIO, name: str) -> None:
        self._source = source
        self._name = name
        self._digest = hashlib.sha256()
        self.number = 0

    def failure(self, text: str) -> Failed:
        """An error about the line read last."""
        return Failed(f"{self._name}, line {self.number}: {text}. Nothing was imported", code="import_failed")

    def header(self) -> Header:
        """The first line. Raises `Failed`."""
        data = self._next()
        try:
            header = msgspec.json.decode(data, type=Header)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self.failure("not an export of cdxsync") from None
        if header.format != FORMAT:
            raise self.failure(f"an export of the format {header.format!r}, but this version reads {FORMAT!r}")
        self._digest.update(data)
        return header

    def lines(self) -> Iterator[Keys | Row]:
        """The lines between the first and the last; when it ends, the checksum was right. Raises `Failed`."""
        while True:
            data = self._next()
            try:
                if data.startswith(b'{"table":'):
                    line: Keys | Row | End = msgspec.json.decode(data, type=Row)
                elif data.startswith(b'{"keyring":'):
                    line = msgspec.json.decode(data, type=Keys)
                else:
                    line = msgspec.json.decode(data, type=End)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise self.failure(f"not a line of an export: {error}") from None
            if isinstance(line, End):
                if not hmac.compare_digest(line.sha256.encode(), self._digest.hexdigest().encode()):
                    raise self.failure("the checksum does not match: the export is damaged")
                if self._source.read(1):
                    raise self.failure("there are lines after the end")
                return
            self._digest.update(data)
            yield line

    def _next(self) -> bytes:
        data = self._source.readline(MAX_LINE_BYTES)
        self.number += 1
        if not data.endswith(b"\n"):
            raise self.failure("it is truncated here" if len(data) < MAX_LINE_BYTES else "too long")
        return data
