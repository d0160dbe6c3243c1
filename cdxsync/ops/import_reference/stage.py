"""Rows of a dump, staged until they are imported: a dump has tables in order of name, we need hosts first."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from cdxsync.ops.import_reference.dump import Row
from cdxsync.ops.schemas import Skipped

KEYS = {
    "hosts": "id",
    "auth_payloads": "id",
    "auth_entries": "payload_id",
    "host_auth_states": "host_id",
    "host_auth_digests": "host_id",
    "install_tokens": "id",
    "token_usages": "id",
    "slash_commands": "id",
    "versions": "name",
    "logs": "id",
}
"""The staged tables, each with the column that orders its rows."""
_EXAMPLES = 5
_ADD = (
    "INSERT INTO totals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " extra = MAX(extra, excluded.extra),"
    " a = a + excluded.a, b = b + excluded.b, c = c + excluded.c, d = d + excluded.d, e = e + excluded.e,"
    " f = f + excluded.f"
)


class Stage:
    """Rows by table and key, in a private temporary database that ends with the process (SQLite's name "")."""

    def __init__(self) -> None:
        # Filled in one thread, then read in the writer thread; never in both at the same time.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE rows (tbl TEXT, place INTEGER, name TEXT, line INTEGER, data TEXT)")
        self._database.execute(
            "CREATE TABLE totals (kind TEXT, place TEXT, extra TEXT, a INTEGER, b INTEGER, c INTEGER, d INTEGER,"
            " e INTEGER, f INTEGER, PRIMARY KEY (kind, place)) WITHOUT ROWID"
        )
        self._counts: Counter[str] = Counter()

    def add(self, row: Row) -> None:
        """Store a row."""
        key = row.values.get(KEYS[row.table])
        place = int(key) if isinstance(key, int) or (isinstance(key, str) and key.isdigit() and len(key) < 19) else None
        values = (row.table, place, str(key), row.line, json.dumps(row.values))
        self._database.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", values)
        self._counts[row.table] += 1

    def finish(self) -> None:
        """End of rows: build the index."""
        self._database.execute("CREATE INDEX by_place ON rows (tbl, place)")

    def count(self, table: str) -> int:
        """How many rows of a table there are."""
        return self._counts[table]

    def total(self) -> int:
        """How many rows there are."""
        return self._counts.total()

    def rows(self, table: str, place: int | None = None, *, newest_first: bool = False) -> Iterator[Row]:
        """The rows of a table by key, or those with one."""
        where, values = ("tbl = ?", [table]) if place is None else ("tbl = ? AND place = ?", [table, place])
        order = "place DESC, rowid DESC" if newest_first else "place, rowid"
        query = f"SELECT line, data FROM rows WHERE {where} ORDER BY {order}"  # noqa: S608 - of constants
        for line, data in self._database.execute(query, values):
            yield Row(table, json.loads(data), line)

    def add_to_total(self, kind: str, place: str, extra: str, numbers: tuple[int, ...]) -> None:
        """Add six `numbers` to the sums of a `kind` at a `place`; the greatest `extra` stays."""
        self._database.execute(_ADD, (kind, place, extra, *numbers))

    def totals(self, kind: str) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """The sums of a kind: place, extra and numbers, by place."""
        for row in self._database.execute("SELECT * FROM totals WHERE kind = ? ORDER BY place", (kind,)):
            yield row[1], row[2], tuple(row[3:])

    def close(self) -> None:
        """Delete everything."""
        self._database.close()


@dataclass
class Report:
    """What an import did, or would do: counts by table, skipped rows and the reasons."""

    imported: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    _skipped: dict[tuple[str, str], tuple[int, list[str]]] = field(default_factory=dict)

    def skip(self, row: Row, reason: str, name: str = "") -> None:
        """A row is skipped; `name` says which, without secrets."""
        count, examples = self._skipped.get((row.table, reason), (0, []))
        if len(examples) < _EXAMPLES:
            examples.append(f"{name} (line {row.line})" if name else f"line {row.line}")
        self._skipped[row.table, reason] = (count + 1, examples)

    @property
    def skipped(self) -> list[Skipped]:
        """What was left out, by table and reason."""
        return [
            Skipped(table=table, reason=reason, count=count, examples=examples)
            for (table, reason), (count, examples) in self._skipped.items()
        ]
