"""The bases of all tables: of those whose rows give rights, which `store.rights` alone writes, and of the rest."""

from typing import Any, ClassVar

from peewee import Field, Model

from cdxsync.store.scope import ScopedDatabase

proxy = ScopedDatabase()
"""Stands for the database of the scope."""


class Table(Model):
    """Base of all tables."""

    class Meta:
        database = proxy
        legacy_table_names = False


class Guarded(Table):
    """Base of the tables whose rows give rights. Each has a column `mac` over its id and the columns in `RIGHTS`.

    What the database cascades, such as a host that goes, never changes one of these.
    """

    RIGHTS: ClassVar[tuple[str, ...]] = ()
    """The names of the columns that decide who may do what, or what hosts get."""

    @classmethod
    def update(cls, *given: Any, **changes: Any) -> Any:
        """An UPDATE of other columns. Raises `RuntimeError` for those that give rights: `rights.update` writes them."""
        named = {one.name if isinstance(one, Field) else str(one) for data in given for one in data or ()}
        wrong = (named | changes.keys()) & {*cls.RIGHTS, "mac"}
        if wrong:
            raise RuntimeError(f"{cls._meta.table_name}: {', '.join(sorted(wrong))} get a MAC: use store.rights")
        return super().update(*given, **changes)

    @classmethod
    def _refuse(cls, *given: Any, **more: Any) -> Any:
        raise RuntimeError(f"{cls._meta.table_name}: new rows get a MAC: use store.rights")

    insert = insert_many = insert_from = replace = replace_many = _refuse
