"""Time: the server's own stamps, and RFC 3339 texts as clients send them."""

import functools
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple

_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
MAX_DATE_LENGTH = 128
"""Of a date as text: it is kept and shown as it came."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OLDEST = datetime(2000, 1, 1, tzinfo=UTC)
"""The earliest date that a document may carry (`docs/protocol.md 3.6`)."""
FUTURE_TOLERANCE_SECONDS = 300
"""How far a document's date may be ahead of the server's clock (`docs/protocol.md 3.6`)."""


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """`moment` as the server writes it: UTC, whole seconds, numeric offset (`docs/protocol.md 1.6`).

    Such texts sort in order of time.
    """
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def read_stamp(text: str) -> datetime:
    """The moment of a text that `stamp` wrote."""
    return datetime.fromisoformat(text)


class Instant(NamedTuple):
    """A point in time in whole microseconds since 1970-01-01T00:00:00Z; further digits are cut."""

    microseconds: int

    @classmethod
    def of(cls, moment: datetime) -> "Instant":
        """The instant of an aware datetime."""
        return cls((moment - _EPOCH) // timedelta(microseconds=1))


def rfc3339(instant: Instant) -> str:
    """An instant as the text of a document's `last_refresh`: UTC, six fraction digits, `Z`."""
    moment = _EPOCH + timedelta(microseconds=instant.microseconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> Instant:
    """The instant of an RFC 3339 date-time with up to about a hundred fraction digits.

    Raises ValueError when `text` is anything else, or names a day or an hour that does not exist.
    """
    if len(text) > MAX_DATE_LENGTH:
        raise ValueError("not an RFC 3339 date-time: it is too long")
    return _parse_rfc3339(text)


@functools.lru_cache(maxsize=1024)
def _parse_rfc3339(text: str) -> Instant:
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 date-time")
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    leap = second == 60  # RFC 3339 allows it; it counts as the second after :59
    zone = UTC
    if match[8]:
        if int(match[9]) > 23 or int(match[10]) > 59:
            raise ValueError("no such offset")
        offset = timedelta(hours=int(match[9]), minutes=int(match[10]))
        zone = timezone(-offset if match[8] == "-" else offset)
    moment = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=zone)
    fraction = int(((match[7] or "") + "000000")[:6])
    return Instant(Instant.of(moment).microseconds + fraction + (1_000_000 if leap else 0))


def check_document_date(text: object, at: datetime) -> Instant:
    """The instant of a document's `last_refresh`, if the server accepts it at the time `at`.

    Raises ValueError with the text for the field: missing, unparsable, before 2000, or more than 300 s ahead
    (`docs/protocol.md 3.6`; whole seconds, both ends inclusive).
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError("is required: an RFC 3339 date-time such as 2026-01-31T12:00:00Z")
    try:
        instant = parse_rfc3339(text)
    except ValueError:
        raise ValueError("must be an RFC 3339 date-time such as 2026-01-31T12:00:00Z") from None
    if instant < Instant.of(OLDEST):
        raise ValueError("is too old: dates before 2000-01-01T00:00:00Z are refused")
    latest = Instant.of(at).microseconds // 1_000_000 + FUTURE_TOLERANCE_SECONDS
    if instant.microseconds // 1_000_000 > latest:
        raise ValueError(
            f"is in the future: more than {FUTURE_TOLERANCE_SECONDS} seconds ahead of the server's clock, {stamp(at)}"
        )
    return instant
