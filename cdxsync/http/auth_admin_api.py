"""The API with which admins look at the canonical document and its history, and roll it back."""

from bottle import Bottle, HTTPResponse, request

from cdxsync.domain import canonical, history
from cdxsync.domain.fleet import Fleet
from cdxsync.errors import Invalid
from cdxsync.http import access, envelope

DEFAULT_LIMIT = 50


def mount(app: Bottle, fleet: Fleet) -> None:
    """Add the routes to `app`."""

    @app.get("/admin/auth")
    def show() -> HTTPResponse:
        wanted = request.query.get("include_body") in ("1", "true") and request.method != "HEAD"
        return envelope.answer(canonical.describe(fleet, include_body=wanted, actor=_actor()))

    @app.get("/admin/auth/history")
    def list_history() -> HTTPResponse:
        limit = _number("limit", 1)
        limit = DEFAULT_LIMIT if limit is None else min(limit, history.MAX_LIMIT)
        return envelope.answer(history.listing(limit, before=_number("before", 0)))

    @app.get("/admin/auth/diff")
    def show_diff() -> HTTPResponse:
        return envelope.answer(history.diff(fleet, _number("from", 0), _number("to", 0)))

    @app.post("/admin/auth/rollback")
    def roll_back() -> HTTPResponse:
        body = access.body_object(fleet.settings.max_body_bytes)
        payload_id = history.read_reference(body.get("id"), "id")
        return envelope.answer(history.rollback(fleet, payload_id, actor=_actor()))


def _actor() -> str:
    return str(request.environ["cdxsync.actor"])


def _number(name: str, low: int) -> int | None:
    """A whole number of the query, None when it is not there. Raises `Invalid`."""
    text = request.query.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) >= low):
        raise Invalid({name: [f"must be a whole number from {low}"]})
    return int(text)
