"""The tables of an export, in order, and the values that each column accepts."""

from collections.abc import Iterator
from typing import Any

import peewee

from cdxsync.store import migrations
from cdxsync.store.tables import insertion_order

BATCH = 500
"""Rows read together."""
_INT64 = 2**63


def version() -> str:
    """The schema of this version: its last migration."""
    return migrations.known()[-1]


def tables() -> list[Any]:
    """All tables; rows refer only to rows of earlier tables."""
    return list(insertion_order())


def name_of(table: Any) -> str:
    """A table's name in the database."""
    return str(table._meta.table_name)


def automatic_ids() -> list[tuple[str, str]]:
    """The tables with automatic ids, each with the column of its id."""
    keys = ((table, table._meta.primary_key) for table in tables())
    return [(name_of(table), key.column_name) for table, key in keys if isinstance(key, peewee.AutoField)]


def rows(table: Any) -> Iterator[dict[str, Any]]:
    """The rows of a table by primary key, a batch in memory at a time."""
    fields = table._meta.sorted_fields
    names = [field.column_name for field in fields]
    key = table._meta.primary_key
    place = names.index(key.column_name)
    if isinstance(key, peewee.CharField):
        # Engines sort texts differently. These tables have few rows.
        for row in sorted(table.select(*fields).tuples(), key=lambda row: str(row[place])):
            yield dict(zip(names, row, strict=True))
        return
    last = None
    while True:
        query = table.select(*fields).order_by(key).limit(BATCH)
        batch = list((query if last is None else query.where(key > last)).tuples())
        for row in batch:
            yield dict(zip(names, row, strict=True))
        if len(batch) < BATCH:
            return
        last = batch[-1][place]


def problem(table: Any, row: dict[str, Any]) -> str | None:
    """Why `row` cannot be one of `table`; None if it can."""
    fields = {field.column_name: field for field in table._meta.sorted_fields}
    if row.keys() != fields.keys():
        wrong = sorted(row.keys() ^ fields.keys())
        return f"{name_of(table)} has other columns than this version: {', '.join(wrong)}"
    for name, field in fields.items():
        text = _value_problem(field, row[name])
        if text:
            return f"{name_of(table)}.{name} {text}"
    return None


def _value_problem(field: Any, value: object) -> str | None:
    if value is None:
        return None if field.null else "must not be null"
    kind = field.rel_field if isinstance(field, peewee.ForeignKeyField) else field
    if isinstance(kind, peewee.BooleanField):
        return None if isinstance(value, bool) else "must be true or false"
    if isinstance(kind, peewee.IntegerField):
        good = isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < _INT64
        return None if good else "must be a whole number"
    if not isinstance(value, str):
        return "must be a text"
    longest = kind.max_length if isinstance(kind, peewee.CharField) else None
    return f"has more than {longest} characters" if longest is not None and len(value) > longest else None
