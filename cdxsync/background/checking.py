"""The jobs that call services outside."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from cdxsync.auth import canonical, documents, grants, refresh, runner
from cdxsync.auth.documents import AuthDocument
from cdxsync.auth.refresh import IntentOutcome
from cdxsync.auth.runner import Applied, Verdict
from cdxsync.auth.schemas import Backend
from cdxsync.base import clock
from cdxsync.base.errors import CdxsyncError, Failed, ServiceError
from cdxsync.jobs.schedule import Outcome
from cdxsync.services import chatgpt, local_runner, remote_runner
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet

DAY = 86400
RETRY_SECONDS = 3600
"""A document that failed its check is checked again after an hour: the network may have been at fault."""


def check_canonical(fleet: Fleet, cause: str, owner: str) -> Outcome:
    """Check the canonical document. Where hosts refresh, Codex may refresh it in the check too, as on any host; where
    the server does, Codex gets no refresh token. Raises `CdxsyncError` when the check could not be made.

    Each server first looks for what a killed one left on this machine.
    """
    used, off = runner.backend(fleet.settings)
    if used is Backend.OFF:
        raise Failed(off)
    recovered = recover(fleet)
    if local_runner.busy(fleet):
        raise Failed("a Codex that a stopped server started still runs; the next run tries again")
    if not fleet.settings.server_refreshes:
        refresh.give_up()
    found = write(lambda: canonical.current(fleet))
    if found is None:
        return Outcome("no document yet")
    document, at = found[1], clock.now()
    unchecked = runner.unchecked(fleet.settings, document)
    if unchecked is not None:
        return Outcome(unchecked, next_in=DAY)
    runner.note_day(at)
    expires = refresh.expires_at(document.content)
    if fleet.settings.server_refreshes and expires is not None and expires <= at:
        return Outcome("the access token has expired; the job refresh is to replace it", next_in=RETRY_SECONDS)
    verdict, applied = _check(fleet, used, cause, owner, document)
    result = f"{verdict.status}: {verdict.reason}" if verdict.reason else verdict.status
    if applied is not None:
        result += f"; the refreshed document was {applied.value}"
    if recovered:
        result += f"; found and stored {recovered} refreshed documents of a stopped server"
    return Outcome(result, next_in=DAY if verdict.status == runner.OK else RETRY_SECONDS)


def _check(
    fleet: Fleet, used: Backend, cause: str, owner: str, document: AuthDocument
) -> tuple[Verdict, Applied | None]:
    served = fleet.settings.server_refreshes and grants.applies_to(document)
    laid = dict((documents.with_refresh_token(document, grants.PLACEHOLDER) if served else document).content)
    if used is Backend.LOCAL and fleet.settings.runner_check == "quota":
        return _by_quota(fleet, cause, document)
    expires = refresh.expires_at(laid)
    expired = expires is not None and expires <= clock.now()  # so that Codex starts with a refresh
    intent = refresh.intend(document.digest, owner) if refresh.has_refresh_token(laid) and not served else None
    try:
        if used is Backend.LOCAL:
            with local_runner.home_for(fleet, laid, intent) as home:
                verdict = _settled(local_runner.check(fleet, home, laid), laid, expired, served)
                return verdict, runner.keep_verdict(fleet, used, cause, document, verdict, intent)
        verdict = _settled(remote_runner.check(fleet, laid), laid, expired, served)
        return verdict, runner.keep_verdict(fleet, used, cause, document, verdict, intent)
    except (local_runner.CodexFailed, ServiceError) as error:
        if intent is not None:
            lost = expired and isinstance(error, ServiceError) and error.sent and error.status is None
            outcome, message = IntentOutcome.LOST if lost else IntentOutcome.FAILED, error.message
            write(lambda: refresh.close(intent, outcome, message))
        raise


def _settled(verdict: Verdict, laid: dict[str, Any], expired: bool, served: bool) -> Verdict:
    """The verdict, without its document if that has the same access token as before, or came without a
    refresh token: nothing was refreshed.

    Cut off matters only where Codex was to refresh.
    """
    after = verdict.updated_auth
    token = refresh.tokens_of(laid).get("access_token")
    same = isinstance(after, dict) and refresh.tokens_of(after).get("access_token") == token
    return replace(verdict, updated_auth=None if same or served else after, cut_off=verdict.cut_off and expired)


def _by_quota(fleet: Fleet, cause: str, document: AuthDocument) -> tuple[Verdict, None]:
    begun = time.monotonic()
    status, reason = runner.OK, None
    try:
        chatgpt.fetch(fleet, document.content)
    except ServiceError as error:
        if error.status != 401 and not isinstance(error, chatgpt.MissingToken):
            raise
        status, reason = runner.FAIL, error.message
    verdict = Verdict(status, reason, round((time.monotonic() - begun) * 1000))
    runner.keep_verdict(fleet, Backend.LOCAL, cause, document, verdict, None)
    return verdict, None


def recover(fleet: Fleet) -> int:
    """Store what Codex refreshed in homes that a killed server left on this machine, and delete them.

    Also when another server has recorded the refresh as lost meanwhile. Returns how many documents it stored.
    """
    stored = 0
    for path, intent_id in local_runner.leftovers(fleet):
        if intent_id is not None and refresh.is_unsettled(intent_id):
            stored += _recover_one(fleet, path, intent_id)
        local_runner.wipe(path)
    return stored


def _recover_one(fleet: Fleet, path: Path, intent_id: int) -> bool:
    """Store the document of the home `path` if Codex refreshed it; returns whether it did."""
    try:
        left = local_runner.Home(path, -1).document()
    except CdxsyncError:
        return False
    token = refresh.tokens_of(left).get("access_token") if isinstance(left, dict) else None
    expires = refresh.expires_at(left) if token else None
    if token is None or (expires is not None and expires <= clock.now()):
        return False  # what was written there, not what a provider returned
    found = write(lambda: canonical.current(fleet))
    if found is not None and refresh.tokens_of(found[1].content).get("access_token") == token:
        write(lambda: refresh.close(intent_id, IntentOutcome.NONE))
        return False
    return runner.recover(fleet, intent_id, left) is Applied.APPLIED
