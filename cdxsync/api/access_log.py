"""The access log: a line on standard error for each request. Nothing in it is secret, and no query is in it."""

import re
from functools import lru_cache
from urllib.parse import quote

import msgspec

from cdxsync.base import clock, logs

_MAX_PATH = 200
_LEFT_OUT = "…"
_SECRET = re.compile(r"(?:cdx_)?[0-9A-Fa-f]{64}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def public_path(path: str) -> str:
    """A path for logs: without installers' tokens, which are secrets while they live, and what looks like a key."""
    return f"/install/{_LEFT_OUT}" if path.startswith("/install/") else _SECRET.sub(_LEFT_OUT, path)[:_MAX_PATH]


@lru_cache(maxsize=1024)
def _quoted_path(public: str) -> str:
    return quote(public, safe="/:@").replace(quote(_LEFT_OUT), _LEFT_OUT)


@lru_cache(maxsize=1024)
def _quoted_actor(actor: str) -> str:
    return quote(actor, safe=":/=#@,")


class Entry(msgspec.Struct):
    """What is told of a request. `bytes` are those of the answer's body; `actor` is None for who has proved nothing."""

    time: str
    request_id: str
    client: str
    actor: str | None
    method: str
    path: str
    status: int
    bytes: int
    duration_ms: float


class AccessLog:
    """Off, `plain` (time, client, actor or -, method, path, status, bytes, milliseconds, id) or `json` (an `Entry`)."""

    def __init__(self, form: str) -> None:
        self.is_on = form != "off"
        self._as_json = form == "json"

    def write(
        self,
        *,
        request_id: str,
        client: str,
        actor: str | None,
        method: str,
        path: str,
        status: int,
        size: int,
        seconds: float,
    ) -> None:
        """Add a line."""
        if not self.is_on:
            return
        at, took = clock.now().isoformat(timespec="milliseconds"), round(seconds * 1000, 2)
        if self._as_json:
            entry = Entry(at, request_id, client, actor, method, public_path(path), status, size, took)
            logs.put(msgspec.json.encode(entry) + b"\n")
            return
        # Quoted, a path or a subject has no blank or line end, so the fields stay apart.
        who = _quoted_actor(actor) if actor else "-"
        line = f"{at} {client} {who} {method} {_quoted_path(public_path(path))} {status} {size} {took}ms {request_id}\n"
        logs.put(line.encode())
