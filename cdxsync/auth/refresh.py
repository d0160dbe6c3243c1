"""Refreshing the canonical document by the server: when, and the intent that is written ahead of it.

A provider that rotates refresh tokens takes each once. So one process of all servers refreshes at a time (it holds the
runner's lease), and writes an intent before Codex may use up the token. The intent is closed in the transaction that
stores the outcome; one that stays open is from a killed server.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from cdxsync.auth.documents import AuthDocument
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
    """The server was killed; Codex's document was found and stored later."""
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
    expires = claims_of(token).get("exp")
    if not isinstance(expires, int) or isinstance(expires, bool) or not 0 <= expires <= _EPOCH_END:
        return None
    return datetime.fromtimestamp(expires, UTC)


def has_refresh_token(content: Mapping[str, Any]) -> bool:
    """Whether Codex could refresh the document: it does so when it has expired, and when a request is refused."""
    token = tokens_of(content).get("refresh_token")
    return isinstance(token, str) and bool(token.strip())


def due_at(document: AuthDocument, ahead_seconds: int) -> datetime | None:
    """When the server refreshes it: `ahead_seconds` before expiry, but not before half of its life is over.

    None when it cannot be refreshed.
    """
    expires = expires_at(document.content)
    if expires is None or not has_refresh_token(document.content):
        return None
    begun = datetime.fromtimestamp(document.instant.microseconds / 1_000_000, UTC)
    life = max(expires - begun, timedelta(0))
    return expires - min(timedelta(seconds=ahead_seconds), life / 2)


def with_expired_token(content: Mapping[str, Any]) -> dict[str, Any]:
    """A copy whose access token says that it has expired, so that Codex refreshes before it makes a request.

    Codex refreshes by `exp` alone (it cannot check the signature). The token has no other use: no provider accepts it.
    """
    tokens = dict(tokens_of(content))
    header, _, rest = str(tokens["access_token"]).partition(".")
    claims = {**claims_of(tokens["access_token"]), "exp": 1}
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    tokens["access_token"] = f"{header}.{payload}.{rest.partition('.')[2]}"
    return {key: value for key, value in content.items() if key != "auths"} | {"tokens": tokens}


def intend(digest: str, owner: str) -> int:
    """Write the intent: the refresh token of the document `digest` may be used up from now on; returns its id."""
    stamp = clock.stamp(clock.now())
    return write(lambda: int(RefreshIntent.insert(digest=digest, owner=owner, started_at=stamp).execute()))


def close(intent_id: int, outcome: IntentOutcome, error: str | None = None) -> None:
    """Close an open intent, within the write transaction that stores the outcome."""
    changes = {"finished_at": clock.stamp(clock.now()), "outcome": outcome.value, "error": error}
    RefreshIntent.update(changes).where((RefreshIntent.id == intent_id) & _UNSETTLED).execute()


def open_intents() -> list[RefreshIntent]:
    """The intents that are not closed."""
    return list(RefreshIntent.select().where(RefreshIntent.outcome.is_null()).order_by(RefreshIntent.id))


def is_unsettled(intent_id: int) -> bool:
    """Whether the outcome of an intent is unknown: it is open, or lost."""
    return bool(RefreshIntent.select().where((RefreshIntent.id == intent_id) & _UNSETTLED).exists())


def give_up() -> None:
    """Close as lost the intents that others left open, for the holder of the runner's lease."""

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


def last_intents(limit: int = 5) -> list[RefreshIntent]:
    """The newest intents."""
    return list(RefreshIntent.select().order_by(RefreshIntent.id.desc()).limit(limit))
