"""What answers say of Codex's versions, and of the ChatGPT account's quota (`docs/protocol.md 7`, `12.3`, `12.4`)."""

import json
from typing import Literal, cast

from msgspec import Struct

from cdxsync.base.schema import Anything, Digest, Moment
from cdxsync.store.tables import ChatGptSnapshot

ReadingStatus = Literal["ok", "error"]
VersionSource = Literal["github", "cache", "cache_stale", "unknown"]


class Versions(Struct, frozen=True, kw_only=True):
    """The versions that hosts should have."""

    client_version: str | None
    """The newest Codex release."""
    client_version_checked_at: Moment | None
    client_version_source: VersionSource
    wrapper_version: str
    """The version of `cdx`."""
    wrapper_sha256: Digest
    """Of the host's own `cdx`, where a host asks."""
    wrapper_url: str
    reported_client_version: str | None
    """The newest Codex that hosts have reported."""


class WrapperMetadata(Struct, frozen=True, kw_only=True):
    """The `cdx` that a host would download."""

    version: str
    sha256: Digest
    size_bytes: int
    updated_at: Moment
    url: str


class AvailableClient(Struct, frozen=True, kw_only=True):
    """The newest Codex release."""

    version: str | None
    updated_at: Moment | None
    """When it was last read."""
    source: VersionSource


class VersionsCheck(Struct, frozen=True, kw_only=True):
    """What reading the newest release has found."""

    available_client: AvailableClient
    versions: Versions
    error: str | None
    """Why nothing new could be read."""
    pending: bool
    """Whether the reading has not ended in the time that the call waited."""


class QuotaWindow(Struct, frozen=True, kw_only=True):
    """How much of a time's quota is used."""

    used_percent: int | None
    limit_seconds: int | None
    """How long the window is."""
    reset_after_seconds: int | None
    reset_at: str | None


class QuotaSummary(Struct, frozen=True, kw_only=True):
    """The account's quota, as hosts see it."""

    status: ReadingStatus
    plan_type: str | None
    rate_allowed: bool | None
    rate_limit_reached: bool | None
    fetched_at: Moment
    next_eligible_at: Moment
    """When it may be read again."""
    primary_window: QuotaWindow
    """Five hours."""
    secondary_window: QuotaWindow
    """A week."""

    @classmethod
    def of(cls, row: ChatGptSnapshot) -> "QuotaSummary":
        """The summary of a snapshot."""
        return cls(
            status=cast(ReadingStatus, row.status),
            plan_type=row.plan_type,
            rate_allowed=row.rate_allowed,
            rate_limit_reached=row.rate_limit_reached,
            fetched_at=row.fetched_at,
            next_eligible_at=row.next_eligible_at,
            primary_window=QuotaWindow(
                used_percent=row.primary_used_percent,
                limit_seconds=row.primary_limit_seconds,
                reset_after_seconds=row.primary_reset_after_seconds,
                reset_at=row.primary_reset_at,
            ),
            secondary_window=QuotaWindow(
                used_percent=row.secondary_used_percent,
                limit_seconds=row.secondary_limit_seconds,
                reset_after_seconds=row.secondary_reset_after_seconds,
                reset_at=row.secondary_reset_at,
            ),
        )


class QuotaReading(Struct, frozen=True, kw_only=True):
    """What an answer of ChatGPT says; what is not as expected is null."""

    plan_type: str | None
    rate_allowed: bool | None
    rate_limit_reached: bool | None
    primary_used_percent: int | None
    primary_limit_seconds: int | None
    primary_reset_after_seconds: int | None
    primary_reset_at: str | None
    secondary_used_percent: int | None
    secondary_limit_seconds: int | None
    secondary_reset_after_seconds: int | None
    secondary_reset_at: str | None
    has_credits: bool | None
    unlimited: bool | None
    credit_balance: str | None
    approx_local_messages: list[Anything] | None
    approx_cloud_messages: list[Anything] | None


class QuotaSnapshot(QuotaReading, frozen=True, kw_only=True):
    """An attempt to read the quota, as admins see it."""

    id: int
    status: ReadingStatus
    error: str | None
    http_status: int | None
    fetched_at: Moment
    next_eligible_at: Moment
    created_at: Moment
    host_id: int | None
    """Always null."""
    raw: Anything | None
    """ChatGPT's answer as it came, while it is kept."""

    @classmethod
    def of(cls, row: ChatGptSnapshot) -> "QuotaSnapshot":
        """All columns of a row."""
        return cls(
            id=row.id,
            status=cast(ReadingStatus, row.status),
            plan_type=row.plan_type,
            rate_allowed=row.rate_allowed,
            rate_limit_reached=row.rate_limit_reached,
            primary_used_percent=row.primary_used_percent,
            primary_limit_seconds=row.primary_limit_seconds,
            primary_reset_after_seconds=row.primary_reset_after_seconds,
            primary_reset_at=row.primary_reset_at,
            secondary_used_percent=row.secondary_used_percent,
            secondary_limit_seconds=row.secondary_limit_seconds,
            secondary_reset_after_seconds=row.secondary_reset_after_seconds,
            secondary_reset_at=row.secondary_reset_at,
            has_credits=row.has_credits,
            unlimited=row.unlimited,
            credit_balance=row.credit_balance,
            approx_local_messages=_decoded(row.approx_local_messages),
            approx_cloud_messages=_decoded(row.approx_cloud_messages),
            error=row.error,
            http_status=row.http_status,
            fetched_at=row.fetched_at,
            next_eligible_at=row.next_eligible_at,
            created_at=row.created_at,
            host_id=row.host_id,
            raw=_decoded(row.raw_body),
        )


def _decoded(text: str | None) -> Anything | None:
    return None if text is None else json.loads(text)


class QuotaError(Struct, frozen=True, kw_only=True):
    """The newest attempt, when it failed."""

    error: str
    http_status: int | None
    fetched_at: Moment

    @classmethod
    def of(cls, row: ChatGptSnapshot) -> "QuotaError":
        """Why the attempt of a row failed."""
        return cls(error=row.error or "", http_status=row.http_status, fetched_at=row.fetched_at)


class QuotaReport(Struct, frozen=True, kw_only=True):
    """The last good snapshot, or the last failure when there never was one."""

    snapshot: QuotaSnapshot | None
    cached: bool
    """Whether it was read before this call."""
    next_eligible_at: Moment | None
    last_error: QuotaError | None
    pending: bool
    """Whether a reading has not ended in the time that the call waited."""
