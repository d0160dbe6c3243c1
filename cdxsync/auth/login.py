"""The canonical login: how long its access token lives, when it is refreshed, and whether the provider has ended it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from msgspec import UNSET

from cdxsync.auth import refresh
from cdxsync.auth.documents import AuthDocument
from cdxsync.auth.schemas import LoginState
from cdxsync.base import clock
from cdxsync.base.settings import Settings
from cdxsync.store import audit, named_values
from cdxsync.store.caches import GenerationCache
from cdxsync.store.tables import Host

FRESH = timedelta(minutes=10)
USABLE = timedelta(seconds=330)
"""Codex refreshes a token that has less than 5 minutes to go. One that is given to it must have more."""
OPAQUE_LIFE = timedelta(days=8)
"""Codex refreshes an access token that does not say when it expires after 8 days."""
FORCED_PAUSE = timedelta(minutes=1)
"""A token that an API refused is replaced at most this often in the whole fleet."""
_DEAD = "login_dead"
_BEGUN = "refresh_begun"
REVOKED = "revoked"
"""The code of a login that an admin has ended, for which the provider has none."""
WHO_DOES_WHAT = "Log in again on one host: cdx login"


@dataclass(frozen=True)
class Life:
    """The life of an access token."""

    begun: datetime
    expires: datetime

    @property
    def half(self) -> timedelta:
        """Half of it."""
        return max(self.expires - self.begun, timedelta(0)) / 2

    def has_left(self, least: timedelta, at: datetime) -> bool:
        """Whether it has more than `least` to go; for one with a short life, more than half of that."""
        return self.expires - at > min(least, self.half)

    def is_fresh(self, at: datetime) -> bool:
        """Whether it may be given to a host without a thought of another one."""
        return self.has_left(FRESH, at)

    def is_usable(self, at: datetime) -> bool:
        """Whether Codex takes it, and does not ask for another one at once."""
        return self.has_left(USABLE, at)


def life_of(document: AuthDocument) -> Life | None:
    """The life of the document's access token; None when it has none.

    It begins when the token says so (`iat`), else with the document's date.
    """
    token = refresh.tokens_of(document.content).get("access_token")
    if not isinstance(token, str) or not token.strip():
        return None
    dated = datetime.fromtimestamp(document.instant.microseconds / 1_000_000, UTC)
    expires = refresh.expiry_of(token)
    if expires is None:
        return Life(dated, dated + OPAQUE_LIFE)
    issued = refresh.issued_at(token)
    return Life(issued if issued is not None and issued <= expires else dated, expires)


def is_stale(document: AuthDocument, at: datetime) -> bool:
    """Whether an access token that was asked for at the time `at` was over then, or all but over, by our clock."""
    life = life_of(document)
    if life is None:
        return False
    return life.expires <= at or (life.half >= FRESH and not life.is_fresh(at))


def due_at(document: AuthDocument, ahead_seconds: int) -> datetime | None:
    """When the server refreshes it: `ahead_seconds` before expiry, but not before half of its life is over.

    None when it cannot be refreshed.
    """
    life = life_of(document)
    if life is None or not refresh.has_refresh_token(document.content):
        return None
    return life.expires - min(timedelta(seconds=ahead_seconds), life.half)


def spend_again_at(life: Life) -> datetime:
    """When a refresh token may be spent again that another machine may have spent, and whose answer it may still bring:
    when the access token is no longer fresh. Until then nothing is lost by waiting; a token that is spent twice ends
    the login.
    """
    return life.expires - min(FRESH, life.half)


class Step(StrEnum):
    """What to do for a host that asks for an access token."""

    GIVE = "give"
    REFRESH = "refresh"
    DEAD = "dead"
    AWAY = "away"


@dataclass(frozen=True)
class Asked:
    """What decides about a host's question for an access token."""

    life: Life
    newer: bool
    """Whether the canonical document is another one than the host was given last."""
    refused: bool
    """Whether an API has refused the token that the host has (`unauthorized_recovery`)."""
    settled: bool
    """Whether a refresh was made within the last minute."""
    dead: bool
    can_refresh: bool
    """Whether the server may refresh, and has not just been waited for."""


def decide(asked: Asked, at: datetime) -> Step:
    """What a host that asks gets. Never `GIVE` for a token that Codex would not take: it asks without end then."""
    if asked.dead and asked.refused and not asked.newer:
        return Step.DEAD
    wants_another = asked.refused and not asked.newer and not asked.settled
    if asked.life.is_fresh(at) and not wants_another:
        return Step.GIVE
    if asked.can_refresh and not asked.dead:
        return Step.REFRESH
    if asked.life.is_usable(at):
        return Step.GIVE
    return Step.DEAD if asked.dead else Step.AWAY


@dataclass(frozen=True)
class Dead:
    """A login that the provider has ended: with which code, and since when it is known."""

    code: str
    since: str


def fingerprint(content: Mapping[str, Any]) -> str:
    """The SHA-256 of a document's refresh token, by which a login is known."""
    return hashlib.sha256(str(refresh.tokens_of(content).get("refresh_token")).strip().encode()).hexdigest()


_ended = GenerationCache(lambda: named_values.get_dated(_DEAD).get(_DEAD))


def dead(content: Mapping[str, Any]) -> Dead | None:
    """What is known of the end of a document's login. It hangs on the refresh token, whatever document has that."""
    kept = _ended.get()
    if kept is None or not refresh.has_refresh_token(content):
        return None
    code, _, ended = kept[0].partition(":")
    return Dead(code, kept[1]) if ended == fingerprint(content) else None


def mark_dead(document: AuthDocument, code: str) -> bool:
    """Keep that the provider has ended the document's login, within a write transaction; whether that is news."""
    if dead(document.content) is not None:
        return False
    named_values.put(_DEAD, f"{code}:{fingerprint(document.content)}")
    audit.record("auth.login_dead", actor="server", digest=document.digest, code=code)
    return True


def note_begun(at: datetime) -> None:
    """Keep that a refresh begins, within a write transaction."""
    named_values.put(_BEGUN, clock.stamp(at))


def is_settled(at: datetime) -> bool:
    """Whether a refresh was begun within the last minute."""
    kept = named_values.get(_BEGUN)
    return kept is not None and timedelta(0) <= at - clock.read_stamp(kept) < FORCED_PAUSE


def describe(settings: Settings, document: AuthDocument | None, host: Host) -> LoginState:
    """The login for a host, and what `cdx` is to do with it there."""
    found = dead(document.content) if document is not None else None
    return LoginState(
        state="none" if document is None else "dead" if found is not None else "ok",
        refresh="server" if settings.server_refreshes else "hosts",
        code=UNSET if found is None else found.code,
        since=UNSET if found is None else found.since,
        message=UNSET if found is None else message_of(found),
        keep=bool(host.allow_keep_auth),
        file_store=settings.codex_file_store,
        outside=UNSET if settings.count_outside else False,
    )


def message_of(found: Dead) -> str:
    """A dead login in words."""
    if found.code == REVOKED:
        return f"An admin has revoked the fleet's login. {WHO_DOES_WHAT}"
    return f"OpenAI has ended the fleet's login ({found.code}). {WHO_DOES_WHAT}"
