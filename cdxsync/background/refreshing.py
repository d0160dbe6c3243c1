"""The job `refresh`: the server alone spends the canonical login's refresh token, ahead of expiry and when a host asks.

The job's lease lets one process of all servers at it. An intent is written before the token is spent; the call is made
by a process that a killed server leaves behind, with the answer on disk; and what comes of it is committed before
anybody sees it. So each run, and each start, first takes up what was left on this machine. An open intent of another
machine is waited for as long as the access token allows: that machine may still bring the answer.
"""

import functools
import logging
import threading
import time
from datetime import datetime

from cdxsync.auth import answers, canonical, login, refresh, rotation
from cdxsync.auth.answers import Call, Note
from cdxsync.auth.documents import AuthDocument
from cdxsync.auth.refresh import IntentOutcome
from cdxsync.base import clock
from cdxsync.base.errors import DatabaseAway, Failed, Invalid, ServiceError
from cdxsync.jobs import lease, schedule
from cdxsync.jobs.schedule import Outcome
from cdxsync.services import client, token_call, token_endpoint
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet

_FIRST_WAIT_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 300.0
_COMMIT_SECONDS = 15.0
_CALLING_SECONDS = 2.0
"""After this the job looks again whether a call that is under way has ended."""
_CUT_OFF = "cut_off"
_CANNOT_BE_TAKEN = "what the provider has answered cannot be taken: "
_log = logging.getLogger("cdxsync.refresh")


def refresh_canonical(fleet: Fleet, cause: str, owner: str) -> Outcome:
    """Refresh the canonical document if `cause` or its age say so; plans the next look."""
    left = take_up(fleet)
    if left is not None:
        return left
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
    waiting = _elsewhere(document, at)
    if waiting is not None and cause != schedule.MANUAL:
        return waiting
    return _spend(fleet, cause, owner, document)


def _is_wanted(document: AuthDocument, cause: str, due: datetime, at: datetime) -> bool:
    if cause == schedule.MANUAL or due <= at:
        return True
    life = login.life_of(document)
    if life is None or not life.is_fresh(at):
        return True
    return cause == rotation.REFUSED and not login.is_settled(at)


def _elsewhere(document: AuthDocument, at: datetime) -> Outcome | None:
    """What to say while an open intent is waited for: `take_up` has closed those of this machine."""
    awaited = rotation.awaited(document, at)
    if awaited is None:
        return None
    intent, until = awaited
    return Outcome(
        f"{intent.owner} began a refresh and may still bring its answer; the token is spent again at"
        f" {clock.stamp(until)}",
        next_in=min((until - at).total_seconds(), rotation.LOOK_SECONDS),
    )


def _until_due(fleet: Fleet, result: str, document: AuthDocument, at: datetime) -> Outcome:
    due = login.due_at(document, fleet.settings.refresh_ahead_seconds)
    left = (due - at).total_seconds() if due is not None else rotation.LOOK_SECONDS
    return Outcome(result, next_in=min(max(left, 1.0), rotation.LOOK_SECONDS))


def _spend(fleet: Fleet, cause: str, owner: str, document: AuthDocument) -> Outcome:
    reason = "unauthorized_recovery" if cause == rotation.REFUSED else "proactive_expiry"
    with answers.folder_for(fleet.settings.home, owner) as call:
        note, key = rotation.begin(fleet, document, owner)
        body = token_endpoint.request(document.content, reason)
        try:
            call.begin(note)
            token_call.make(fleet.settings.token_url, body, call, note, key)
        except token_call.StillCalling as error:
            return Outcome(error.message, next_in=_CALLING_SECONDS)
        except (Failed, OSError) as error:
            message = error.message if isinstance(error, Failed) else f"{call.path}: {error.strerror}"
            write(lambda: refresh.close(note.intent, IntentOutcome.FAILED, message))
            call.drop()
            raise Failed(message) from None
        return _settle(fleet, call, note, IntentOutcome.STORED)


def _settle(fleet: Fleet, call: Call, note: Note, outcome: IntentOutcome) -> Outcome:
    """Store what came of a call that has ended; its folder stays when that cannot be stored now."""
    try:
        result = _stored(fleet, call, note, outcome)
    except ServiceError as error:
        _close(note, error)
        failures = lease.row_of(rotation.JOB).failures
        wait = error.wait or min(_FIRST_WAIT_SECONDS * 2.0 ** min(failures, 10), _LONGEST_WAIT_SECONDS)
        result = Outcome("failed", error=error.message, wait=wait, next_in=wait)
    call.drop()
    return result


def _close(note: Note, error: ServiceError) -> None:
    """Close the intent of a call that brought nothing; its token may be spent unless the provider has refused."""

    def work() -> None:
        intent = refresh.find(note.intent)
        if not error.sent or (error.status is not None and error.status >= 300):
            refresh.close(note.intent, IntentOutcome.FAILED, error.message)
        elif intent is not None and intent.outcome is None:
            rotation.lose(intent.id, intent.digest, error.message)

    write(work)


def _stored(fleet: Fleet, call: Call, note: Note, outcome: IntentOutcome) -> Outcome:
    """Commit the answer. There is no other copy, so a database that is away is waited for.

    Raises `ServiceError`, also when it is stored and the next call has to wait."""
    try:
        tokens = token_endpoint.tokens_in(fleet.settings.token_url, call.answer(fleet, note))
    except token_endpoint.LoginEnded as error:
        if rotation.end(fleet, note, error.reason, error.message):
            _log.error("the fleet's login is dead: %s. %s", error.message, login.WHO_DOES_WHAT)
        return Outcome(f"{error.message}. {login.WHO_DOES_WHAT}", next_in=rotation.LOOK_SECONDS)
    except answers.Missing as error:
        raise ServiceError(error.message) from None
    until = time.monotonic() + _COMMIT_SECONDS
    while True:
        try:
            kept = write(lambda: rotation.keep(fleet, note, tokens, outcome))
            break
        except DatabaseAway as error:
            if time.monotonic() > until:
                _log.critical("what the provider has answered waits in %s: %s", call.path, error.message)
                raise
            time.sleep(0.5)
        except Invalid as error:
            raise ServiceError(_CANNOT_BE_TAKEN + error.explain(), status=200) from None
    if kept.problem is not None:
        raise ServiceError(f"{_CANNOT_BE_TAKEN}{kept.problem}; its new refresh token is stored", status=200)
    found = write(lambda: canonical.current(fleet))
    result = "refreshed" if kept.stored else "a newer login has come meanwhile, which stays"
    if found is None:
        return Outcome(result, next_in=rotation.LOOK_SECONDS)
    intent = refresh.find(note.intent)
    if kept.stored and intent is not None and login.is_stale(found[1], clock.read_stamp(intent.started_at)):
        # Stored all the same, as its refresh token is the one that is good now. The next would be as old.
        raise ServiceError(
            f"{client.place(fleet.settings.token_url)} gives access tokens that end at once by this server's clock:"
            " set the clock right",
            status=200,
        )
    return _until_due(fleet, result, found[1], clock.now())


def take_up(fleet: Fleet) -> Outcome | None:
    """Store the answers that killed servers left on this machine; another machine's server may hold the lease now.

    Returns what a run is to end with: when a call is still under way, or the provider has asked to wait.
    """
    end: Outcome | None = None
    for call in answers.leftovers(fleet.settings.home):
        if call is None:
            end = Outcome("the answer to an earlier call has not come yet", next_in=_CALLING_SECONDS)
            continue
        note = call.note()
        if note is None:
            _close_unbegun(call)
            continue
        intent = refresh.find(note.intent)
        outcome = _settle(fleet, call, note, IntentOutcome.RECOVERED)
        if intent is not None:
            lease.free(rotation.JOB, intent.owner, _CUT_OFF)
        _log.warning("a server was cut off while it refreshed; its call: %s", outcome.error or outcome.result)
        if outcome.wait:
            end = outcome
    return end


def _close_unbegun(call: Call) -> None:
    """The server was killed before the call: nothing was spent."""
    for intent in refresh.open_intents():
        if call.is_of(intent.owner):
            write(functools.partial(refresh.close, intent.id, IntentOutcome.NONE))
            lease.free(rotation.JOB, intent.owner, _CUT_OFF)
    call.drop()


def take_up_at_start(fleet: Fleet) -> None:
    """`take_up`; for calls that are still under way in a thread that waits for them."""
    if take_up(fleet) is not None:
        threading.Thread(target=_keep_looking, args=(fleet,), name="refresh answers", daemon=True).start()


def _keep_looking(fleet: Fleet) -> None:
    until = time.monotonic() + rotation.LIMIT_SECONDS
    try:
        with fleet.database.scope():
            while time.monotonic() < until and take_up(fleet) is not None:
                time.sleep(0.2)
    except Exception:
        _log.exception("what a killed server left cannot be stored; the next run of the job tries again")
    finally:
        fleet.database.disconnect()
