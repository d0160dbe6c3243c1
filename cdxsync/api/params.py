"""Reading what a request carries beside its path: query parameters, and fields of its body (`docs/protocol.md 1.5`)."""

import re

from bottle import request

from cdxsync.api.routes import Parameter
from cdxsync.base.errors import Invalid
from cdxsync.hosts import registry
from cdxsync.store.queries import DEFAULT_LIMIT
from cdxsync.store.tables import Host

BEFORE = Parameter("before", int, "`next_before` of an earlier answer.")
HOST = Parameter("host_id", int, "Only of this host.")
MONTH = Parameter("month", str, "`2026-11`; default: this month (UTC).")
INCLUDE_BODY = Parameter("include_body", str, "`1`, `true`, `yes` or `on`: with the document; that is logged.")
FORCE_ADDRESS = Parameter("force", str, "Anything but 0: from another address than the bound one, too.")
_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,17})")


def limit_of(maximum: int) -> Parameter:
    """The description of `limit`."""
    return Parameter("limit", int, f"Up to {maximum}.")


def limit(maximum: int) -> int:
    """`limit`: how many rows. What is no number, or below 1, counts as absent; more than `maximum` as that."""
    text = request.query.get("limit", "").strip()
    wanted = int(text) if _INTEGER.fullmatch(text) else 0
    return min(wanted, maximum) if wanted >= 1 else DEFAULT_LIMIT


def number(name: str) -> int | None:
    """An id, None when it is not there. Raises `Invalid`."""
    return whole_number(name, 1)


def whole_number(name: str, least: int = 0) -> int | None:
    """A whole number that is an id or stands before the first, None when it is not there. Raises `Invalid`."""
    given = request.query.get(name)
    if given is None:
        return None
    if not _INTEGER.fullmatch(given.strip()) or int(given) < least:
        raise Invalid({name: [f"must be an id: a whole number from {least}"]})
    return int(given)


def cursor() -> int | None:
    """`before`: the id that `next_before` of an earlier answer has given. Raises `Invalid`."""
    return number("before")


def host_filter() -> Host | None:
    """`host_id`: the host whose rows are wanted, None for all. Raises `Invalid`, or `NotFound` for an unknown one."""
    host_id = number("host_id")
    return None if host_id is None else registry.by_id(host_id)


def text(name: str) -> str | None:
    """A query parameter as it came, None when it did not."""
    value: str | None = request.query.get(name)
    return value


def switch(name: str) -> bool:
    """A query parameter that is on for `1 true yes on`, in any case (`docs/protocol.md 1.5`: `include_body`)."""
    return request.query.get(name, "").strip().lower() in ("1", "true", "yes", "on")


def flag(name: str) -> bool:
    """A query parameter that is on when it is present and not exactly `0` (`docs/protocol.md 1.5`: `force`)."""
    value: str = request.query.get(name, "0")
    return value != "0"
