"""Queries: statements whose SQL is built once, and long lists page by page."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import peewee
from peewee import BooleanField, Value

from cdxsync.store.scope import current

DEFAULT_LIMIT = 50
"""Default number of rows of a page."""


class _Slot:
    """Placeholder of a parameter until the query runs."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Statement(NamedTuple):
    """A query in the SQL of one kind of database."""

    sql: str
    parameters: list[Any]
    model: Any


class Prepared:
    """A query over the tables with values left open: `build` makes it from a placeholder for each of its parameters.

    Peewee takes longer to build a statement than SQLite to run it: the SQL is built once.

    The values go to the driver as they are: texts, numbers and None.
    """

    def __init__(self, build: Callable[..., Any]) -> None:
        self._build = build
        self._statements: dict[type, _Statement] = {}
        """By the kind of Peewee's database."""

    def _statement(self, kind: type) -> _Statement:
        found = self._statements.get(kind)
        if found is None:
            names = inspect.signature(self._build).parameters
            query = self._build(**{name: Value(_Slot(name), converter=False, unpack=False) for name in names})
            sql, parameters = query.sql()
            found = self._statements[kind] = _Statement(sql, parameters, query.model)
        return found

    def _run(self, database: peewee.Database, values: dict[str, Any]) -> Any:
        statement = self._statement(type(database))
        given = [values[one.name] if type(one) is _Slot else one for one in statement.parameters]
        return database.connection().execute(statement.sql, given)

    def execute(self, **values: Any) -> Any:
        """Run it without Peewee; returns the driver's cursor. Raises the driver's errors."""
        return self._run(current().peewee, values)

    def insert(self, **values: Any) -> int:
        """Run an INSERT of one row; returns the id that it got."""
        database = current().peewee
        cursor = self._run(database, values)
        return int(cursor.fetchone()[0] if database.returning_clause else cursor.lastrowid)

    def row(self, **values: Any) -> Any:
        """The first row as a tuple, or None."""
        cursor = self.execute(**values)
        row = cursor.fetchone()
        cursor.close()  # an unread rest would keep the thread's old view of the database
        return row

    def rows(self, **values: Any) -> list[Any]:
        """All rows as tuples."""
        rows: list[Any] = self.execute(**values).fetchall()
        return rows

    def changed(self, **values: Any) -> int:
        """Number of rows that an UPDATE or DELETE changed."""
        return int(self.execute(**values).rowcount)

    @functools.cached_property
    def _fields(self) -> tuple[Any, list[str], list[str]]:
        model = next(iter(self._statements.values())).model
        fields = model._meta.sorted_fields
        booleans = [field.name for field in fields if isinstance(field, BooleanField)]
        return model, [field.name for field in fields], booleans

    def model(self, **values: Any) -> Any:
        """The first row as a model, or None; for a query that selects whole rows of one table without foreign keys."""
        row = self.row(**values)
        if row is None:
            return None
        model, names, booleans = self._fields
        found = model(__no_default__=True)
        data = found.__data__  # set as one: attribute by attribute takes longer than the query
        data.update(zip(names, row, strict=True))
        for name in booleans:
            data[name] = bool(data[name])
        return found


def newest_first(query: Any, key: Any, *, limit: int, before: int | None) -> tuple[list[Any], int | None]:
    """The rows of one page of `query`, and the cursor of the next page, None on the last page.

    `key` is the table's ascending id. `before` is the cursor of an earlier page.
    """
    if before is not None:
        query = query.where(key < before)
    rows = list(query.order_by(key.desc()).limit(limit + 1))
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None
