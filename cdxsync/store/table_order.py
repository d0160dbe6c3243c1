"""Every table, in an order in which rows can be put in."""

import peewee

from cdxsync.store.tables import Counters, Table


def every() -> list[type[Table]]:
    """All tables; rows refer to rows of tables that come earlier only."""
    models = [model for base in (Table, Counters) for model in base.__subclasses__() if model is not Counters]
    return list(peewee.sort_models(models))  # type: ignore[attr-defined]
