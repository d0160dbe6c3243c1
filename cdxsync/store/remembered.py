"""Values that many requests read and that seldom change: each process reads them once in a while."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from cdxsync.store.tables import proxy

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """What `read` gives, at most `seconds` old; of another database it is read anew."""

    def __init__(self, read: Callable[[], Value], *, seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._lock = threading.Lock()
        self._kept: tuple[object, float, Value] | None = None

    def get(self) -> Value:
        """The value."""
        with self._lock:
            kept = self._kept
        if kept is not None and kept[0] is proxy.obj and time.monotonic() < kept[1]:
            return kept[2]
        until = time.monotonic() + self._seconds
        value = self._read()
        with self._lock:
            self._kept = (proxy.obj, until, value)
        return value

    def forget(self) -> None:
        """Read anew next time."""
        with self._lock:
            self._kept = None
