"""The one thread of a process that writes: what many threads want written at once shares a commit.

A commit costs a wait for the disk, and SQLite has one writer at a time. So all write work of a process goes through one
queue, in order. Its thread runs what has come in one transaction, each in a savepoint of its own, commits, and only
then lets those who wait go on: a request is answered after the commit that holds what it wrote.
"""

import contextvars
import functools
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import peewee

from cdxsync.base import metrics
from cdxsync.base.errors import DatabaseAway
from cdxsync.store import driver_errors
from cdxsync.store.engines.base import BUSY_TIMEOUT_SECONDS, Engine

Result = TypeVar("Result")

BATCH_SECONDS = 0.02
"""After this long a batch takes in no more, so that quick work waits for slow work ahead of it, and for no more."""
GATHER_SECONDS = 0.005
"""How long a batch waits at most for those who shared the last one to come again."""
_GATHER_STEP_SECONDS = 0.001
_UNKNOWN = -2
"""The mark of a connection that has not been used: what it is told next is news."""
_STOP_SECONDS = 10.0
_LOOK_SECONDS = 5.0
_log = logging.getLogger("cdxsync.store")


class _Item:
    """Work that waits, and then is done or has failed; the lock `go` is held until its thread may go on."""

    __slots__ = ("error", "go", "result", "since", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work: Callable[[], Any] = functools.partial(
            contextvars.copy_context().run, work
        )  # with the scope of the database, and the request that audit rows name
        self.result: Any = None
        self.error: BaseException | None = None
        self.since = time.monotonic()
        self.go = threading.Lock()
        self.go.acquire()


class Writer:
    """The queue and the thread; `database` is used in that thread through a connection of its own."""

    def __init__(self, engine: Engine, database: peewee.Database) -> None:
        self._engine = engine
        self.database = database
        self.generation: dict[Any, Any] = {}
        """What work has read (`GenerationCache`), empty again whenever something of it may have changed."""
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._expected = 1
        self._stopping = False
        self._mark = _UNKNOWN
        self._thread = threading.Thread(target=self._serve, name="writer", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[], Result]) -> Result:
        """Run `work` in the writer's thread; returns or raises what it does, after the commit."""
        if self.is_current():
            raise RuntimeError("a write within a write would wait for itself")
        item = _Item(work)
        self._queue.put(item)
        while not item.go.acquire(timeout=_LOOK_SECONDS):
            if not self._thread.is_alive():
                raise DatabaseAway(
                    "The thread that writes has ended; look whether this was written, and start the server again",
                    code="commit_unknown",
                )
        if item.error is not None:
            raise item.error
        result: Result = item.result
        return result

    def is_current(self) -> bool:
        """Whether the caller is write work."""
        return threading.get_ident() == self._thread.ident

    def outdate(self) -> None:
        """Begin another generation, within write work: what was read before may have changed."""
        self.generation = {}

    def is_alive(self) -> bool:
        """Whether it takes work."""
        return not self._stopping and self._thread.is_alive()

    def stop(self) -> None:
        """Take no more work, finish what is queued, and close the connection."""
        self._stopping = True
        self._queue.put(None)
        self._thread.join(_STOP_SECONDS)

    def _serve(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            try:
                self._gather()
                self._write(batch)
            except BaseException as error:
                # Nothing of the batch is kept, or nobody knows.
                if not isinstance(error, (DatabaseAway, *driver_errors.known)):
                    _log.exception("the writer goes on after a failure of its own")
                self._disconnect()
                self._fail(batch, error)
            else:
                self._expected = len(batch)
                _committed(len(batch))
            for item in batch:
                item.go.release()
        late = self._queued()
        self._fail(late, DatabaseAway("The server is stopping"))
        for item in late:
            item.go.release()
        self._disconnect()

    def _gather(self) -> None:
        """Wait a moment for those who shared the last batch, while they come: a commit costs the same for all.

        It also lets them get to their next write undisturbed. The interpreter runs one thread at a time, and SQLite
        lets go of it at every step: beside threads that are busy, each step would cost the writer a change of threads.
        """
        end = time.monotonic() + GATHER_SECONDS
        seen, steps_since = 0, 0
        while (here := self._queue.qsize() + 1) < self._expected and time.monotonic() < end:
            steps_since = 0 if here != seen else steps_since + 1
            if steps_since > 1:
                return
            seen = here
            time.sleep(_GATHER_STEP_SECONDS)

    def _write(self, batch: list[_Item]) -> None:
        """Run the first item of `batch` and what else has come, which is added to it, in one transaction.

        Raises when nothing was committed.
        """
        try:
            connection = self._begin(batch[0].since + BUSY_TIMEOUT_SECONDS)
        except BaseException:
            batch += self._queued()  # they wait behind the same lock, or for the same file
            raise
        end = time.monotonic() + BATCH_SECONDS
        self._perform(batch[0], connection)
        while time.monotonic() < end and (item := self._next()) is not None:
            batch.append(item)
            self._perform(item, connection)
        self._engine.commit(connection)

    def _next(self) -> _Item | None:
        try:
            item = self._queue.get_nowait()
        except queue.Empty:
            return None
        if item is None:
            self._queue.put(None)  # the end, which comes after all that is queued
        return item

    def _queued(self) -> list[_Item]:
        return list(iter(self._next, None))

    def _fail(self, items: list[_Item], error: BaseException) -> None:
        """Tell those who have not failed by themselves."""
        failure = error if isinstance(error, DatabaseAway) else driver_errors.database_away(error)
        for item in items:
            item.error = item.error or DatabaseAway(failure.message, code=failure.code)

    def _begin(self, until: float) -> Any:
        """Begin a transaction that no other process can write beside; wait for theirs until the time `until`."""
        connection = self._engine.connect_writer(self.database)
        mark = self._engine.begin(connection, until)
        if mark != self._mark + self._engine.step:  # others have written
            self.outdate()
        self._mark = mark
        return connection

    def _perform(self, item: _Item, connection: Any) -> None:
        """Run one item; what it raises undoes its own changes only. Raises when the whole transaction has gone."""
        connection.execute("SAVEPOINT item")
        try:
            with driver_errors.translated():
                item.result = item.work()
        except BaseException as error:
            item.error = error
            if not self._engine.has_transaction(connection):
                raise
            connection.execute("ROLLBACK TO item")
            self.outdate()
        connection.execute("RELEASE SAVEPOINT item")

    def _disconnect(self) -> None:
        """Give up the connection, and with it a transaction that may be open; the next batch makes a new one."""
        self.outdate()
        self._mark = _UNKNOWN
        try:
            if not self.database.is_closed():
                self.database.close()
        except driver_errors.known as error:
            _log.error("closing the writer's connection: %s", error)


def _committed(size: int) -> None:
    """Count a batch of `size` works that has been committed. Never raises: this thread must not end by it."""
    try:
        metrics.commits.inc()
        metrics.batch_size.observe(size)
    except Exception:
        _log.exception("a commit could not be counted")
