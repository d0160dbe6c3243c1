"""Readers of setting values that are more than texts and whole numbers; `cdxsync.settings` has the others."""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation


def read_seconds(value: object) -> float:
    """A number of seconds from 0.1 to 600."""
    try:
        seconds = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else 0.0
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 600:
        raise ValueError("must be a number of seconds from 0.1 to 600")
    return seconds


def read_price(value: object) -> Decimal:
    """A price: a decimal number from 0 to 1,000,000 with at most 12 digits after the point."""
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
            raise InvalidOperation
        price = Decimal(str(value).strip())
        if not price.is_finite() or not 0 <= price <= 1_000_000 or price != round(price, 12):
            raise InvalidOperation
    except InvalidOperation:
        raise ValueError("must be a price such as 0.00125: not negative, at most 12 digits after the point") from None
    return price


def read_choice(*words: str) -> Callable[[object], str]:
    """A reader of one of `words`."""

    def read(value: object) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return word

    return read
