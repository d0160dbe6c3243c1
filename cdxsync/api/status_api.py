"""Whether the server lives, is ready, and what it has counted: `/healthz`, `/readyz`, `/metrics`."""

from collections.abc import Callable

from bottle import Bottle, HTTPResponse, request

from cdxsync.api import access, envelope, fleet_metrics
from cdxsync.auth import canonical
from cdxsync.base.errors import CdxsyncError, Unavailable
from cdxsync.security import addresses
from cdxsync.store import away, named_values
from cdxsync.store.database import reachable
from cdxsync.store.fleet import Fleet

_PROBE = b"ready?"


def mount(app: Bottle, fleet: Fleet, gate: access.AdminGate, is_draining: Callable[[], bool]) -> None:
    """Add the routes to `app`. Those of health are open to anyone, and tell nothing but that."""

    @app.get("/healthz")
    def healthz() -> HTTPResponse:
        return envelope.answer({"alive": True})

    @app.get("/readyz")
    def readyz() -> HTTPResponse:
        if is_draining():
            raise Unavailable("The server is stopping")
        check_database()
        check_keyring(fleet)
        return envelope.answer({"ready": True})

    @app.get("/metrics")
    def metrics() -> HTTPResponse:
        client = access.client_address(fleet)
        if not addresses.is_trusted(client, fleet.settings.metrics_allow):
            gate.check_certificate()
        body, content_type = fleet_metrics.exposition(fleet, request.environ.get("HTTP_ACCEPT", ""))
        return HTTPResponse(body, 200, {"Content-Type": content_type, "Cache-Control": "no-store"})


def check_database() -> None:
    """Raise `Unavailable` or `DatabaseAway` when the database cannot be read."""
    try:
        with reachable():
            named_values.get(canonical.POINTER)
    except away.errors as error:  # damaged, or not what this version needs
        raise Unavailable(f"The database cannot be used: {error}") from error


def check_keyring(fleet: Fleet) -> None:
    """Raise `Unavailable` when the keyring does not seal and open."""
    try:
        opened = fleet.keyring.open(fleet.keyring.seal(_PROBE, "readiness"), "readiness")
    except CdxsyncError:
        opened = b""
    if opened != _PROBE:
        raise Unavailable("The keyring cannot be used; on the server, see: cdxsync doctor")
