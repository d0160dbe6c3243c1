"""The WSGI application: routes, the gate before `/admin/*`, and one place where errors become answers."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from bottle import Bottle, HTTPError, HTTPResponse, request

from cdxsync.api import (
    access,
    admin,
    bodies,
    dashboard,
    envelope,
    health,
    host,
    routes,
)
from cdxsync.api.job_runs import JobRuns
from cdxsync.api.observing import ACTOR, REQUEST_ID, Observed
from cdxsync.auth.giving import Repeats
from cdxsync.background.refresh_waits import RefreshWaits
from cdxsync.base.errors import CdxsyncError, Malformed, code_of_status
from cdxsync.security.revocation import Revocations
from cdxsync.security.throttle import Throttle
from cdxsync.store import rights
from cdxsync.store.driver_errors import translated
from cdxsync.store.fleet import Fleet

_log = logging.getLogger("cdxsync.api")

ROUTES: Sequence[routes.Route] = (*host.ROUTES, *health.ROUTES, *admin.ROUTES)
"""All that is served."""
WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Any]


def assemble(
    fleet: Fleet,
    revocations: Revocations | None,
    is_draining: Callable[[], bool] = lambda: False,
    names: tuple[str, ...] = (),
) -> Bottle:
    """All routes, with the gate before those of admins."""
    app = Bottle()
    app.config["json.enable"] = False
    settings = fleet.settings
    throttle = Throttle(
        settings.home / "throttle.db",
        failures_per_minute=settings.failures_per_minute,
        calls_per_minute=settings.calls_per_minute,
    )
    guard = access.Guard(fleet, throttle)
    gate = access.AdminGate(guard, revocations, names)

    def before_request() -> None:
        try:
            _check_path()
            bodies.refuse_large_body(fleet.settings.max_body_bytes)
            if request.path == "/admin" or request.path.startswith("/admin/"):
                with translated():
                    request.environ[ACTOR] = gate.admit(is_page=dashboard.is_own(request.path))
        except CdxsyncError as error:
            raise dashboard.refusal(error, error.http_status) or _failure_of(error) from None

    app.add_hook("before_request", before_request)
    app.install(_answer_errors)
    app.default_error_handler = _routing_error
    context = routes.Context(
        fleet=fleet,
        guard=guard,
        hosts=access.HostGate(guard),
        admins=gate,
        is_draining=is_draining,
        jobs=JobRuns(settings),
        refreshes=RefreshWaits(settings),
        repeats=Repeats(),
        dashboard=dashboard.read_files(),
    )
    for route in ROUTES:
        routes.mount(app, route, context)
    return app


def _check_path() -> None:
    """Raise `Malformed` for a path that is not UTF-8: Bottle drops what it cannot decode, and finds another route."""
    try:
        request.environ["bottle.raw_path"].encode("latin1").decode()
    except UnicodeDecodeError:
        raise Malformed("The path is not UTF-8") from None


def build(
    fleet: Fleet, revocations: Revocations | None, is_draining: Callable[[], bool], names: tuple[str, ...] = ()
) -> WsgiApp:
    """The application of one server.

    `revocations` is of the CA whose certificates admins show, if any; `names` are those of the server's certificate.
    """
    app = Observed(assemble(fleet, revocations, is_draining, names), fleet.settings)

    def without_trailing_slash(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        environ[dashboard.PATH_AS_SENT] = path = environ.get("PATH_INFO", "")
        environ["PATH_INFO"] = path.rstrip("/") or "/"
        with fleet.database.scope():
            return app(environ, start_response)

    return without_trailing_slash


def _answer_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what a handler raises into the envelope; never a traceback."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            with translated():
                return handler(*args, **kwargs)
        except HTTPResponse:
            raise
        except CdxsyncError as error:
            return _failure_of(error)
        except Exception:
            request_id = request.environ[REQUEST_ID]
            _log.exception("request %s %s failed [%s]", request.method, access.public_path(), request_id)
            return envelope.failure(500, code_of_status(500), "Unexpected error", request_id)
        finally:
            rights.audit_altered()

    return wrapped


def _failure_of(error: CdxsyncError) -> HTTPResponse:
    return envelope.failure_of(error, request.environ[REQUEST_ID])


def _routing_error(error: HTTPError) -> Any:
    """What Bottle itself refuses: no such route, or not with this method (with `Allow`)."""
    messages = {404: "Route not found", 405: "Method not allowed"}
    response = envelope.failure(
        error.status_code,
        code_of_status(error.status_code),
        messages.get(error.status_code, "Unexpected error"),
        request.environ[REQUEST_ID],
    )
    for name, value in response.headers.items():
        error.set_header(name, value)
    return response.body
