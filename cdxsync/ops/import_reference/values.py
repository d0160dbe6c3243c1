"""Readers of a row's values; each raises ValueError with what is wrong, without the value."""

from datetime import UTC, datetime

from cdxsync.base import clock, texts
from cdxsync.ops.import_reference.dump import Row, Value

MAX_ID = 2**31 - 1
"""Ids are INTEGER columns on every engine."""


def whole(row: Row, name: str, low: int = 0, high: int = 2**53 - 1) -> int:
    """A whole number."""
    value = row.values.get(name)
    if isinstance(value, str) and value.strip().isdigit() and len(value) < 19:
        value = int(value)
    if not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} is not a whole number from {low} to {high}")
    return value


def row_id(row: Row, name: str = "id") -> int:
    """An id."""
    return whole(row, name, 1, MAX_ID)


def text(row: Row, name: str) -> str:
    """A text that is not blank."""
    value = row.values.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is missing")
    return value


def optional_text(row: Row, name: str, longest: int | None = None) -> str | None:
    """A text without control characters, cut to `longest` characters, or None for NULL and blanks."""
    value: Value = row.values.get(name)
    cleaned = texts.clean(str(value))[:longest] if value is not None else ""
    return cleaned or None


def stamp(row: Row, name: str) -> str:
    """A date of the reference (ISO 8601; in UTC without an offset) as this server writes dates."""
    value = row.values.get(name)
    try:
        moment = datetime.fromisoformat(str(value).strip())
        return clock.stamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise ValueError(f"{name} is not a date") from None
