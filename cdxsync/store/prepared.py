"""Queries whose SQL is made once: Peewee takes longer to write a statement than SQLite to run it."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from peewee import BooleanField, Value

from cdxsync.store.tables import proxy


class _Slot:
    """Stands for a parameter's value until the query is run."""

    def __init__(self, name: str) -> None:
        self.name = name


class Prepared:
    """A query over the tables with values left open: `build` makes it from a placeholder for each of its parameters.

    The values go to the driver as they are: texts, numbers and None.
    """

    def __init__(self, build: Callable[..., Any]) -> None:
        self._build = build
        self._kind: type | None = None
        self._sql = ""
        self._parameters: list[Any] = []
        self._model: Any = None

    def _write(self) -> None:
        """Make the SQL for the database that the tables are bound to."""
        names = inspect.signature(self._build).parameters
        query = self._build(**{name: Value(_Slot(name), converter=False, unpack=False) for name in names})
        self._sql, self._parameters = query.sql()
        self._model = query.model
        self._kind = type(self._database())

    def _database(self) -> Any:
        bound = self._model._meta.database
        return proxy.obj if bound is proxy else bound

    def execute(self, **values: Any) -> Any:
        """Run it past Peewee; returns the driver's cursor. Raises the driver's errors, which `reachable` knows too."""
        if self._model is None:
            self._write()
        database = self._database()
        if self._kind is not type(database):
            self._write()
        given = [values[one.name] if type(one) is _Slot else one for one in self._parameters]
        return database.connection().execute(self._sql, given)

    def insert(self, **values: Any) -> int:
        """Run an INSERT of one row; returns the id that it got."""
        cursor = self.execute(**values)
        return int(cursor.fetchone()[0] if self._database().returning_clause else cursor.lastrowid)

    def row(self, **values: Any) -> Any:
        """The first row as a tuple, or None."""
        cursor = self.execute(**values)
        row = cursor.fetchone()
        cursor.close()  # else an unread rest would keep the thread's view of the database as it was
        return row

    def rows(self, **values: Any) -> list[Any]:
        """All rows as tuples."""
        rows: list[Any] = self.execute(**values).fetchall()
        return rows

    def changed(self, **values: Any) -> int:
        """How many rows an UPDATE or DELETE has changed."""
        return int(self.execute(**values).rowcount)

    @functools.cached_property
    def _fields(self) -> tuple[list[str], list[str]]:
        fields = self._model._meta.sorted_fields
        return [field.name for field in fields], [field.name for field in fields if isinstance(field, BooleanField)]

    def model(self, **values: Any) -> Any:
        """The first row as a model, or None; for a query that selects whole rows of one table without foreign keys."""
        row = self.row(**values)
        if row is None:
            return None
        names, booleans = self._fields
        found = self._model(__no_default__=True)
        data = found.__data__  # set as one: attribute by attribute takes longer than the query
        data.update(zip(names, row, strict=True))
        for name in booleans:
            data[name] = bool(data[name])
        return found
