"""The job `refresh`: the server alone spends the canonical login's refresh token, ahead of expiry and when a host asks.

The job's lease lets one process of all servers at it. An intent is written before the token is spent, and what comes
of it is committed before anybody sees it. Of a server that is cut off in between an open intent is left: the next run
tries the same token once more, as the provider may not have taken it.
"""

import functools
import logging
import time
from datetime import datetime

from cdxsync.auth import canonical, login, refresh, rotation
from cdxsync.auth.documents import AuthDocument
from cdxsync.auth.refresh import IntentOutcome
from cdxsync.base import clock
from cdxsync.base.errors import CdxsyncError, DatabaseAway, Failed, ServiceError
from cdxsync.jobs import lease, schedule
from cdxsync.jobs.schedule import Outcome
from cdxsync.services import token_endpoint
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet

_FIRST_WAIT_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 300.0
_COMMIT_SECONDS = 15.0
_log = logging.getLogger("cdxsync.refresh")


def refresh_canonical(fleet: Fleet, cause: str, owner: str) -> Outcome:
    """Refresh the canonical document if `cause` or its age say so; plans the next look."""
    found = write(lambda: canonical.current(fleet))
    if found is None:
        return Outcome("no document yet", next_in=rotation.LOOK_SECONDS)
    document, at = found[1], clock.now()
    due = login.due_at(document, fleet.settings.refresh_ahead_seconds)
    if due is None:
        return Outcome("the canonical document has no refresh token", next_in=rotation.LOOK_SECONDS)
    ended = login.dead(document.content)
    if ended is not None and cause != schedule.MANUAL:
        return Outcome(login.message_of(ended), next_in=rotation.LOOK_SECONDS)
    if not _is_wanted(document, cause, due, at):
        return _until_due(fleet, f"not due until {clock.stamp(due)}", document, at)
    return _spend(fleet, cause, owner, document)


def _is_wanted(document: AuthDocument, cause: str, due: datetime, at: datetime) -> bool:
    if cause == schedule.MANUAL or due <= at:
        return True
    life = login.life_of(document)
    if life is None or not life.is_fresh(at):
        return True
    return cause == rotation.REFUSED and not login.is_settled(at)


def _until_due(fleet: Fleet, result: str, document: AuthDocument, at: datetime) -> Outcome:
    due = login.due_at(document, fleet.settings.refresh_ahead_seconds)
    left = (due - at).total_seconds() if due is not None else rotation.LOOK_SECONDS
    return Outcome(result, next_in=min(max(left, 1.0), rotation.LOOK_SECONDS))


def _spend(fleet: Fleet, cause: str, owner: str, document: AuthDocument) -> Outcome:
    intent = rotation.begin(document, owner)
    reason = "unauthorized_recovery" if cause == rotation.REFUSED else "proactive_expiry"
    try:
        tokens = token_endpoint.exchange(fleet.settings, document.content, reason)
    except token_endpoint.LoginEnded as error:
        if rotation.end(intent, document, error.reason, error.message):
            _log.error("the fleet's login is dead: %s. %s", error.message, login.WHO_DOES_WHAT)
        return Outcome(f"{error.message}. {login.WHO_DOES_WHAT}", next_in=rotation.LOOK_SECONDS)
    except ServiceError as error:
        outcome = IntentOutcome.LOST if error.sent and error.status is None else IntentOutcome.FAILED
        message = error.message
        write(lambda: refresh.close(intent, outcome, message))
        failures = lease.row_of(rotation.JOB).failures
        wait = error.wait or min(_FIRST_WAIT_SECONDS * 2.0 ** min(failures, 10), _LONGEST_WAIT_SECONDS)
        return Outcome("failed", error=message, wait=wait)
    kept = _keep(fleet, intent, document, tokens)
    found = write(lambda: canonical.current(fleet))
    result = "refreshed" if kept else "a newer login has come meanwhile, which stays"
    return _until_due(fleet, result, found[1] if found is not None else document, clock.now())


def _keep(fleet: Fleet, intent: int, document: AuthDocument, tokens: dict[str, str]) -> bool:
    """Commit the tokens. They are the only ones there are now, so a database that is away is waited for."""
    until = time.monotonic() + _COMMIT_SECONDS
    while True:
        try:
            return write(lambda: rotation.keep(fleet, intent, document, tokens))
        except DatabaseAway as error:
            if time.monotonic() > until:
                _log.critical("what the provider has answered cannot be stored: %s", error.message)
                raise
            time.sleep(0.5)
        except CdxsyncError as error:
            write(functools.partial(refresh.close, intent, IntentOutcome.FAILED, error.explain()))
            raise Failed(f"what the provider has answered cannot be taken: {error.explain()}") from None
