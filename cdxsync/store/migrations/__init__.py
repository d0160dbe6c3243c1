"""Numbered schema migrations, each run once, in order, in its own transaction.

A migration is a module `mNNNN_subject` with `STATEMENTS`: SQL in which `{...}` stands for what differs between
engines, and, where SQL is not enough, `fill(execute)` that runs after them. Once released it never changes; a later
one mends it.
"""

import importlib
import pkgutil
from collections.abc import Iterable
from datetime import UTC, datetime
from types import ModuleType

from cdxsync.errors import Failed
from cdxsync.store.database import reachable, write
from cdxsync.store.tables import proxy

_SQLITE = {"id": "INTEGER NOT NULL PRIMARY KEY", "bigint": "BIGINT", "bool": "INTEGER", "true": "1", "longtext": "TEXT"}
_LEDGER = (
    "CREATE TABLE IF NOT EXISTS schema_migrations (name VARCHAR(191) NOT NULL PRIMARY KEY, applied_at TEXT NOT NULL)"
)


def known() -> list[str]:
    """The names of all migrations of this version, in order."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def is_empty() -> bool:
    """Whether the database has not seen any migration."""
    with reachable():
        return "schema_migrations" not in proxy.get_tables() or not _applied()


def pending() -> list[str]:
    """The migrations that the database has not seen yet.

    Raises `Failed` when the database has seen one that this version does not know: it was used by a newer version.
    """
    with reachable():
        applied = _applied() if "schema_migrations" in proxy.get_tables() else set()
    unknown = sorted(applied - set(known()))
    if unknown:
        raise Failed(f"The database was used by a newer cdxsync (migration {unknown[-1]}); upgrade this one")
    return [name for name in known() if name not in applied]


def migrate() -> list[str]:
    """Run what is pending; safe when several processes do it at once. Returns the names of those that it ran."""
    if not pending():
        return []
    write(lambda: proxy.execute_sql(_LEDGER))
    return [name for name in known() if write(lambda name=name: _apply(name))]  # type: ignore[misc]


def _applied() -> set[str]:
    return {row[0] for row in proxy.execute_sql("SELECT name FROM schema_migrations")}


def _apply(name: str) -> bool:
    if name in _applied():
        return False
    module = importlib.import_module(f"{__name__}.{name}")
    for statement in _statements(module):
        proxy.execute_sql(statement)
    if hasattr(module, "fill"):
        module.fill(proxy.execute_sql)
    applied_at = datetime.now(UTC).isoformat(timespec="seconds")
    proxy.execute_sql("INSERT INTO schema_migrations (name, applied_at) VALUES (?, ?)", (name, applied_at))
    return True


def _statements(module: ModuleType) -> Iterable[str]:
    return [statement.format_map(_SQLITE) for statement in module.STATEMENTS]
