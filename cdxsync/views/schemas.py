"""What answers say of the fleet as a whole: the overview, hosts with what they hold and use, and certificates."""

from typing import Literal, cast

from msgspec import UNSET, Struct, UnsetType

from cdxsync.auth.account_schemas import LoginOffered
from cdxsync.auth.schemas import Canonical
from cdxsync.background.schemas import BackgroundReport
from cdxsync.base import clock
from cdxsync.base.schema import Digest, Document, Moment, Secret
from cdxsync.codex.schemas import Versions
from cdxsync.hosts import admission
from cdxsync.hosts.schemas import BackgroundSync, HostBrief, HostStatus, HostSummary, LoginRule, login_rule
from cdxsync.security.pki import CertificateInfo, Kind, Status
from cdxsync.store.schemas import LogRow
from cdxsync.store.tables import Host
from cdxsync.usage.schemas import FleetTotals, LatestUsage, TokenTotals


class HostItem(HostSummary, frozen=True, kw_only=True):
    """A host in the list."""

    id: int
    ip: str | None
    """The address that its key is bound to."""
    canonical_digest: Digest | None
    """Of the document that the host was last known to hold."""
    recent_digests: list[Digest]
    authed: bool
    """Whether it has ever held a document."""
    token_usage: LatestUsage | None
    last_seen_at: Moment | None
    blocked_at: Moment | None
    """When its newest call was refused for its address."""
    created_at: Moment
    allow_store_auth: bool
    allow_store_prompts: bool
    allow_keep_auth: bool
    """Whether `cdx` keeps the credentials there after a run."""
    other_account: LoginRule
    """What becomes of a login of another account that it stores."""
    holds: Literal["grant", "login"] | None
    """What it has of the fleet's login: a grant, or the login itself with what refreshes it; null for nothing yet."""
    given_at: Moment | None
    """When it was given that; null where that is not known."""
    background_sync: BackgroundSync | None
    """Its sync that runs every few minutes; null where there is none."""

    @classmethod
    def listed(
        cls,
        host: Host,
        recent_digests: list[str],
        token_usage: LatestUsage | None,
        given: tuple[str, str] | None,
    ) -> "HostItem":
        """A row with what other tables have of it; `given` is what it was given last, and when."""
        holds = given[0] if given is not None else "login" if host.auth_digest else None
        return cls(
            fqdn=host.fqdn,
            status=cast(HostStatus, host.status),
            last_refresh=host.last_refresh,
            updated_at=host.updated_at,
            client_version=host.client_version,
            wrapper_version=host.wrapper_version,
            api_calls=host.api_calls,
            allow_roaming_ips=host.allow_roaming_ips,
            id=host.id,
            ip=host.ip,
            canonical_digest=host.auth_digest,
            recent_digests=recent_digests,
            authed=bool(host.auth_digest),
            token_usage=token_usage,
            last_seen_at=host.last_seen_at,
            blocked_at=admission.blocked_at(host),
            created_at=host.created_at,
            allow_store_auth=bool(host.allow_store_auth),
            allow_store_prompts=bool(host.allow_store_prompts),
            allow_keep_auth=bool(host.allow_keep_auth),
            other_account=login_rule(host),
            holds=cast(Literal["grant", "login"] | None, holds),
            given_at=given[1] if given is not None else None,
            background_sync=BackgroundSync.of(host),
        )


class HostList(Struct, frozen=True, kw_only=True):
    """All hosts, by name."""

    hosts: list[HostItem]


class HostShown(Struct, frozen=True, kw_only=True):
    """One host."""

    host: HostItem
    offer: LoginOffered | None
    """A login of another account that it has."""


class HostHolding(HostBrief, frozen=True, kw_only=True):
    """A host with what it held when it last called."""

    last_refresh: Moment | None
    auth_digest: Digest | None
    updated_at: Moment
    client_version: str | None
    wrapper_version: str | None


class HostCredentials(Secret, frozen=True, kw_only=True):
    """The credentials of a host beside the fleet's."""

    host: HostHolding
    canonical_last_refresh: Moment | None
    canonical_digest: Digest | None
    in_sync: bool
    """Whether the host held the canonical document when it last called."""
    recent_digests: list[Digest]
    api_calls: int
    auth: Document | UnsetType | None = UNSET
    """The canonical document, where it was asked for."""


class ClientCertificate(Struct, frozen=True, kw_only=True):
    """The certificate that the caller has shown; null stands for what a proxy does not say of it."""

    subject: str | None
    issuer: str | None
    serial: str | None
    """Hexadecimal."""
    fingerprint: str | None


class FleetStates(Struct, frozen=True, kw_only=True):
    """How many hosts there are, and in which state; each counts in one."""

    hosts: int
    disabled: int
    blocked: int
    """Their newest call was refused for its address."""
    never_seen: int
    in_sync: int
    behind: int


class Overview(BackgroundReport, frozen=True, kw_only=True):
    """The fleet at a glance."""

    mtls: ClientCertificate | None
    totals: FleetStates
    canonical: Canonical | None
    api_disabled: bool
    latest_log_at: Moment | None
    last_refresh: Moment | None
    """The newest of the documents that hosts hold."""
    avg_refresh_age_days: float | None
    versions: Versions
    tokens: FleetTotals
    tokens_month: TokenTotals


class FleetNow(Struct, frozen=True, kw_only=True):
    """The fleet at a glance, with today's tokens and the newest of the audit log."""

    overview: Overview
    tokens_today: TokenTotals
    logs: list[LogRow]


class Certificate(Struct, frozen=True, kw_only=True):
    """A certificate of this server or of an admin."""

    kind: Kind
    name: str
    subject: str
    serial: str
    """Hexadecimal."""
    not_before: Moment
    not_after: Moment
    fingerprint: str
    status: Status
    revoked_at: Moment | None

    @classmethod
    def of(cls, info: CertificateInfo) -> "Certificate":
        """What is known of a certificate."""
        return cls(
            kind=info.kind,
            name=info.name,
            subject=info.subject,
            serial=info.serial,
            not_before=clock.stamp(info.not_before),
            not_after=clock.stamp(info.not_after),
            fingerprint=info.fingerprint,
            status=info.status,
            revoked_at=None if info.revoked_at is None else clock.stamp(info.revoked_at),
        )


class CertificateFiles(Certificate, frozen=True, kw_only=True):
    """A certificate that was issued, with its files."""

    certificate: str
    key: str


class CertificateExport(Certificate, frozen=True, kw_only=True):
    """A certificate that was exported, with its file."""

    file: str


class CertificateList(Struct, frozen=True, kw_only=True):
    """All certificates."""

    certificates: list[Certificate]
