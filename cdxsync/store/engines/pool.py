"""Connections to a database server: shared ones for reading, and one for the writer thread."""

import contextlib
import select
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import peewee

from cdxsync.base.errors import DatabaseAway
from cdxsync.store.engines.liveness import LivenessProbe

WAIT_SECONDS = 5.0
"""How long a thread waits for a connection when others have all."""


class Pooled:
    """Mix-in before a Peewee database: a thread that closes its connection gives it to the next one that connects.

    Peewee has a pool too, but makes and examines connections while it holds a lock that all threads need: a server that
    does not answer would block each of them in turn.
    """

    _state: Any

    def __init__(self, *args: Any, pool_size: int, **options: Any) -> None:
        self._idle: deque[Any] = deque()
        self._slots = threading.BoundedSemaphore(pool_size)
        self._pool_size = pool_size
        self._apart = threading.local()
        self.liveness = LivenessProbe(self._ask)
        super().__init__(*args, **options)
        # What Peewee guards with its lock belongs to one thread here.
        self._lock: Any = contextlib.nullcontext()

    def connect_apart(self) -> Any:
        """Connect the calling thread outside of the pool; returns the driver's connection."""
        self._apart.wanted = True
        self.connect(reuse_if_open=True)  # type: ignore[attr-defined]
        return self._state.conn

    def close_idle(self) -> None:
        """Close the idle connections."""
        with contextlib.suppress(IndexError):
            while True:
                self._close_driver(self._idle.pop())

    def connect_driver(self) -> Any:
        """A new connection of the driver."""
        return super()._connect()  # type: ignore[misc]

    def takes_connections(self) -> bool:
        """Whether the server answers a new connection, be it with a refusal."""
        raise NotImplementedError

    def _ask(self) -> bool:
        found = self.takes_connections()
        if not found:
            self.close_idle()  # otherwise one after the other would be tried, and waited for
        return found

    def is_alive(self, connection: Any) -> bool:
        """Whether an idle connection is still open, as far as this machine knows."""
        raise NotImplementedError

    def is_clean(self, connection: Any) -> bool:
        """Whether another thread can have the connection; ends an open transaction."""
        raise NotImplementedError

    def _connect(self) -> Any:
        if getattr(self._apart, "wanted", False):
            return self.connect_driver()
        if not self._slots.acquire(timeout=WAIT_SECONDS):
            raise DatabaseAway(
                f"The database cannot be used now: all {self._pool_size} connections are in use"
                " (setting database_pool_size)",
                code="database_busy",
            )
        try:
            while self._idle:
                with contextlib.suppress(IndexError):
                    connection = self._idle.pop()
                    if self.is_alive(connection):
                        return connection
                    self._close_driver(connection)
            return self.connect_driver()
        except BaseException:
            self._slots.release()
            raise

    def _close(self, connection: Any) -> None:
        if getattr(self._apart, "wanted", False):
            self._close_driver(connection)
            return
        try:
            if self.is_clean(connection):
                self._idle.append(connection)
            else:
                self._close_driver(connection)
        finally:
            self._slots.release()

    def _close_driver(self, connection: Any) -> None:
        with contextlib.suppress(Exception):  # a lost one
            connection.close()


def is_silent(descriptor: int) -> bool:
    """Whether nothing arrived on an idle connection: its end, or a server's last message."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP | select.POLLERR)
    return not poll.poll(0)


@contextlib.contextmanager
def reading_in(database: Any, *begin: str) -> Iterator[None]:
    """Keep this thread's connection, in the transaction that the statements `begin`, and change nothing."""
    for statement in begin:
        database.execute_sql(statement)
    database.push_transaction(None)
    try:
        yield
    finally:
        database.pop_transaction()
        with contextlib.suppress(peewee.PeeweeException):  # the connection's end ends it too
            database.execute_sql("ROLLBACK")
