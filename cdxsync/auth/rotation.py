"""What a refresh by the server brings: the next canonical document, stored before anybody sees it."""

from collections.abc import Mapping
from datetime import UTC, datetime

from cdxsync.auth import canonical, documents, history, login, refresh
from cdxsync.auth.documents import AuthDocument
from cdxsync.base import clock
from cdxsync.store import audit
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet

JOB = canonical.REFRESH_JOB
LOOK_SECONDS = 3600
"""At least so often the job looks whether a refresh is due."""
LIMIT_SECONDS = 40
"""For the call, and committing what came of it. After a crash the lease lasts so long."""
EXPIRING = "expiring"
REFUSED = "refused"
"""Why a host asks for a run: its token has not long to go, or an API has refused it."""


def begin(document: AuthDocument, owner: str) -> int:
    """Write ahead that the document's refresh token may be spent now; returns the intent's id.

    What others have left open is given up first: the caller holds the lease, so they were cut off.
    """

    def work() -> int:
        at = clock.now()
        for intent in refresh.open_intents():
            refresh.close(intent.id, refresh.IntentOutcome.LOST, "the server was cut off while it refreshed")
            audit.record("auth.refresh_lost", actor="server", intent=intent.id, digest=intent.digest)
        login.note_begun(at)
        return refresh.insert_intent(document.digest, owner, at)

    return write(work)


def end(intent_id: int, document: AuthDocument, code: str, message: str) -> bool:
    """Keep that the provider has ended the document's login, and close the intent; whether that is news."""

    def work() -> bool:
        refresh.close(intent_id, refresh.IntentOutcome.FAILED, message)
        return login.mark_dead(document, code)

    return write(work)


def refreshed(
    fleet: Fleet, document: AuthDocument, tokens: Mapping[str, str], at: datetime
) -> tuple[AuthDocument, datetime]:
    """`document` with the `tokens` of a refresh, and when it counts as stored; within a write transaction.

    It is dated later than all that is known, so that it wins; a clock that runs behind must not lose tokens.
    """
    before = refresh.tokens_of(document.content)
    old, new = before.get("access_token"), tokens.get("access_token")
    instant = max(clock.Instant.of(at), clock.Instant(history.latest_known().microseconds + 1))
    entries = {
        target: {**entry, "token": new} if new and entry["token"] == old else entry
        for target, entry in document.entries.items()
    }
    content = {
        **document.content,
        "tokens": {**before, **tokens},
        "last_refresh": clock.rfc3339(instant),
        "auths": entries,
    }
    stored_at = max(at, datetime.fromtimestamp(instant.microseconds / 1_000_000, UTC))
    made = documents.canonicalise(content, at=stored_at, token_min_length=fleet.settings.token_min_length)
    return made, stored_at


def keep(fleet: Fleet, intent_id: int, spent: AuthDocument, tokens: Mapping[str, str]) -> bool:
    """Store what came of a refresh of `spent`, and close its intent, in one write transaction.

    Returns False when the fleet has another login by now, which stays.
    """
    found = canonical.current(fleet)
    if found is None or login.fingerprint(found[1].content) != login.fingerprint(spent.content):
        refresh.close(intent_id, refresh.IntentOutcome.SUPERSEDED)
        return False
    document, stored_at = refreshed(fleet, found[1], tokens, clock.now())
    canonical.replace(fleet, document, source=canonical.REFRESH_SOURCE, host=None, at=stored_at)
    refresh.close(intent_id, refresh.IntentOutcome.STORED)
    audit.record("auth.refreshed", actor="server", intent=intent_id, digest=document.digest)
    return True
