"""The kinds of database, a module each: URL, connections, transactions, schema and errors."""

from pathlib import Path

from cdxsync.base.errors import SettingError
from cdxsync.store.engines.base import Engine
from cdxsync.store.engines.sqlite import SqliteEngine

__all__ = ["Engine", "engine_of"]

_POSTGRESQL = ("postgresql", "postgres")
_MYSQL = ("mysql", "mariadb")


def engine_of(url: str, home: Path, pool_size: int = 8) -> Engine:
    """The engine of the setting `database_url`; nothing is opened. `pool_size` is how many connections read.

    Raises `SettingError`, which never holds the URL's password, and `Unavailable` when the driver is not installed.
    """
    scheme = url.partition(":")[0].lower() if ":" in url else ""
    if not url or scheme == "sqlite":
        return SqliteEngine(url, home)
    if scheme in _POSTGRESQL:
        from cdxsync.store.engines.postgres import PostgresEngine

        return PostgresEngine(url, pool_size)
    if scheme in _MYSQL:
        from cdxsync.store.engines.mysql import MysqlEngine

        return MysqlEngine(url, pool_size)
    named = f"{scheme!r} is not a supported database" if scheme.isalnum() else "not a URL"
    raise SettingError(
        f"database_url: {named}; use sqlite:///PATH, postgresql://USER:PASSWORD@HOST:PORT/NAME or"
        " mysql://USER:PASSWORD@HOST:PORT/NAME"
    )
