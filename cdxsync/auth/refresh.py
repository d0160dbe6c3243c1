"""What tokens say of themselves, and the intents that are written before a refresh token may be spent.

A provider that rotates refresh tokens takes each once. So one process of the fleet of servers refreshes at a time (it
holds the lease of the job `refresh`, or of the runner where hosts refresh), and writes an intent first. The intent is
closed in the transaction that stores the outcome; one that stays open is from a killed server.
"""

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from cdxsync.base import clock
from cdxsync.store import audit
from cdxsync.store.database import write
from cdxsync.store.tables import RefreshIntent

_EPOCH_END = 253402300799  # 9999-12-31T23:59:59Z


class IntentOutcome(StrEnum):
    """The outcome of an intent."""

    STORED = "stored"
    """A new document is canonical."""
    SUPERSEDED = "superseded"
    """A host stored a newer document meanwhile; that one stays."""
    NONE = "none"
    """Codex did not refresh."""
    FAILED = "failed"
    """What Codex wrote was not valid."""
    RECOVERED = "recovered"
    """The server was killed; what came of the refresh was found and stored later."""
    LOST = "lost"
    """The server was killed; the provider may have answered, but the answer was not found."""


_UNSETTLED = RefreshIntent.outcome.is_null() | (RefreshIntent.outcome == IntentOutcome.LOST.value)


def claims_of(token: object) -> Mapping[str, Any]:
    """The claims of a JWT, unverified; empty when `token` is none."""
    parts = token.split(".") if isinstance(token, str) else []
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def tokens_of(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The member `tokens` of a document; empty when it has none."""
    tokens = content.get("tokens")
    return tokens if isinstance(tokens, dict) else {}


def expires_at(content: Mapping[str, Any]) -> datetime | None:
    """When the access token of a document expires; None when it does not say."""
    return expiry_of(tokens_of(content).get("access_token"))


def expiry_of(token: object) -> datetime | None:
    """When a JWT expires, by its claim `exp`; None for anything else, or one that does not say."""
    return _moment(claims_of(token).get("exp"))


def issued_at(token: object) -> datetime | None:
    """When a JWT was issued, by its claim `iat`; None as with `expiry_of`."""
    return _moment(claims_of(token).get("iat"))


def _moment(seconds: object) -> datetime | None:
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 <= seconds <= _EPOCH_END:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def has_refresh_token(content: Mapping[str, Any]) -> bool:
    """Whether Codex could refresh the document: it does so when it has expired, and when a request is refused."""
    token = tokens_of(content).get("refresh_token")
    return isinstance(token, str) and bool(token.strip())


def intend(digest: str, owner: str) -> int:
    """Write ahead that the refresh token of the document `digest` may be spent now; returns the intent's id."""
    return write(lambda: insert_intent(digest, owner, clock.now()))


def insert_intent(digest: str, owner: str, at: datetime) -> int:
    """`intend` within the caller's write transaction."""
    return int(RefreshIntent.insert(digest=digest, owner=owner, started_at=clock.stamp(at)).execute())


def close(intent_id: int, outcome: IntentOutcome, error: str | None = None) -> None:
    """Close an open intent, within the write transaction that stores the outcome."""
    changes = {"finished_at": clock.stamp(clock.now()), "outcome": outcome.value, "error": error}
    RefreshIntent.update(changes).where((RefreshIntent.id == intent_id) & _UNSETTLED).execute()


def open_intents() -> list[RefreshIntent]:
    """The intents that are not closed."""
    return list(RefreshIntent.select().where(RefreshIntent.outcome.is_null()).order_by(RefreshIntent.id))


def find(intent_id: int) -> RefreshIntent | None:
    """An intent by id, or None when it has been deleted."""
    found: RefreshIntent | None = RefreshIntent.get_or_none(RefreshIntent.id == intent_id)
    return found


def is_unsettled(intent_id: int) -> bool:
    """Whether the outcome of an intent is unknown: it is open, or lost."""
    return bool(RefreshIntent.select().where((RefreshIntent.id == intent_id) & _UNSETTLED).exists())


def give_up() -> None:
    """Close as lost what others left open, for the holder of the lease."""

    def work() -> None:
        for intent in open_intents():
            close(intent.id, IntentOutcome.LOST, "the server was killed while Codex refreshed")
            audit.record("auth.refresh_lost", actor="server", intent=intent.id, digest=intent.digest)

    write(work)


def lost_for(digest: str) -> RefreshIntent | None:
    """The newest lost intent for the document `digest`, or None: its refresh token may be used up."""
    lost = (RefreshIntent.outcome == IntentOutcome.LOST.value) & (RefreshIntent.digest == digest)
    found: RefreshIntent | None = RefreshIntent.select().where(lost).order_by(RefreshIntent.id.desc()).first()
    return found


def has_spent(digests: Collection[str]) -> bool:
    """Whether the refresh token of one of these documents was spent in a refresh, or may have been."""
    spent = [outcome.value for outcome in (IntentOutcome.STORED, IntentOutcome.RECOVERED, IntentOutcome.LOST)]
    return bool(
        RefreshIntent.select()
        .where(RefreshIntent.digest.in_(list(digests)) & RefreshIntent.outcome.in_(spent))
        .exists()
    )


def last_intents(limit: int = 5) -> list[RefreshIntent]:
    """The newest intents."""
    return list(RefreshIntent.select().order_by(RefreshIntent.id.desc()).limit(limit))
