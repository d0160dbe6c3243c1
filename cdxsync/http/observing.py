"""What is told of each request: its id, a line in the access log, and counts for `/metrics`."""

import contextlib
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any
from urllib.parse import quote

from bottle import Bottle, HTTPError

from cdxsync import metrics
from cdxsync.domain import audit, clock
from cdxsync.settings import Settings
from cdxsync.trust import addresses

REQUEST_ID = "cdxsync.request_id"
ACTOR = "cdxsync.actor"
"""Who calls, where that is known: `host:NAME`, or the admin's certificate (`http.access`)."""
UNMATCHED = "unmatched"
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECRET = re.compile(r"(?:cdx_)?[0-9A-Fa-f]{64}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_LEFT_OUT = "…"
_MAX_PATH = 200


def public_path(path: str) -> str:
    """A path for logs: without installers' tokens, which are secrets while they live, and what looks like a key."""
    return f"/install/{_LEFT_OUT}" if path.startswith("/install/") else _SECRET.sub(_LEFT_OUT, path)[:_MAX_PATH]


class Observed:
    """A Bottle application whose requests have ids, and are logged and counted."""

    def __init__(self, app: Bottle, settings: Settings) -> None:
        self._app = app
        self._proxies = settings.trusted_proxies
        self._log = AccessLog(settings.access_log)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request (WSGI)."""
        begun = time.perf_counter()
        request_id = environ[REQUEST_ID] = self._id_of(environ)
        status = ""

        def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            nonlocal status
            status = line[:3]
            return start_response(line, [*headers, ("X-Request-ID", request_id)], exc_info)

        token = audit.request_id.set(request_id)
        try:
            body: Iterable[bytes] = self._app(environ, start)
        finally:
            audit.request_id.reset(token)
        seconds = time.perf_counter() - begun
        method = environ["REQUEST_METHOD"]
        route = self._route_of(environ)
        metrics.requests.inc(method if method in _METHODS else "other", route, status)
        metrics.request_seconds.observe(seconds, route)
        self._log.write(
            request_id=request_id,
            client=self._client_of(environ) if self._log.is_on else "",
            actor=environ.get(ACTOR),
            method=method,
            path=environ["PATH_INFO"],
            status=int(status),
            size=sum(map(len, body)) if isinstance(body, list) else 0,
            seconds=seconds,
        )
        return body

    def _id_of(self, environ: dict[str, Any]) -> str:
        given = environ.get("HTTP_X_REQUEST_ID")
        if given and self._proxies and _GIVEN_ID.fullmatch(given):
            peer = addresses.parse(environ["REMOTE_ADDR"])
            if addresses.is_trusted(peer, self._proxies):
                return str(given)
        return secrets.token_hex(8)

    def _client_of(self, environ: dict[str, Any]) -> str:
        forwarded_for = environ.get("HTTP_X_FORWARDED_FOR", "")
        return str(addresses.client_address(environ["REMOTE_ADDR"], forwarded_for, self._proxies))

    def _route_of(self, environ: dict[str, Any]) -> str:
        route = environ.get("bottle.route")
        if route is None:  # refused before it was looked up, or not there
            try:
                route, _ = self._app.router.match(environ)
            except (HTTPError, UnicodeError):
                return UNMATCHED
        return _template(route.rule)


@cache
def _template(rule: str) -> str:
    return re.sub(r"<(\w+)[^>]*>", r"{\1}", rule)


class AccessLog:
    """One line on standard error for each request, written at once, so that processes do not mix theirs.

    `plain`: time, client, actor or -, method, path, status, bytes of the body, milliseconds, request id. `json`: an
    object with the same. Nothing in it is secret, and no query is in it.
    """

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
        """Add a line. `size` is of the answer's body, in bytes."""
        if not self.is_on:
            return
        at, shown, took = clock.now().isoformat(timespec="milliseconds"), public_path(path), round(seconds * 1000, 2)
        if self._as_json:
            entry = {
                "time": at,
                "request_id": request_id,
                "client": client,
                "actor": actor,
                "method": method,
                "path": shown,
                "status": status,
                "bytes": size,
                "duration_ms": took,
            }
            line = json.dumps(entry)
        else:
            # Quoted, a path or a subject has no blank or line end, so the fields stay apart.
            who = quote(actor, safe=":/=#@,") if actor else "-"
            where = quote(shown, safe="/:@").replace(quote(_LEFT_OUT), _LEFT_OUT)
            line = f"{at} {client} {who} {method} {where} {status} {size} {took}ms {request_id}"
        with contextlib.suppress(OSError):  # nobody reads it; requests go on
            os.write(sys.stderr.fileno(), line.encode() + b"\n")
