"""The API with which admins look at the canonical document and its history, and roll it back."""

from bottle import Bottle, HTTPResponse, request

from cdxsync.api import access, bodies, envelope, params
from cdxsync.auth import canonical, history
from cdxsync.store.fleet import Fleet


def mount(app: Bottle, fleet: Fleet) -> None:
    """Add the routes to `app`."""

    @app.get("/admin/auth")
    def show() -> HTTPResponse:
        wanted = params.switch("include_body") and request.method != "HEAD"
        return envelope.answer(canonical.describe(fleet, include_body=wanted, actor=access.actor()))

    @app.get("/admin/auth/history")
    def list_history() -> HTTPResponse:
        return envelope.answer(history.listing(params.limit(history.MAX_LIMIT), before=params.cursor()))

    @app.get("/admin/auth/diff")
    def show_diff() -> HTTPResponse:
        return envelope.answer(history.diff(fleet, params.number("from"), params.number("to")))

    @app.post("/admin/auth/rollback")
    def roll_back() -> HTTPResponse:
        body = bodies.body_object(fleet.settings.max_body_bytes)
        payload_id = history.read_reference(body.get("id"), "id")
        return envelope.answer(history.rollback(fleet, payload_id, actor=access.actor()))
