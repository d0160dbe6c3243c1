"""Numbered schema migrations, each run once, in order.

A migration is a module `mNNNN_subject` with `STATEMENTS`: SQL in which `{...}` stands for what differs between engines,
and, where SQL is not enough, `fill(execute)` that runs after them, or `ENGINE_STEP`, the name of a method of the
engine, which changes how it keeps tables, and neither their columns nor their rows. Once released it never changes; a
later one corrects it. Where the engine can, each runs in a transaction of its own; MySQL cannot undo a change of the
schema, so there each step is recorded, and an interrupted one continues.

From m0007 on a migration also says whether it is `ADDITIVE`: whether programs that do not know it can go on using the
database, so that servers which share it can be upgraded one by one. That is so when it only makes new tables, new
indexes that are not unique, and new columns that may be NULL or have a default, which a test checks; and when what
older programs write stays correct, which its author must ensure. The ledger in the database keeps it. So code names the
columns that it inserts and selects, and never uses `*`.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import peewee

from cdxsync.base.errors import Failed
from cdxsync.store.database import current, write
from cdxsync.store.engines.base import NEXT_TURN
from cdxsync.store.tables import proxy

_TABLE = "schema_migrations"
_LEDGER = (
    f"CREATE TABLE IF NOT EXISTS {_TABLE} (name VARCHAR(191) NOT NULL PRIMARY KEY, applied_at VARCHAR(32) NOT NULL)"
)
_FIRST_WITH_RULE = "m0007"


def known() -> list[str]:
    """The names of all migrations of this version, in order."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def is_empty() -> bool:
    """Whether no migration was applied to the database."""
    return _TABLE not in proxy.get_tables() or not _applied()


def pending() -> list[str]:
    """The migrations that are still to be applied.

    Raises `Failed` when the database has one that this version neither knows nor tolerates.
    """
    applied = _applied() if _TABLE in proxy.get_tables() else set()
    strange = applied - set(known())
    refused = sorted(strange - _additive()) if strange else []
    if refused:
        raise Failed(
            f"The database is of a newer cdxsync, and this one cannot use it (migration {refused[-1]} is"
            " not additive). Upgrade this one",
            code="version_differs",
        )
    return [name for name in known() if name not in applied]


def migrate() -> list[str]:
    """Run the pending ones, of which it returns the names; several processes or servers may do it at the same time.

    Raises `Failed` as `pending` does.
    """
    if not pending():
        return []
    engine = current().engine
    with engine.migrating(current().peewee):
        if engine.transactional_ddl:
            for statement in engine.setup:
                proxy.execute_sql(engine.statement(statement))
            write(lambda: proxy.execute_sql(engine.statement(_LEDGER)))
            return [name for name in known() if write(lambda name=name: _apply(name))]  # type: ignore[misc]
        for statement in (*engine.setup, _LEDGER, _STEPS):
            proxy.execute_sql(engine.statement(statement))
        return [name for name in known() if _apply_in_steps(name)]


def _applied() -> set[str]:
    return {row[0] for row in proxy.execute_sql(f"SELECT name FROM {_TABLE}").fetchall()}  # noqa: S608


def _additive() -> set[str]:
    """The applied migrations that older programs tolerate."""
    if not any(column.name == "additive" for column in proxy.get_columns(_TABLE)):
        return set()
    return {row[0] for row in proxy.execute_sql(f"SELECT name FROM {_TABLE} WHERE additive = 1").fetchall()}  # noqa: S608


def _apply(name: str) -> bool:
    if name in _applied():
        return False
    module = _module(name)
    for statement in _statements(module):
        proxy.execute_sql(statement)
    for step in _steps(module):
        step()
    _note(name, module)
    return True


def _steps(module: ModuleType) -> list[Callable[[], Any]]:
    """What a migration does after its statements."""
    steps: list[Callable[[], Any]] = []
    if hasattr(module, "fill"):
        steps.append(lambda: module.fill(_execute))
    if hasattr(module, "ENGINE_STEP"):
        steps.append(lambda: getattr(current().engine, module.ENGINE_STEP)(current().peewee))
    return steps


_STEPS = (
    "CREATE TABLE IF NOT EXISTS schema_steps"
    " (name VARCHAR(191) NOT NULL, step INTEGER NOT NULL, PRIMARY KEY (name, step))"
)
"""The done steps of an interrupted migration, on engines that cannot undo it."""


def _apply_in_steps(name: str) -> bool:
    """Apply a migration on an engine that commits each change of the schema; others are locked out meanwhile."""
    if name in _applied():
        return False
    module = _module(name)
    steps: list[Callable[[], Any]] = [functools.partial(proxy.execute_sql, sql) for sql in _statements(module)]
    done = {row[0] for row in _execute("SELECT step FROM schema_steps WHERE name = ?", (name,)).fetchall()}
    for number, step in enumerate([*steps, *_steps(module)]):
        if number in done:
            continue
        if number < len(steps) and _changes_schema(module.STATEMENTS[number]):
            try:
                step()
            except peewee.PeeweeException as error:
                if not current().engine.was_done(error):  # an earlier try was killed before it was recorded
                    raise
            _note_step(name, number)
            continue
        with proxy.atomic():
            proxy.execute_sql(NEXT_TURN)
            step()
            _note_step(name, number)
    with proxy.atomic():
        proxy.execute_sql(NEXT_TURN)
        _note(name, module)
        _execute("DELETE FROM schema_steps WHERE name = ?", (name,))
    return True


def _changes_schema(statement: str) -> bool:
    return statement.split(None, 1)[0].upper() in ("CREATE", "ALTER", "DROP")


def _note_step(name: str, number: int) -> None:
    _execute("INSERT INTO schema_steps (name, step) VALUES (?, ?)", (name, number))


def _note(name: str, module: ModuleType) -> None:
    row: dict[str, Any] = {"name": name, "applied_at": datetime.now(UTC).isoformat(timespec="seconds")}
    if name >= _FIRST_WITH_RULE:
        row["additive"] = int(module.ADDITIVE)
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    _execute(f"INSERT INTO {_TABLE} ({names}) VALUES ({marks})", tuple(row.values()))  # noqa: S608


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


def _statements(module: ModuleType) -> Iterable[str]:
    return [current().engine.statement(statement) for statement in module.STATEMENTS]


def _execute(sql: str, parameters: tuple[Any, ...] = ()) -> Any:
    """Run SQL whose parameters are marked with `?`, on every engine."""
    return proxy.execute_sql(sql.replace("?", current().peewee.param), parameters)
