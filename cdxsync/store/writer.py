"""The one thread of a process that writes: concurrent writes of many threads share a commit.

A commit waits for the disk, and SQLite has one writer at a time. So all write work of a process goes through one queue,
in order. Its thread runs what is queued in one transaction, each item in a savepoint of its own, commits, and only then
lets the waiting threads go on: a request is answered after the commit that holds what it wrote.
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
"""After this time a batch takes no more items, so that quick work waits only for the slow work ahead of it."""
GATHER_SECONDS = 0.005
"""How long a batch waits at most for the threads that shared the last one."""
_GATHER_STEP_SECONDS = 0.001
_UNKNOWN = -2
"""The mark of an unused connection: the next one differs from it."""
_STOP_SECONDS = 10.0
_LOOK_SECONDS = 5.0
_log = logging.getLogger("cdxsync.store")


class _Item:
    """An item of work; the lock `go` is held until its thread may go on."""

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
        self._after_commit: list[Callable[[], None]] = []
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
                    "The writer thread ended; the change may not be saved. Restart the server",
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
        """Begin another generation, within write work: earlier readings may be stale."""
        self.generation = {}

    def after_commit(self, told: Callable[[], None]) -> None:
        """Have `told` called when the work that asks for it is committed. It is quick, and never raises."""
        self._after_commit.append(told)

    def is_alive(self) -> bool:
        """Whether it accepts work."""
        return not self._stopping and self._thread.is_alive()

    def stop(self) -> None:
        """Accept no more work, finish the queue, and close the connection."""
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
                # The batch was rolled back, or its commit is unknown.
                if not isinstance(error, (DatabaseAway, *driver_errors.known)):
                    _log.exception("internal error of the writer, which goes on")
                self._disconnect()
                self._fail(batch, error)
            else:
                self._expected = len(batch)
                _committed(len(batch))
                for told in self._after_commit:
                    told()
            self._after_commit = []
            for item in batch:
                item.go.release()
        late = self._queued()
        self._fail(late, DatabaseAway("The server is stopping"))
        for item in late:
            item.go.release()
        self._disconnect()

    def _gather(self) -> None:
        """Wait a moment for the threads that shared the last batch: a commit costs the same for all.

        It also lets them reach their next write undisturbed. The interpreter runs one thread at a time, and SQLite
        releases it at every step: beside busy threads, each step would cost the writer a thread switch.
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
        """Run the first item of `batch` and what else is queued, which is added to it, in one transaction.

        Raises when nothing was committed.
        """
        try:
            connection = self._begin(batch[0].since + BUSY_TIMEOUT_SECONDS)
        except BaseException:
            batch += self._queued()  # they wait for the same lock, or for the same file
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
            self._queue.put(None)  # the end of the queue
        return item

    def _queued(self) -> list[_Item]:
        return list(iter(self._next, None))

    def _fail(self, items: list[_Item], error: BaseException) -> None:
        """Fail the items that have not failed on their own."""
        failure = error if isinstance(error, DatabaseAway) else driver_errors.database_away(error)
        for item in items:
            item.error = item.error or DatabaseAway(failure.message, code=failure.code)

    def _begin(self, until: float) -> Any:
        """Begin a transaction that excludes the writes of other processes; wait for theirs until the time `until`."""
        connection = self._engine.connect_writer(self.database)
        mark = self._engine.begin(connection, until)
        if mark != self._mark + self._engine.step:  # others have written
            self.outdate()
        self._mark = mark
        return connection

    def _perform(self, item: _Item, connection: Any) -> None:
        """Run one item; an exception rolls back only its own changes. Raises when the whole transaction is lost."""
        connection.execute("SAVEPOINT item")
        asked = len(self._after_commit)
        try:
            with driver_errors.translated():
                item.result = item.work()
        except BaseException as error:
            item.error = error
            if not self._engine.has_transaction(connection):
                raise
            connection.execute("ROLLBACK TO item")
            del self._after_commit[asked:]
            self.outdate()
        connection.execute("RELEASE SAVEPOINT item")

    def _disconnect(self) -> None:
        """Close the connection, and with it an open transaction; the next batch makes a new one."""
        self.outdate()
        self._mark = _UNKNOWN
        try:
            if not self.database.is_closed():
                self.database.close()
        except driver_errors.known as error:
            _log.error("closing the writer's connection: %s", error)


def _committed(size: int) -> None:
    """Count a committed batch of `size` items. Never raises: the thread must go on."""
    try:
        metrics.commits.inc()
        metrics.batch_size.observe(size)
    except Exception:
        _log.exception("counting a commit failed")
