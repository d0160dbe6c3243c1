"""What answers say of the canonical document, and what bodies about it hold (`docs/protocol.md 4`, `11.5`, `11.11`)."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, cast

from msgspec import UNSET, Struct, UnsetType

from cdxsync.auth.account_schemas import AccountChange, LoginOffered
from cdxsync.auth.refresh import IntentOutcome
from cdxsync.base import clock, fields, jsontext
from cdxsync.base.errors import Invalid, Malformed
from cdxsync.base.schema import Day, Digest, Document, GivenDocument, Moment, Secret
from cdxsync.codex.schemas import QuotaSummary, Versions
from cdxsync.hosts.schemas import HostSummary, Scheduler
from cdxsync.store.tables import AuthPayload, RefreshIntent, RunnerEvent
from cdxsync.usage.schemas import TokenTotals

PREVIOUS: Literal["previous"] = "previous"
"""Stands for the document that was stored before the canonical one."""
AuthStatus = Literal["valid", "upload_required", "outdated", "missing", "updated", "unchanged"]
"""`sync.RetrieveStatus` and `sync.StoreStatus`, which say what each is for."""

Refresher = Literal["hosts", "server"]
EventStatus = Literal["ok", "fail", "unknown", "applied", "skipped", "failed"]


class Backend(StrEnum):
    """What checks the document."""

    REMOTE = "remote"
    LOCAL = "local"
    OFF = "off"


class Validation(Struct, frozen=True, kw_only=True):
    """What the runner found out about the canonical document."""

    status: Literal["pending", "ok", "fail", "unknown"]
    reason: str | None
    latency_ms: int | None


class LoginState(Struct, frozen=True, kw_only=True):
    """The fleet's login."""

    state: Literal["none", "ok", "dead"]
    """`dead` when the provider has ended it: somebody must log in again."""
    refresh: Refresher
    """Who refreshes it."""
    code: str | UnsetType = UNSET
    """With which code the provider has ended it."""
    since: Moment | UnsetType = UNSET
    """When that was seen."""
    message: str | UnsetType = UNSET
    keep: bool = True
    """Whether `cdx` is to keep the credentials after the run."""
    file_store: bool = False
    """Whether `cdx` is to make Codex read auth.json, wherever its own settings say that credentials are."""
    outside: bool | UnsetType = UNSET
    """False when `cdx` is not to report what Codex has used without it."""


class AuthAnswer(Secret, frozen=True, kw_only=True):
    """What a host should do, and what it needs for that; the same for an admin's upload."""

    status: AuthStatus
    action: Literal["store"] | UnsetType = UNSET
    """The host is to store its document."""
    canonical_last_refresh: Moment | None
    canonical_digest: Digest | None
    runner_applied: bool | UnsetType = UNSET
    """Always false; the runner works in the background."""
    validation: Validation | UnsetType = UNSET
    auth: Document | UnsetType = UNSET
    """The canonical document, when the host's is another."""
    host: HostSummary | UnsetType = UNSET
    api_calls: int
    token_usage_month: TokenTotals | None
    """Of the host; null for an admin's upload."""
    versions: Versions
    chatgpt_usage: QuotaSummary | UnsetType = UNSET
    """Missing as long as there is no snapshot."""
    login: LoginState | UnsetType = UNSET
    """For hosts that accept a grant."""
    account_change: AccountChange | UnsetType = UNSET
    """Where an admin's document is of another account than the one that it replaces."""
    prompts_etag: str | UnsetType = UNSET
    """The entity tag of `GET /slash-commands`, for background syncs."""


class Canonical(Struct, frozen=True, kw_only=True):
    """What is kept of the canonical document beside its content."""

    last_refresh: Moment
    digest: Digest
    source: str
    """A host's name, `admin`, `refresh`, `runner`, or `rollback of` an id."""
    stored_at: Moment


class CanonicalShown(Secret, frozen=True, kw_only=True):
    """The canonical document."""

    canonical_last_refresh: Moment
    canonical_digest: Digest
    account: str | None
    """Whose login it is, in words; null where it does not say."""
    targets: list[str]
    source: str
    """A host's name, `admin`, `refresh`, `runner`, or `rollback of` an id."""
    stored_at: Moment
    offers: list[LoginOffered]
    """Logins of other accounts, which hosts have."""
    ended: str | UnsetType = UNSET
    """That the login has ended, how, and what to do, in words; absent for a good one."""
    auth: Document | UnsetType = UNSET
    """The document, where it was asked for."""


class Payload(Struct, frozen=True, kw_only=True):
    """A document that is kept."""

    id: int
    last_refresh: Moment
    digest: Digest
    stored_at: Moment

    @classmethod
    def of(cls, row: AuthPayload) -> "Payload":
        """A row without its content."""
        return cls(id=row.id, last_refresh=row.last_refresh, digest=row.sha256, stored_at=row.created_at)


class PayloadItem(Payload, frozen=True, kw_only=True):
    """A document in the history."""

    source: str
    """A host's name, `admin`, `refresh`, `runner`, or `rollback of` an id."""
    canonical: bool


class PayloadPage(Struct, frozen=True, kw_only=True):
    """The newest documents that are kept."""

    history: list[PayloadItem]
    next_before: int | None
    """`before` of the next page; null on the last."""


class KeyChange(Struct, frozen=True, kw_only=True):
    """A key that differs."""

    key: str
    """Its path, joined by dots."""
    change: Literal["added", "removed", "changed"]


class PayloadDiff(Struct, frozen=True, kw_only=True, rename={"since": "from"}):
    """Which keys differ between two documents; never a value."""

    since: Payload
    to: Payload
    changes: list[KeyChange]
    reordered: bool
    """They have the same values in another order."""


class RolledBack(Struct, frozen=True, kw_only=True, rename={"since": "from"}):
    """What a rollback did."""

    since: int
    """The id of the document that was canonical."""
    to: int
    """The id of the one that was taken back."""
    stored_as: int
    """The id of its copy, which is canonical now."""
    canonical_last_refresh: Moment
    canonical_digest: Digest
    restored_last_refresh: Moment


class LoginRevoked(Struct, frozen=True, kw_only=True):
    """The login that has ended."""

    canonical_last_refresh: Moment
    canonical_digest: Digest
    code: str
    """`revoked`, or the provider's code where it had ended the login before."""
    since: Moment | None
    """Since when it is known to have ended; null when another login has come meanwhile."""


class EventDetails(Struct, frozen=True, kw_only=True):
    """How a check was made."""

    trigger: str
    backend: Backend
    latency_ms: int | None


class Event(Struct, frozen=True, kw_only=True):
    """A check of the canonical document, or what became of one that Codex refreshed in it."""

    id: int
    created_at: Moment
    details: EventDetails
    status: EventStatus
    reason: str | None
    digest: Digest | None
    last_refresh: Moment | None
    host: None
    """Always null."""

    @classmethod
    def of(cls, row: RunnerEvent) -> "Event":
        """What is shown of a row."""
        return cls(
            id=row.id,
            created_at=row.created_at,
            details=EventDetails(trigger=row.cause, backend=Backend(row.backend), latency_ms=row.latency_ms),
            status=cast(EventStatus, row.status),
            reason=row.reason,
            digest=row.digest,
            last_refresh=row.last_refresh,
            host=None,
        )


class EventCounts(Struct, frozen=True, kw_only=True):
    """Events of the last 24 hours."""

    validations_24h: int
    runner_store_24h: int


class Intent(Struct, frozen=True, kw_only=True):
    """A refresh that was begun."""

    id: int
    digest: Digest
    """Of the document whose refresh token may have been spent."""
    owner: str
    started_at: Moment
    finished_at: Moment | None
    outcome: IntentOutcome | None
    error: str | None

    @classmethod
    def of(cls, row: RefreshIntent) -> "Intent":
        """What is shown of a row."""
        return cls(
            id=row.id,
            digest=row.digest,
            owner=row.owner,
            started_at=row.started_at,
            finished_at=row.finished_at,
            outcome=None if row.outcome is None else IntentOutcome(row.outcome),
            error=row.error,
        )


class RefreshStatus(Struct, frozen=True, kw_only=True):
    """Who refreshes the canonical document, and when."""

    by: Refresher
    expires_at: Moment | None
    """When its access token ends."""
    due_at: Moment | None
    """When the server refreshes it."""
    intents: list[Intent]
    """The newest ones."""


class RunnerStatus(Struct, frozen=True, kw_only=True):
    """What checks the canonical document, and what it found."""

    enabled: bool
    off_reason: str | None
    backend: Backend
    check: str | None
    """Of the local backend."""
    runner_url: str | None
    base_url: str
    timeout_seconds: float
    last_daily_check: Day | None
    counts: EventCounts
    latest_validation: Event | None
    latest_runner_store: Event | None
    refresh: RefreshStatus


class RunnerRun(Struct, frozen=True, kw_only=True):
    """What a check that was asked for has found."""

    applied: bool
    """Whether a refreshed document was stored."""
    canonical_digest: Digest | None
    canonical_last_refresh: Moment | None
    runner_last_check: Day | None
    validation: Event | None
    pending: bool
    """Whether the check has not ended in the time that the call waited."""


class RetrieveBody(Struct, frozen=True, kw_only=True):
    """What a host says it holds."""

    command: Literal["retrieve"] = "retrieve"
    last_refresh: Moment
    """Of the document that the host has."""
    digest: Digest
    """SHA-256 of the compact document that the host has."""
    accepts: tuple[str, ...] = ()
    """`grant`, when the host can live with one in place of the refresh token."""
    client_version: str | None = None
    """The Codex that the host runs."""
    wrapper_version: str | None = None
    """The `cdx` that the host runs."""
    background: Scheduler | Literal["none"] | None = None
    """What has started this call, where that is the host's background sync; `none` where it was removed."""

    @property
    def instant(self) -> clock.Instant:
        """The moment of `last_refresh`."""
        return clock.parse_rfc3339(self.last_refresh)


class StoreBody(Secret, frozen=True, kw_only=True):
    """A document that a host wants to be canonical."""

    command: Literal["store"]
    auth: GivenDocument
    brought: Literal["login"] | None = None
    """The document comes from a login that a person has just made: it is newer than all that is known."""
    accepts: tuple[str, ...] = ()
    """`grant`, when the host can live with one in place of the refresh token."""
    client_version: str | None = None
    """The Codex that the host runs."""
    wrapper_version: str | None = None
    """The `cdx` that the host runs."""
    background: Scheduler | Literal["none"] | None = None
    """What has started this call, where that is the host's background sync; `none` where it was removed."""


class UploadBody(Secret, frozen=True, kw_only=True):
    """A document that an admin wants to be canonical."""

    auth: GivenDocument
    """Also as a text that holds the document."""
    host_id: int | Literal["system"] | None = None
    """A host's id; null or `system` for the fleet."""
    force: bool = False
    """Also when it is not newer."""

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "UploadBody":
        """The body `given`, its document decoded, and `host_id` an id or None. Raises `Invalid`."""
        document = given.get("auth")
        if isinstance(document, str):
            try:
                document = jsontext.decode(document.encode())
            except Malformed as error:
                raise Invalid({"auth": [f"is {error.message}"]}) from None
        host_id = _read_host_id(given.get("host_id"))
        return cls(auth=document, host_id=host_id, force=fields.boolean(given, "force", default=False))


class RollbackBody(Struct, frozen=True, kw_only=True):
    """Which document to take back."""

    id: int | Literal["previous"]

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "RollbackBody":
        """The body `given`. Raises `Invalid`."""
        found = read_reference(given.get("id"), "id")
        return cls(id=PREVIOUS if found is None else found)


def read_reference(value: object, field: str) -> int | None:
    """A document's id as given by a user; None for `previous`. Raises `Invalid` on `field`."""
    text = str(value).strip().lower() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if text == PREVIOUS:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid({field: [f'must be a document\'s id, or "{PREVIOUS}"; see: cdxsync auth history']})
    return int(text)


def _read_host_id(value: object) -> int | None:
    """The host of an upload; null, "", "system" and 0 mean the whole fleet (`docs/protocol.md 11.5`)."""
    if value in (None, "", "system", 0, "0") and not isinstance(value, bool):
        return None
    if isinstance(value, str) and len(value) < 19 and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Invalid({"host_id": ['must be a host\'s id, or "system"']})
    return value
