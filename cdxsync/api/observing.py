"""What every request gets: an id, a line in the access log, and counts for `/metrics`."""

import random
import re
import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from bottle import Bottle, HTTPError

from cdxsync.api.access_log import AccessLog
from cdxsync.base import metrics
from cdxsync.base.settings import Settings
from cdxsync.security import addresses
from cdxsync.store import audit

REQUEST_ID = "cdxsync.request_id"
ACTOR = "cdxsync.actor"
"""Who calls, where that is known: `host:NAME`, or the admin's certificate (`http.access`)."""
UNMATCHED = "unmatched"
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_LOCALHOST = re.compile(r"(?:[^:]*\.)?localhost\.?(?::[0-9]*)?", re.IGNORECASE)
_ONLY_TLS = ("Strict-Transport-Security", "max-age=31536000")


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
            more = [("X-Request-ID", request_id)] + ([_ONLY_TLS] if self._must_stay_tls(environ) else [])
            return start_response(line, [*headers, *more], exc_info)

        client = self._client_of(environ)
        tokens = audit.request_id.set(request_id), audit.client_ip.set(client)
        try:
            body: Iterable[bytes] = self._app(environ, start)
        finally:
            audit.request_id.reset(tokens[0])
            audit.client_ip.reset(tokens[1])
        seconds = time.perf_counter() - begun
        method = environ["REQUEST_METHOD"]
        route = self._route_of(environ)
        metrics.requests.inc(method if method in _METHODS else "other", route, status)
        metrics.request_seconds.observe(seconds, route)
        self._log.write(
            request_id=request_id,
            client=client,
            actor=environ.get(ACTOR),
            method=method,
            path=environ["PATH_INFO"],
            status=int(status),
            size=sum(map(len, body)) if isinstance(body, list) else 0,
            seconds=seconds,
        )
        return body

    def _must_stay_tls(self, environ: dict[str, Any]) -> bool:
        """Whether browsers are to use TLS alone from now on: where TLS ends here, not in a proxy.

        Not by the name localhost, which would take other programs of the admin's own machine along.
        """
        if environ["wsgi.url_scheme"] != "https" or _LOCALHOST.fullmatch(environ.get("HTTP_HOST", "")):
            return False
        return not addresses.is_proxy(environ["REMOTE_ADDR"], self._proxies)

    def _id_of(self, environ: dict[str, Any]) -> str:
        given = environ.get("HTTP_X_REQUEST_ID")
        if given and _GIVEN_ID.fullmatch(given) and addresses.is_proxy(environ["REMOTE_ADDR"], self._proxies):
            return str(given)
        return f"{random.getrandbits(64):016x}"  # no secret, and many times cheaper than one

    def _client_of(self, environ: dict[str, Any]) -> str:
        """Nothing is remembered by that header: whoever sends it chooses how long it is."""
        forwarded_for = environ.get("HTTP_X_FORWARDED_FOR", "") if self._proxies else ""
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
    return re.sub(r"<(\w++)[^<>]*>", r"{\1}", rule)
