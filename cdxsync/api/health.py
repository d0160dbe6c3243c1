"""Whether the server lives, is ready, and what it has counted: `/healthz`, `/readyz`, `/metrics`.

Those of health are open to anyone, and tell nothing but that.
"""

from bottle import HTTPResponse, request

from cdxsync.api import access, fleet_metrics
from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.api.schemas import Alive, Ready
from cdxsync.auth import canonical
from cdxsync.base.errors import CdxsyncError, Unavailable
from cdxsync.security import addresses
from cdxsync.store import driver_errors, named_values
from cdxsync.store.driver_errors import translated
from cdxsync.store.fleet import Fleet

ROUTES = Routes(Group.OPERATION, Caller.ANYONE)
_PROBE = b"ready?"


@ROUTES.get("/healthz", "Whether the process answers")
def healthz(context: Context) -> Alive:
    """It answers."""
    return Alive(alive=True)


@ROUTES.get("/readyz", "Whether database and keyring can be used")
def readyz(context: Context) -> Ready:
    """It can serve. Raises `Unavailable` when it cannot."""
    if context.is_draining():
        raise Unavailable("The server is stopping", code="stopping")
    check_database()
    check_keyring(context.fleet)
    return Ready(ready=True)


@ROUTES.get("/metrics", "Metrics for Prometheus", content="text/plain", caller=Caller.METRICS)
def metrics(context: Context) -> HTTPResponse:
    """All metrics."""
    fleet = context.fleet
    if not addresses.is_trusted(access.client_address(fleet), fleet.settings.metrics_allow):
        context.admins.check_certificate()
    body, content_type = fleet_metrics.exposition(fleet, request.environ.get("HTTP_ACCEPT", ""))
    return HTTPResponse(body, 200, {"Content-Type": content_type, "Cache-Control": "no-store"})


def check_database() -> None:
    """Raise `Unavailable` or `DatabaseAway` when the database cannot be read."""
    try:
        with translated():
            named_values.get(canonical.POINTER)
    except driver_errors.known as error:  # damaged, or not what this version needs
        raise Unavailable(f"The database cannot be used: {error}", code="not_ready") from error


def check_keyring(fleet: Fleet) -> None:
    """Raise `Unavailable` when the keyring does not seal and open."""
    try:
        opened = fleet.keyring.open(fleet.keyring.seal(_PROBE, "readiness"), "readiness")
    except CdxsyncError:
        opened = b""
    if opened != _PROBE:
        raise Unavailable("The keyring cannot be used; on the server, see: cdxsync doctor", code="not_ready")
