"""The rows in a dump as `mysqldump` writes it: INSERT statements of the wanted tables; the rest is skipped."""

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from cdxsync.ops.import_reference.tokens import Token, Tokens, unescape

Value = str | int | None
MAX_COLUMNS = 1000
MAX_ROW_BYTES = 128 << 20
_DELIMITER_BACK = re.compile(rb"\s*DELIMITER\s+;\s*$", re.IGNORECASE)
_NOT_COLUMNS = {"PRIMARY", "KEY", "UNIQUE", "INDEX", "CONSTRAINT", "FULLTEXT", "SPATIAL", "FOREIGN", "CHECK", "PERIOD"}
_INSERT_WORDS = {"LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO"}


class Row(NamedTuple):
    """A row of the dump: table, values by column, and line."""

    table: str
    values: dict[str, Value]
    line: int


class Dump:
    """Reads a dump once, from start to end. Column names are those of the INSERT, or of the CREATE TABLE before it."""

    def __init__(self, tokens: Tokens, wanted: Collection[str]) -> None:
        self._tokens = tokens
        self._wanted = wanted
        self._columns: dict[str, list[str]] = {}
        self.skipped_tables: set[str] = set()
        self.warnings: list[str] = []

    def rows(self) -> Iterator[Row]:
        """The rows of the wanted tables. Raises `Failed` with the line of what cannot be read."""
        seen_statement = False
        while (token := self._tokens.next()) is not None:
            word = _word(token)
            if word in ("INSERT", "REPLACE"):
                yield from self._insert()
            elif word == "CREATE":
                self._create()
            elif word == "DELIMITER":
                self._tokens.skip_lines(_DELIMITER_BACK)
            elif not seen_statement and token.kind not in ("word", "mark"):
                raise self._tokens.failure("not a dump as mysqldump writes it", token.line)
            else:
                self._skip(token)
            seen_statement = True

    def _need(self, what: str) -> Token:
        token = self._tokens.next()
        if token is None:
            raise self._tokens.failure(f"the dump is truncated: {what} is missing")
        return token

    def _skip(self, token: Token | None) -> None:
        while token is not None and token.data != b";":
            token = self._tokens.next()

    def _table(self, token: Token) -> tuple[str, Token]:
        """The name of a table, without its database, and the token after it."""
        name = self._name(token)
        after = self._need("the rest of a statement")
        while after.data == b".":
            name = self._name(self._need("a table's name"))
            after = self._need("the rest of a statement")
        return name, after

    def _name(self, token: Token) -> str:
        if token.kind == "name":
            raw = token.data[1:-1].replace(b"``", b"`")
        elif token.kind == "word":
            raw = token.data.rpartition(b".")[2]
        else:
            raise self._tokens.failure("expected a name", token.line)
        return raw.decode(errors="replace").lower()

    def _create(self) -> None:
        token = self._need("the rest of CREATE")
        if _word(token) != "TABLE":
            self._skip(token)
            return
        token = self._need("a table's name")
        while _word(token) in ("IF", "NOT", "EXISTS"):
            token = self._need("a table's name")
        table, token = self._table(token)
        if token.data != b"(":
            self._skip(token)
            return
        columns: list[str] = []
        depth, begins = 1, True
        while depth:
            token = self._need("the end of CREATE TABLE")
            if depth == 1 and begins and _is_column(token):
                columns.append(self._name(token))
                if len(columns) > MAX_COLUMNS:
                    raise self._tokens.failure(f"a table of more than {MAX_COLUMNS} columns", token.line)
            begins = depth == 1 and token.data == b","
            depth += (token.data == b"(") - (token.data == b")")
        if table in self._wanted:
            self._columns[table] = columns
        self._skip(token)

    def _insert(self) -> Iterator[Row]:
        token = self._need("the rest of INSERT")
        while _word(token) in _INSERT_WORDS:
            token = self._need("a table's name")
        table, token = self._table(token)
        if table not in self._wanted:
            if len(self.skipped_tables) < MAX_COLUMNS:
                self.skipped_tables.add(table)
            self._skip(token)
            return
        columns = self._columns.get(table)
        if token.data == b"(":
            columns = []
            while token.data != b")":
                columns.append(self._name(self._need("a column's name")))
                token = self._need("the end of the column names")
                if token.data not in (b",", b")") or len(columns) > MAX_COLUMNS:
                    raise self._tokens.failure("the column names of INSERT cannot be read", token.line)
            token = self._need("VALUES")
        if _word(token) not in ("VALUES", "VALUE"):
            raise self._tokens.failure(f"INSERT without VALUES, into {table}, cannot be read", token.line)
        if columns is None:
            raise self._tokens.failure(
                f"the columns of {table} are unknown. Dump it with its CREATE TABLE, or with --complete-insert",
                token.line,
            )
        while token.data != b";":
            token = self._need("a row")
            if token.data != b"(":
                raise self._tokens.failure("expected a row, which begins with (", token.line)
            line = token.line
            values = self._row()
            if len(values) != len(columns):
                raise self._tokens.failure(
                    f"a row of {table} has {len(values)} values for {len(columns)} columns", line
                )
            yield Row(table, dict(zip(columns, values, strict=True)), line)
            token = self._need("the end of INSERT")
            if token.data not in (b",", b";"):
                raise self._tokens.failure("expected , or ; after a row", token.line)

    def _row(self) -> list[Value]:
        values: list[Value] = []
        size = 0
        while True:
            token = self._need("the end of a row")
            size += len(token.data)
            if size > MAX_ROW_BYTES or len(values) > MAX_COLUMNS:
                raise self._tokens.failure("a row is too large", token.line)
            values.append(self._value(token))
            token = self._need("the end of a row")
            if token.data == b")":
                return values
            if token.data != b",":
                raise self._tokens.failure("expected , or ) after a value", token.line)

    def _value(self, token: Token) -> Value:
        word = _word(token)
        if word == "NULL":
            return None
        if word in ("TRUE", "FALSE"):
            return int(word == "TRUE")
        if word.startswith("_") and token.kind == "word":  # _binary 'text'
            token = self._need("a text")
        try:
            if token.kind == "text":
                return unescape(token.data).decode()
            if token.kind == "hex":
                digits = token.data[2:].rstrip(b"'").decode()
                return bytes.fromhex(digits.rjust(len(digits) + len(digits) % 2, "0")).decode()
        except UnicodeDecodeError:
            text = "a text is not UTF-8. Dump with --default-character-set=utf8mb4"
            raise self._tokens.failure(text, token.line) from None
        if token.kind == "bits":
            return int(token.data[2:-1] or b"0", 2) if len(token.data) < 70 else None
        if token.kind == "number" and len(token.data) <= 40:
            return int(token.data) if token.data.lstrip(b"-+").isdigit() else token.data.decode()
        raise self._tokens.failure("expected a value: a text, a number or NULL", token.line)


def _word(token: Token) -> str:
    return token.data.decode("ascii", "replace").upper() if token.kind == "word" else ""


def _is_column(token: Token) -> bool:
    return token.kind == "name" or (token.kind == "word" and _word(token) not in _NOT_COLUMNS)
