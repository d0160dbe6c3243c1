"""Connections to a database server: some that threads share for reading, and one apart for the thread that writes."""

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
"""How long a thread waits for a connection that others have."""


class Pooled:
    """Mix-in before a Peewee database: a thread that closes its connection gives it to the next one that connects.

    Peewee has a pool too, but makes and examines connections while it holds a lock that all others need: a server
    that does not answer would hold up each of them in turn.
    """

    _state: Any

    def __init__(self, *args: Any, pool_size: int, **options: Any) -> None:
        self._idle: deque[Any] = deque()
        self._slots = threading.BoundedSemaphore(pool_size)
        self._pool_size = pool_size
        self._apart = threading.local()
        self.liveness = LivenessProbe(self._ask)
        super().__init__(*args, **options)
        # What Peewee guards with its lock is of one thread alone here.
        self._lock: Any = contextlib.nullcontext()

    def connect_apart(self) -> Any:
        """Connect the calling thread beside the pool; returns the driver's connection."""
        self._apart.wanted = True
        self.connect(reuse_if_open=True)  # type: ignore[attr-defined]
        return self._state.conn

    def close_idle(self) -> None:
        """Close the connections that nobody has."""
        with contextlib.suppress(IndexError):
            while True:
                self._close_driver(self._idle.pop())

    def connect_driver(self) -> Any:
        """A new connection of the driver."""
        return super()._connect()  # type: ignore[misc]

    def takes_connections(self) -> bool:
        """Whether the server answers who connects now, be it with a refusal."""
        raise NotImplementedError

    def _ask(self) -> bool:
        found = self.takes_connections()
        if not found:
            self.close_idle()  # else one after the other would be tried, and waited for
        return found

    def is_alive(self, connection: Any) -> bool:
        """Whether an unused connection is still one, as far as this machine knows."""
        raise NotImplementedError

    def is_clean(self, connection: Any) -> bool:
        """Whether a connection can be given to another thread; ends a transaction that it may be in."""
        raise NotImplementedError

    def _connect(self) -> Any:
        if getattr(self._apart, "wanted", False):
            return self.connect_driver()
        if not self._slots.acquire(timeout=WAIT_SECONDS):
            raise DatabaseAway(
                f"The database cannot be used now: all {self._pool_size} connections are in use (database_pool_size)",
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
        with contextlib.suppress(Exception):  # one that was lost
            connection.close()


def is_silent(descriptor: int) -> bool:
    """Whether nothing has come on a connection that nobody uses: its end, or a server's last words."""
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
        with contextlib.suppress(peewee.PeeweeException):  # it ends with the connection too
            database.execute_sql("ROLLBACK")
