"""Values that nearly all write work reads and that little of it changes."""

from collections.abc import Callable
from typing import Generic, TypeVar

from cdxsync.store import database

Value = TypeVar("Value")


class Standing(Generic[Value]):
    """What `read` gives, read again only when it may have changed; outside of write work, each time.

    Write work alone is sure to notice a change: SQLite tells the writer's connection that others have written, and
    who writes such values in this process says so (`database.outdate`).
    """

    def __init__(self, read: Callable[[], Value]) -> None:
        self._read = read
        self._kept: tuple[object, Value] | None = None

    def get(self) -> Value:
        """The value."""
        generation = database.generation()
        if generation is None:
            return self._read()
        kept = self._kept
        if kept is not None and kept[0] == generation:
            return kept[1]
        value = self._read()
        self._kept = (generation, value)
        return value
