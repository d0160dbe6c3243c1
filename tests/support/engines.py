"""The kinds of database on which tests run: SQLite's files, and the servers of `database_servers`.

A server is made for who needs it first in a test process.
"""

import contextlib
import functools
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest

from tests.support.database_servers import PASSWORD, DatabaseServer, MariaDb, NotInstalled, Postgres

NAMES = ("sqlite", "postgres", "mariadb")


@contextlib.contextmanager
def skipping() -> Iterator[None]:
    """Skip the test when the block needs a program that is not installed."""
    try:
        yield
    except NotInstalled as missing:
        pytest.skip(str(missing))


class Engine:
    """One kind of database; `server` is None for SQLite, which has none."""

    def __init__(self, name: str, server: DatabaseServer | None = None) -> None:
        self.name = name
        self.server = server

    def environment(self) -> dict[str, str]:
        """The settings of a fleet with a fresh database of this kind."""
        return {"CDXSYNC_DATABASE_URL": self.server.fresh()} if self.server is not None else {}


class Servers:
    """The database servers of a test process, each made when first asked for."""

    def __init__(self) -> None:
        self._started: list[DatabaseServer] = []

    @functools.cached_property
    def _postgres(self) -> DatabaseServer:
        return self._keep(Postgres())

    @functools.cached_property
    def _mariadb(self) -> DatabaseServer:
        return self._keep(MariaDb())

    def _keep(self, server: DatabaseServer) -> DatabaseServer:
        self._started.append(server)
        return server

    def engine(self, name: str) -> Engine:
        """The engine of that name, with its server running. Skips when it is not installed."""
        if name == "sqlite":
            return Engine(name)
        with skipping():
            return Engine(name, self._postgres if name == "postgres" else self._mariadb)

    def stop(self) -> None:
        """End those that run."""
        for server in self._started:
            server.stop()


@contextlib.contextmanager
def connected(url: str, home: Path) -> Iterator[Callable[..., Any]]:
    """A function that runs a statement, with `?` for each value, on the database of a home; commits at the end."""
    if not url or url.startswith("sqlite:///"):
        path = home / (url.removeprefix("sqlite:///") or "cdxsync.db")
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as file, file:
            yield lambda statement, *values: file.execute(statement, values)
        return
    parts = urlsplit(url)
    place: dict[str, Any] = {"host": parts.hostname, "port": parts.port, "user": parts.username}
    password, name = unquote(parts.password or ""), parts.path.removeprefix("/")
    connection: Any
    if parts.scheme == "postgresql":
        import psycopg

        connection = psycopg.connect(**place, password=password, dbname=name)
    else:
        import pymysql

        connection = pymysql.connect(**place, password=password, database=name)
    with contextlib.closing(connection):
        cursor = connection.cursor()

        def execute(statement: str, *values: Any) -> Any:
            marked = re.sub(r"\?", "%s", statement.replace("%", "%%")) if values else statement
            cursor.execute(marked, values or None)
            return cursor

        yield execute
        connection.commit()


def has_password(text: str) -> bool:
    """Whether a text gives the password of the database away."""
    return PASSWORD in text or quote(PASSWORD, safe="") in text
