"""Values of the database that are cached in memory, per database."""

import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from cdxsync.store.scope import current

if TYPE_CHECKING:
    from cdxsync.store.database import Database

Value = TypeVar("Value")


class TimedCache(Generic[Value]):
    """What `read` gives, at most `seconds` old: for values that many requests read and that rarely change."""

    def __init__(self, read: Callable[[], Value], *, seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._lock = threading.Lock()
        self._kept: weakref.WeakKeyDictionary[Database, tuple[float, Value]] = weakref.WeakKeyDictionary()

    def get(self) -> Value:
        """The value."""
        database = current()
        with self._lock:
            kept = self._kept.get(database)
        if kept is not None and time.monotonic() < kept[0]:
            return kept[1]
        until = time.monotonic() + self._seconds
        value = self._read()
        with self._lock:
            self._kept[database] = (until, value)
        return value

    def forget(self) -> None:
        """Make the next call read again."""
        with self._lock:
            self._kept.pop(current(), None)


class GenerationCache(Generic[Value]):
    """What `read` gives, read again only when it may have changed: for values that almost all write work reads.

    Outside of write work it is read each time: only write work is sure to notice a change. The database tells the
    writer that others have written, and who writes such values in this process says so (`database.outdate`).
    """

    def __init__(self, read: Callable[[], Value]) -> None:
        self._read = read

    def get(self) -> Value:
        """The value."""
        writer = current().writer_here()
        if writer is None:
            return self._read()
        kept = writer.generation
        if self in kept:
            value: Value = kept[self]
            return value
        value = self._read()
        writer.generation[self] = value
        return value
