"""`/admin/auth`: the canonical document, uploading one, its history, and rolling it back."""

from bottle import request

from cdxsync.api import access, bodies, params
from cdxsync.api.routes import Caller, Context, Group, Parameter, Routes
from cdxsync.auth import exchange, history
from cdxsync.auth.schemas import (
    AuthAnswer,
    CanonicalShown,
    LoginRevoked,
    PayloadDiff,
    PayloadPage,
    RollbackBody,
    RolledBack,
    UploadBody,
)
from cdxsync.background import revoking
from cdxsync.hosts import registry

ROUTES = Routes(Group.CREDENTIALS, Caller.ADMIN)


@ROUTES.get("/admin/auth", "The canonical document", query=(params.INCLUDE_BODY,), errors=(404,))
def show(context: Context) -> CanonicalShown:
    """What the canonical document is, and its content where that is asked for."""
    wanted = params.switch("include_body") and request.method != "HEAD"
    return history.show(context.fleet, include_body=wanted, actor=access.actor())


@ROUTES.post(
    "/admin/auth/upload", "Store a document, as JSON or as a form with `file`", body=UploadBody, errors=(404, 422)
)
def upload(context: Context) -> AuthAnswer:
    """Store a document for the fleet, or in the name of a host."""
    body = UploadBody.read(bodies.body_or_form(context.body_limit))
    host = registry.by_id(body.host_id) if isinstance(body.host_id, int) else None
    return exchange.upload(context.fleet, body.auth, host=host, actor=access.actor(), force=body.force)


@ROUTES.get(
    "/admin/auth/history",
    "The documents that are kept, the newest first",
    query=(params.limit_of(history.MAX_LIMIT), params.BEFORE),
    errors=(422,),
)
def list_history(context: Context) -> PayloadPage:
    """The kept documents, page by page."""
    return history.list_payloads(params.limit(history.MAX_LIMIT), before=params.cursor())


@ROUTES.get(
    "/admin/auth/diff",
    "Which keys differ between two documents; no values",
    query=(
        Parameter("from", int, "Default: the document stored before that of `to`."),
        Parameter("to", int, "Default: the canonical document."),
    ),
    errors=(404, 422),
)
def diff(context: Context) -> PayloadDiff:
    """Which keys differ."""
    return history.diff(context.fleet, params.number("from"), params.number("to"))


@ROUTES.post("/admin/auth/revoke", "End the fleet's login at the provider", errors=(404, 409))
def revoke(context: Context) -> LoginRevoked:
    """Revoke the canonical login. All hosts need a new login then."""
    return revoking.revoke(context.fleet, actor=access.actor())


@ROUTES.post(
    "/admin/auth/rollback", "Make an older document canonical again", body=RollbackBody, errors=(404, 409, 422)
)
def roll_back(context: Context) -> RolledBack:
    """Make a kept document canonical again."""
    wanted = RollbackBody.read(context.body()).id
    payload_id = wanted if isinstance(wanted, int) else None
    return history.rollback(context.fleet, payload_id, actor=access.actor())
