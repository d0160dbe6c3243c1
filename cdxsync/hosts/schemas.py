"""What answers say of hosts, and what bodies about them hold (`docs/protocol.md 2`)."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, cast, get_args

from msgspec import UNSET, Struct, UnsetType

from cdxsync.base import clock, fields
from cdxsync.base.errors import Invalid
from cdxsync.base.schema import Digest, Moment, Secret
from cdxsync.base.setting_values import read_bool
from cdxsync.store.tables import Host

HostStatus = Literal["active", "disabled"]
LoginRule = Literal["ask", "once", "always", "never"]
"""What becomes of a login of another account than the fleet's that a host stores: it is refused, and offered to admins
(`ask`) or not (`never`); or taken, the one that was offered (`once`) or each (`always`)."""


def login_rule(host: Host) -> LoginRule:
    """The rule for a host; a row without one has the rule that all hosts have at first."""
    return cast(LoginRule, host.other_account or "ask")


Scheduler = Literal["systemd", "launchd", "cron", "other"]
"""What starts a host's background sync; `other` is something that a person has set up."""
LATE = timedelta(hours=1)
"""A background sync calls every few minutes while its machine is awake."""
NO_SCHEDULER: Literal["none"] = "none"
"""What a host says that has no background sync any more."""


def read_background(value: object) -> Scheduler | Literal["none"] | None:
    """What a host says of its background sync; None when it says nothing, or something of a newer `cdx`."""
    known = (*get_args(Scheduler), NO_SCHEDULER)
    return cast(Scheduler, value) if isinstance(value, str) and value in known else None


class BackgroundSync(Struct, frozen=True, kw_only=True):
    """The sync of a host that runs every few minutes, without a run of `cdx` there."""

    by: Scheduler
    """What starts it."""
    at: Moment
    """When it last called."""

    @classmethod
    def of(cls, host: Host) -> "BackgroundSync | None":
        """That of a row, or None."""
        if host.background_by is None or host.background_at is None:
            return None
        return cls(by=cast(Scheduler, host.background_by), at=host.background_at)

    def is_late(self, at: datetime) -> bool:
        """Whether it should have called again by the time `at`."""
        return at - clock.read_stamp(self.at) > LATE


class HostSummary(Struct, frozen=True, kw_only=True):
    """A host, as answers to itself have it."""

    fqdn: str
    status: HostStatus
    last_refresh: Moment | None
    """Of the document that the host was last known to hold."""
    updated_at: Moment
    client_version: str | None
    """The Codex that it runs."""
    wrapper_version: str | None
    """The `cdx` that it runs."""
    api_calls: int
    allow_roaming_ips: bool

    @classmethod
    def of(cls, host: Host) -> "HostSummary":
        """The summary of a row."""
        return cls(
            fqdn=host.fqdn,
            status=cast(HostStatus, host.status),
            last_refresh=host.last_refresh,
            updated_at=host.updated_at,
            client_version=host.client_version,
            wrapper_version=host.wrapper_version,
            api_calls=host.api_calls,
            allow_roaming_ips=host.allow_roaming_ips,
        )


class HostBrief(Struct, frozen=True, kw_only=True):
    """A host, as answers to a change of it have it."""

    id: int
    fqdn: str
    status: HostStatus
    ip: str | None
    """The address that its key is bound to."""
    allow_roaming_ips: bool
    allow_store_auth: bool
    allow_store_prompts: bool
    allow_keep_auth: bool
    """Whether `cdx` keeps the credentials there after a run."""
    other_account: LoginRule
    """What becomes of a login of another account that it stores."""

    @classmethod
    def of(cls, host: Host) -> "HostBrief":
        """The brief form of a row."""
        return cls(
            id=host.id,
            fqdn=host.fqdn,
            status=cast(HostStatus, host.status),
            ip=host.ip,
            allow_roaming_ips=host.allow_roaming_ips,
            allow_store_auth=bool(host.allow_store_auth),
            allow_store_prompts=bool(host.allow_store_prompts),
            allow_keep_auth=bool(host.allow_keep_auth),
            other_account=login_rule(host),
        )


class HostChanged(Struct, frozen=True, kw_only=True):
    """A host after a change."""

    host: HostBrief

    @classmethod
    def of(cls, host: Host) -> "HostChanged":
        """The answer for a row."""
        return cls(host=HostBrief.of(host))


class HostSpared(Struct, frozen=True, kw_only=True):
    """A host of a list that kept its key, as it is in use."""

    host: HostBrief
    installer: None = None


class Cleared(Struct, frozen=True, kw_only=True):
    """What was known of a host's credentials, and was removed."""

    last_refresh: Moment | None
    auth_digest: Digest | None
    digests: int
    """How many of its recent digests."""
    states: int


class HostCleared(Struct, frozen=True, kw_only=True):
    """A host after what was known of its credentials was removed."""

    host: HostBrief
    cleared: Cleared


class HostPurged(Struct, frozen=True, kw_only=True):
    """A host, and what was undone of what it had done."""

    host: HostBrief
    prompts_restored: int
    """How many prompts have the newest text of another again."""
    prompts_deleted: int
    usage_rows: int


class HostDeleted(Struct, frozen=True, kw_only=True):
    """The id of a host that was deleted."""

    deleted: int


class Deregistered(Struct, frozen=True, kw_only=True):
    """The name of a host that has deleted itself."""

    deleted: str


class HostRegistered(HostSummary, Secret, frozen=True, kw_only=True):
    """A host with its new key."""

    id: int
    api_key: str
    """Shown this once."""


class Installer(Secret, frozen=True, kw_only=True):
    """What installs `cdx` on a host, once."""

    token: str
    url: str
    command: str
    """What to paste into a shell of the host."""
    expires_at: Moment


class Registered(Secret, frozen=True, kw_only=True):
    """A registered host with its key and its installer; both can be seen only here."""

    host: HostRegistered
    installer: Installer


class ApiState(Struct, frozen=True, kw_only=True):
    """The flag that marks the API as disabled."""

    disabled: bool


class ApiStateBody(Struct, frozen=True, kw_only=True):
    """The flag to set."""

    disabled: bool

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "ApiStateBody":
        """The body `given`. Raises `Invalid`."""
        return cls(disabled=fields.boolean(given, "disabled"))


class RegisterBody(Struct, frozen=True, kw_only=True):
    """Which host to register (`registry.checked_fqdn` reads it)."""

    fqdn: str


class RoamingBody(Struct, frozen=True, kw_only=True):
    """Whether a host may call from any address."""

    allow: bool

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "RoamingBody":
        """The body `given`. Raises `Invalid`."""
        return cls(allow=fields.boolean(given, "allow"))


class PermitBody(Struct, frozen=True, kw_only=True):
    """What a host may store for the whole fleet, and keep; what is missing stays as it is."""

    store_auth: bool | UnsetType = UNSET
    store_prompts: bool | UnsetType = UNSET
    keep_auth: bool | UnsetType = UNSET
    """Whether `cdx` keeps the credentials after a run."""

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "PermitBody":
        """The body `given`, as `_switches` reads it."""
        return cls(**_switches(cls.__struct_fields__, given))


class PurgeBody(Struct, frozen=True, kw_only=True):
    """What to undo of what a host has done; at least one of them."""

    prompts: bool = False
    """Its prompts: each gets the newest text of another back, or is deleted."""
    usage: bool = False
    """Its usage, in all totals too."""

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "PurgeBody":
        """The body `given`, as `_switches` reads it. Raises `Invalid` also when all is false."""
        found = _switches(cls.__struct_fields__, given)
        if not any(found.values()):
            raise Invalid({name: ["or another of them must be true"] for name in found})
        return cls(**found)


def _switches(names: Sequence[str], given: Mapping[str, Any]) -> dict[str, bool]:
    """Those of the fields `names` that a body has; one that is null counts as missing.

    Raises `Invalid` with all wrong fields, also when none is there.
    """
    changes: dict[str, bool] = {}
    errors: dict[str, list[str]] = {}
    for name in names:
        value = given.get(name)
        if value is None:
            continue
        try:
            changes[name] = read_bool(str(value) if value in (0, 1) else value)
        except ValueError:
            errors[name] = ["must be true or false (on or off)"]
    if not changes and not errors:
        problem = f"one of {', '.join(names)} is required: true or false"
        errors = {name: [problem] for name in names}
    if errors:
        raise Invalid(errors)
    return changes
