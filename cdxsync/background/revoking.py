"""Ending the fleet's login at the provider, on an admin's word: what `auth revoke` does at both doors.

It holds the lease of the job `refresh` meanwhile, so that the token that is revoked is the one that is good.
"""

import time

from cdxsync.auth import canonical, login, refresh, rotation
from cdxsync.auth.documents import AuthDocument
from cdxsync.auth.schemas import LoginRevoked
from cdxsync.background import refreshing
from cdxsync.base.errors import Conflict, NotFound, ServiceError, Unavailable
from cdxsync.jobs import lease, scheduler
from cdxsync.services import token_endpoint
from cdxsync.store import audit, database
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet

WAIT_SECONDS = 30.0
"""How long a refresh that is under way is waited for."""
_LEASE_SECONDS = 30.0
_LOOK_SECONDS = 0.1


def revoke(fleet: Fleet, *, actor: str) -> LoginRevoked:
    """Revoke the canonical login at the provider, and mark it dead; unless the provider has done it, nothing changes.

    Raises `NotFound` without a document, `Conflict` for a login without a refresh token, `Unavailable` without a
    `token_url` or while a refresh goes on, `ServiceError` when the provider did not do it.
    """
    check(fleet)
    owner = scheduler.new_owner()
    until = time.monotonic() + WAIT_SECONDS
    while not lease.hold(rotation.JOB, owner, _LEASE_SECONDS):
        if time.monotonic() > until:
            raise Unavailable(
                "The login is being refreshed. Nothing was changed; run this again", code="refresh_running"
            )
        time.sleep(_LOOK_SECONDS)
    try:
        if refreshing.take_up(fleet) is not None:
            raise Unavailable(
                "The answer to a refresh is on its way. Nothing was changed; run this again", code="refresh_running"
            )
        return _revoke(fleet, check(fleet), actor)
    finally:
        lease.free(rotation.JOB, owner, login.REVOKED)


def check(fleet: Fleet) -> AuthDocument:
    """The canonical document, if it can be revoked. Raises as `revoke` does."""
    found = write(lambda: canonical.current(fleet))
    if found is None:
        raise NotFound(canonical.NONE_YET, code="canonical_missing")
    if not refresh.has_refresh_token(found[1].content):
        raise Conflict(
            "The fleet's login has no refresh token, as API keys and access tokens have none. Revoke it where it was"
            " made, in the account's settings at OpenAI",
            code="login_not_revocable",
        )
    if not fleet.settings.token_url:
        raise Unavailable("The setting token_url is empty, so the provider's address is not known", code="job_off")
    return found[1]


def _revoke(fleet: Fleet, document: AuthDocument, actor: str) -> LoginRevoked:
    url = token_endpoint.revoke_url(fleet.settings.token_url)
    database.current().release()
    try:
        token_endpoint.revoke(url, document.content)
    except ServiceError as error:
        unknown = error.sent and error.status is None
        audit.note("admin.auth.revoke", actor=actor, digest=document.digest, result="failed", reason=error.message)
        raise ServiceError(
            f"{error.message}. "
            + (
                "It may have revoked the login all the same; run this again"
                if unknown
                else "The login was not revoked, and nothing was changed"
            ),
            status=error.status,
            sent=error.sent,
        ) from None

    def work() -> None:
        audit.record("admin.auth.revoke", actor=actor, digest=document.digest, result="revoked")
        login.mark_dead(document, login.REVOKED)

    write(work)
    ended = login.dead(document.content)
    return LoginRevoked(
        canonical_last_refresh=document.last_refresh,
        canonical_digest=document.digest,
        code=ended.code if ended is not None else login.REVOKED,
        since=ended.since if ended is not None else None,
    )
