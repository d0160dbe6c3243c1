"""`/oauth/token` and `/oauth/revoke`: the fleet's token endpoint, in the shapes that Codex calls and understands.

The host's grant, which it has for its refresh token, is the credential. Errors have OpenAI's member `error` beside
those of this API. Codex takes 401 as final, and tries again on every other error.
"""

from typing import Any

from bottle import HTTPResponse, request

from cdxsync.api import envelope
from cdxsync.api.observing import REQUEST_ID
from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.api.schemas import ProviderError
from cdxsync.auth import giving, grants, rotation
from cdxsync.auth.giving import Answer
from cdxsync.auth.login import Step, message_of
from cdxsync.auth.token_schemas import RevokeBody, Revoked, TokenAnswer, TokenBody
from cdxsync.background import refresh_waits
from cdxsync.base.errors import CdxsyncError, Invalid, Refused, TooManyRequests, Unauthenticated, Unavailable
from cdxsync.hosts import admission
from cdxsync.store import audit
from cdxsync.store.database import write

ROUTES = Routes(Group.HOSTS, Caller.ANYONE)
ENDED = "refresh_token_invalidated"
"""The code that makes Codex say that the login has ended."""


@ROUTES.post(
    "/oauth/token",
    "Fetch a fresh access token for a grant",
    body=TokenBody,
    answer=TokenAnswer,
    bare=True,
    errors=(401, 429, 422),
)
def token(context: Context) -> HTTPResponse:
    """Answers Codex's refresh with the canonical access token, once that is fresh."""
    try:
        return envelope.bare(_token(context, context.small_body()))
    except CdxsyncError as error:
        return _failure(error)


def _token(context: Context, body: dict[str, Any]) -> TokenAnswer:
    if body.get("grant_type") not in (None, "refresh_token"):
        raise Invalid({"grant_type": ["must be refresh_token"]})
    grant, reason = _text(body.get("refresh_token")), _text(body.get("refresh_reason"))
    caller = context.hosts.admit_grant(grant)
    answer = _ask(context, caller, grant, reason, waited=False)
    if answer.step is Step.REFRESH:
        cause = rotation.REFUSED if reason == giving.REFUSED else rotation.EXPIRING
        context.refreshes.wait(context.fleet, cause, answer.payload_id)
        answer = _ask(context, caller, grant, reason, waited=True)
    if answer.tokens is not None:
        context.repeats.count(caller.id, answer.payload_id)
        return answer.tokens
    if answer.dead is not None:
        raise Unauthenticated(message_of(answer.dead), code="login_dead")
    raise Unavailable(
        "The fleet's access token has expired, and cannot be refreshed now; the server tries again",
        code="refresh_pending",
    )


def _ask(context: Context, caller: admission.Caller, grant: str, reason: str, *, waited: bool) -> Answer:
    try:
        return write(lambda: giving.answer(context.fleet, caller, grant, reason, waited=waited))
    except admission.RowChanged as changed:
        raise changed.answer from None


@ROUTES.post(
    "/oauth/revoke",
    "Note that a host has logged out; ends nothing of the provider's",
    body=RevokeBody,
    answer=Revoked,
    bare=True,
    errors=(401, 429),
)
def revoke(context: Context) -> HTTPResponse:
    """Takes what Codex sends when it logs out. No token ends: the login is the fleet's."""
    try:
        given = _text(context.small_body().get("token"))
        if grants.is_grant(given):
            caller = context.hosts.admit_grant(given)
            audit.note("oauth.revoke", actor=audit.host_actor(caller), fqdn=caller.fqdn)
        else:
            context.guard.refused("A token that is no grant was to be revoked; it was not", None)
        return envelope.bare(Revoked())
    except CdxsyncError as error:
        return _failure(error)


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _failure(error: CdxsyncError) -> HTTPResponse:
    """The error with Codex's member; what refuses the host is 401 here, as Codex tries everything else again."""
    final = isinstance(error, Unauthenticated | Refused)
    response = envelope.failure(
        401 if final else error.http_status,
        error.code,
        error.message,
        request.environ[REQUEST_ID],
        errors=error.errors if isinstance(error, Invalid) else None,
        error=ProviderError(code=ENDED if final else error.code, message=error.message),
    )
    if isinstance(error, TooManyRequests):
        response.set_header("Retry-After", str(error.retry_after))
    elif error.code == "refresh_pending":
        response.set_header("Retry-After", str(refresh_waits.retry_after()))
    elif error.code == "grant_repeated":
        response.set_header("Retry-After", str(int(giving.REPEAT_SECONDS)))
    return response
