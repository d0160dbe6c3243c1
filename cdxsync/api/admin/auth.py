"""`/admin/auth`: the canonical document, uploading one, its history, and rolling it back."""

from typing import Any

from bottle import request

from cdxsync.api import access, bodies, params
from cdxsync.api.routes import Caller, Context, Group, Parameter, Routes
from cdxsync.auth import canonical, exchange, history
from cdxsync.base import jsontext
from cdxsync.base.errors import Invalid, Malformed
from cdxsync.hosts import registry
from cdxsync.store.tables import Host

ROUTES = Routes(Group.CREDENTIALS, Caller.ADMIN)


@ROUTES.get("/admin/auth", "The canonical document", query=(params.INCLUDE_BODY,), errors=(404,))
def show(context: Context) -> dict[str, Any]:
    """What the canonical document is, and its content where that is asked for."""
    wanted = params.switch("include_body") and request.method != "HEAD"
    return canonical.describe(context.fleet, include_body=wanted, actor=access.actor())


@ROUTES.post("/admin/auth/upload", "Store a document, as JSON or as a form with `file`", errors=(404, 422))
def upload(context: Context) -> dict[str, Any]:
    """Store a document for the fleet, or in the name of a host."""
    body = bodies.body_or_form(context.body_limit)
    document = body.get("auth")
    if isinstance(document, str):
        document = _decode_text(document)
    host, force = _named_host(body.get("host_id")), params.boolean(body, "force", default=False)
    return exchange.upload(context.fleet, document, host=host, actor=access.actor(), force=force)


@ROUTES.get(
    "/admin/auth/history",
    "The documents that are kept, the newest first",
    query=(params.limit_of(history.MAX_LIMIT), params.BEFORE),
    errors=(422,),
)
def list_history(context: Context) -> dict[str, Any]:
    """The kept documents, page by page."""
    return history.listing(params.limit(history.MAX_LIMIT), before=params.cursor())


@ROUTES.get(
    "/admin/auth/diff",
    "Which keys differ between two documents; no values",
    query=(
        Parameter("from", int, "Default: the document stored before that of `to`."),
        Parameter("to", int, "Default: the canonical document."),
    ),
    errors=(404, 422),
)
def diff(context: Context) -> dict[str, Any]:
    """Which keys differ."""
    return history.diff(context.fleet, params.number("from"), params.number("to"))


@ROUTES.post("/admin/auth/rollback", "Make an older document canonical again", errors=(404, 409, 422))
def roll_back(context: Context) -> dict[str, Any]:
    """Make a kept document canonical again."""
    payload_id = history.read_reference(context.body().get("id"), "id")
    return history.rollback(context.fleet, payload_id, actor=access.actor())


def _decode_text(text: str) -> Any:
    try:
        return jsontext.decode(text.encode())
    except Malformed as error:
        raise Invalid({"auth": [f"is {error.message}"]}) from None


def _named_host(value: object) -> Host | None:
    """The host of an upload; null, "", "system" and 0 mean the whole fleet (`docs/protocol.md 11.5`)."""
    if value in (None, "", "system", 0, "0") and not isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Invalid({"host_id": ['must be a host\'s id, or "system"']})
    return registry.by_id(value)
