"""Private database servers to measure on: those of the tests, waiting for the disk as in earnest."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import benchmarks
from tests.support import database_servers

if TYPE_CHECKING:
    from tests.support.database_servers import DatabaseServer


@contextlib.contextmanager
def running(kind: "type[DatabaseServer]") -> "Iterator[DatabaseServer]":
    """A database server in a folder that goes at the end. Raises `benchmarks.Missing`."""
    try:
        server = kind(durable=True)
    except database_servers.NotInstalled as missing:
        raise benchmarks.Missing(str(missing)) from None
    try:
        yield server
    finally:
        server.stop()


def postgres() -> "contextlib.AbstractContextManager[DatabaseServer]":
    """PostgreSQL."""
    return running(database_servers.Postgres)


def mariadb() -> "contextlib.AbstractContextManager[DatabaseServer]":
    """MariaDB."""
    return running(database_servers.MariaDb)
