"""What a refresh by the server brings: the next canonical document, stored before anybody sees it."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from cdxsync.auth import answers, canonical, history, login, refresh
from cdxsync.auth.answers import Note
from cdxsync.auth.documents import AuthDocument
from cdxsync.auth.refresh import IntentOutcome
from cdxsync.base import clock
from cdxsync.base.errors import Invalid
from cdxsync.store import audit
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import RefreshIntent

JOB = canonical.REFRESH_JOB
LOOK_SECONDS = 3600
"""At least so often the job looks whether a refresh is due."""
LIMIT_SECONDS = 50
"""For the call, and committing what came of it. After a crash the lease lasts so long, or until that is stored."""
EXPIRING = "expiring"
REFUSED = "refused"
"""Why a host asks for a run: its token has not long to go, or an API has refused it."""


class Kept(NamedTuple):
    """What became of the tokens of a call."""

    stored: bool
    """Not so when the fleet has another login by now, which stays."""
    problem: str | None = None
    """Why the new refresh token alone was stored, beside the access token of before."""


def begin(fleet: Fleet, document: AuthDocument, owner: str) -> tuple[Note, bytes]:
    """Write ahead that the document's refresh token may be spent now; returns a note of the call, and the answer's key.

    What others have left open is given up first: nothing of it is in this home, and the token has to be spent now.
    """
    key = answers.new_key()

    def work() -> Note:
        at = clock.now()
        for intent in refresh.open_intents():
            lose(intent.id, intent.digest, "the server was cut off while it refreshed")
        login.note_begun(at)
        intent_id = refresh.insert_intent(document.digest, owner, at)
        sealed = answers.seal_key(fleet, key, intent_id)
        return Note(intent=intent_id, spent=login.fingerprint(document.content), key=sealed)

    return write(work), key


def lose(intent_id: int, digest: str, why: str) -> None:
    """Close an open intent whose answer will not come, within a write transaction."""
    refresh.close(intent_id, IntentOutcome.LOST, why)
    audit.record("auth.refresh_lost", actor="server", intent=intent_id, digest=digest)


def end(fleet: Fleet, note: Note, code: str, message: str) -> bool:
    """Keep that the provider has ended the login of the call, and close the intent; whether that is news."""

    def work() -> bool:
        refresh.close(note.intent, IntentOutcome.FAILED, message)
        found = canonical.current(fleet)
        if found is None or login.fingerprint(found[1].content) != note.spent:
            return False
        return login.mark_dead(found[1], code)

    return write(work)


def awaited(document: AuthDocument, at: datetime) -> tuple[RefreshIntent, datetime] | None:
    """The open intent whose answer a server of another machine may still bring, and until when that is waited for."""
    intents, life = refresh.open_intents(), login.life_of(document)
    if not intents or life is None:
        return None
    until = login.spend_again_at(life)
    return None if until <= at else (intents[-1], until)


def refreshed(
    fleet: Fleet, document: AuthDocument, tokens: Mapping[str, str], at: datetime
) -> tuple[AuthDocument, datetime]:
    """`document` with the `tokens` of a refresh as the newest (`history.as_newest`), and when it counts as stored.

    Within a write transaction. Raises `Invalid`.
    """
    before = refresh.tokens_of(document.content)
    old, new = before.get("access_token"), tokens.get("access_token")
    entries = {
        target: {**entry, "token": new} if new and entry["token"] == old else entry
        for target, entry in document.entries.items()
    }
    content = {**document.content, "tokens": {**before, **tokens}, "auths": entries}
    return history.as_newest(fleet, content, at)


def keep(fleet: Fleet, note: Note, tokens: Mapping[str, str], outcome: IntentOutcome) -> Kept:
    """Store what came of a call, and close its intent with `outcome`; within a write transaction.

    Of an answer without a good access token the new refresh token is stored all the same: the one before it is spent.
    Raises `Invalid` when nothing of the answer can be taken.
    """
    found = canonical.current(fleet)
    if found is None or not _is_awaited(found[1], note, tokens):
        refresh.close(note.intent, IntentOutcome.SUPERSEDED)
        return Kept(False)
    at, problem = clock.now(), None
    try:
        if "access_token" not in tokens:
            raise Invalid({"tokens.access_token": ["is missing"]})
        document, stored_at = refreshed(fleet, found[1], tokens, at)
    except Invalid as error:
        if tokens.get("refresh_token") in (None, refresh.tokens_of(found[1].content)["refresh_token"]):
            raise
        problem = error.explain()
        document, stored_at = refreshed(fleet, found[1], {"refresh_token": tokens["refresh_token"]}, at)
    canonical.replace(fleet, document, source=canonical.REFRESH_SOURCE, host=None, at=stored_at)
    refresh.close(note.intent, outcome, problem)
    audit.record("auth.refreshed", actor="server", intent=note.intent, digest=document.digest)
    return Kept(True, problem)


def _is_awaited(document: AuthDocument, note: Note, tokens: Mapping[str, str]) -> bool:
    """Whether the canonical login is still the one that was spent; one that an admin has revoked stays so."""
    if login.fingerprint(document.content) != note.spent or _is_older(tokens, document):
        return False
    ended = login.dead(document.content)
    return ended is None or ended.code != login.REVOKED


def _is_older(tokens: Mapping[str, str], document: AuthDocument) -> bool:
    """Whether the answer is from before a later refresh: of a provider that leaves the refresh token as it was."""
    if "refresh_token" in tokens and tokens["refresh_token"] != refresh.tokens_of(document.content)["refresh_token"]:
        return False
    life, expires = login.life_of(document), refresh.expiry_of(tokens.get("access_token"))
    return life is not None and expires is not None and expires < life.expires
