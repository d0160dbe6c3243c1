"""Admission: which host calls, and whether it may, from this address (`docs/protocol.md 2`).

It is decided by the host's row, and decided again within the transaction that does what the call wants (`Caller.row`):
a rotated key, a disabled host or another address in between lets nothing be stored.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from cdxsync.base import clock
from cdxsync.base.errors import CdxsyncError, Refused, Unauthenticated
from cdxsync.hosts.registry import ACTIVE, PERMITS
from cdxsync.security import apikeys
from cdxsync.security.addresses import Address
from cdxsync.store import audit, rights
from cdxsync.store.database import write
from cdxsync.store.queries import Prepared
from cdxsync.store.tables import Host

_BY_KEY = Prepared(lambda fingerprint: Host.select().where(Host.api_key_sha256 == fingerprint))
_BLOCKED_PAUSE = timedelta(minutes=1)
_THINGS = {"store_auth": "auth.json", "store_prompts": "prompts"}
_CODES = {"store_auth": "store_not_permitted", "store_prompts": "prompts_not_permitted"}
_MAX_REMEMBERED = 20_000


class RowChanged(Exception):
    """Within a transaction: the host's row does not admit the caller any more; `answer` is why."""

    def __init__(self, answer: CdxsyncError) -> None:
        super().__init__(answer.message)
        self.answer = answer


class _Remembered(NamedTuple):
    """An active host with the address that it is bound to, as it was when it last called."""

    id: int
    fqdn: str
    address: str


class Memory:
    """The hosts that have called lately, by the SHA-256 of their keys; of one server process."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Remembered] = {}

    def recall(self, api_key: str, address: str) -> "Caller | None":
        """The caller with this key, when it has called from this address before; its row is not looked at."""
        fingerprint = apikeys.fingerprint(api_key[: apikeys.MAX_LENGTH + 1])  # of longer ones none is known
        host = self._hosts.get(fingerprint)
        if host is None or host.address != address:
            return None
        return Caller(host.id, host.fqdn, api_key, fingerprint, address, memory=self, recalled=True)

    def remember(self, caller: "Caller") -> None:
        """Remember a host that its row has just admitted, for its next call."""
        if len(self._hosts) >= _MAX_REMEMBERED:
            self._hosts.clear()
        self._hosts[caller.api_key_sha256] = _Remembered(caller.id, caller.fqdn, caller.address)

    def forget(self, caller: "Caller") -> None:
        """Look at the row again next time."""
        self._hosts.pop(caller.api_key_sha256, None)


@dataclass(frozen=True)
class Caller:
    """A host that calls: who (`id` and `fqdn` of its row), with which key, and from where.

    One that is `recalled` was let pass by what its last call has left in the `memory`, without a look at its row.
    """

    id: int
    fqdn: str
    api_key: str = field(repr=False)
    api_key_sha256: str
    address: str
    memory: Memory | None = field(default=None, repr=False)
    recalled: bool = False

    def row(self, *, anywhere: bool = False) -> Host:
        """The host as it is now, within a write transaction, when it may call with this key from this address.

        With `anywhere` the address does not matter, and is not bound. Raises `RowChanged`.
        """
        try:
            host = _with_key(self.id, self.api_key_sha256)
            check_active(host)
            if anywhere:
                return host
            if host.ip == self.address:
                if self.memory is not None:
                    self.memory.remember(self)
            elif not host.ip or not host.allow_roaming_ips:  # without an address it is to be bound first
                raise _elsewhere()
            else:  # another process, or a concurrent call, bound the address that the host roamed to
                _bind(host, self.address)
                host.ip = self.address
        except (Unauthenticated, Refused) as error:
            raise RowChanged(error) from None
        return host


def authenticate(api_key: str | None) -> Host:
    """The host whose key this is.

    Raises `Unauthenticated` with the texts that the reference client matches (`docs/protocol.md 16.1`).
    """
    if not api_key:
        raise Unauthenticated("API key missing", code="key_missing")
    if len(api_key) > apikeys.MAX_LENGTH:
        raise Unauthenticated("Invalid API key", code="key_invalid")
    host = _by_key(apikeys.fingerprint(api_key))
    if host is None:
        raise Unauthenticated("Invalid API key", code="key_invalid")
    return host


def _by_key(fingerprint: str) -> Host | None:
    """The host with this key; None also for a row that was written past cdxsync. Raises `UnknownKey`."""
    host: Host | None = _BY_KEY.model(fingerprint=fingerprint)
    return host if host is not None and rights.is_good(host) else None


def check_active(host: Host) -> None:
    """Raise `Refused` when an admin has disabled the host."""
    if host.status != ACTIVE:
        raise Refused("Host is disabled", code="host_disabled")


class AddressDecision(StrEnum):
    """What a caller's address means for its host; values other than the first and last are audit actions."""

    KNOWN = "known"
    BIND = "auth.bind_ip"
    ROAM = "auth.roaming_ip"
    REFUSE = "refuse"


def decide_address(bound: str | None, caller: str, *, roaming: bool) -> AddressDecision:
    """The address rule (`docs/protocol.md 2.3`), both addresses normalised: the first caller binds."""
    if not bound:
        return AddressDecision.BIND
    if bound == caller:
        return AddressDecision.KNOWN
    return AddressDecision.ROAM if roaming else AddressDecision.REFUSE


def is_elsewhere(host: Host, caller: Address) -> bool:
    """Whether the address rule refuses a call from this address, by the host's row as it was read."""
    return decide_address(host.ip, str(caller), roaming=host.allow_roaming_ips) is AddressDecision.REFUSE


def admit_address(host: Host, caller: Address, *, bind: bool = True) -> None:
    """Apply the address rule to a call; binds the address when the rule says so, and `bind` does not forbid it.

    Raises `Refused` when the key is bound to another address.
    """
    address = str(caller)
    decision = decide_address(host.ip, address, roaming=host.allow_roaming_ips)
    if bind and decision is not AddressDecision.KNOWN:
        decision = write(lambda: _bind(host, address))
    if decision is AddressDecision.REFUSE:
        raise _elsewhere()


def _elsewhere() -> Refused:
    return Refused("API key not allowed from this IP", code="address_not_bound")


def _with_key(host_id: int, api_key_sha256: str) -> Host:
    """The host as it is now, within a write transaction, when the key that was authenticated is still its key.

    A rotation may have come in between; its old key must neither bind an address nor store anything.
    Raises `Unauthenticated`.
    """
    host = _by_key(api_key_sha256)
    if host is None or host.id != host_id:
        raise Unauthenticated("Invalid API key", code="key_invalid")
    return host


def _bind(host: Host, address: str) -> AddressDecision:
    """Decide by the row as it is now, and bind the address where the rule says so; within a write transaction."""
    fresh = _with_key(host.id, host.api_key_sha256)
    decision = decide_address(fresh.ip, address, roaming=fresh.allow_roaming_ips)
    if decision in (AddressDecision.KNOWN, AddressDecision.REFUSE):
        return decision
    rights.update(Host, host.id, ip=address, updated_at=clock.stamp(clock.now()))
    if decision is AddressDecision.BIND:
        audit.record(decision.value, actor=audit.host_actor(fresh), host=fresh, ip=address)
    else:
        audit.record(decision.value, actor=audit.host_actor(fresh), host=fresh, previous_ip=fresh.ip, ip=address)
    return decision


def permit_refusal(host: Host, permit: str) -> Refused | None:
    """Why `host` may not do what `permit` (a name of `registry.PERMITS`) allows; None when it may."""
    if getattr(host, PERMITS[permit]):
        return None
    return Refused(
        f"This host may not store {_THINGS[permit]}; an admin allows it with:"
        f" cdxsync hosts permit {host.fqdn} --{permit.replace('_', '-')} on",
        code=_CODES[permit],
    )


def note_blocked(host: Host) -> None:
    """Record that an active host was refused for its address; at most one write a minute."""
    at = clock.now()
    if host.status == ACTIVE and (blocked_at(host) or "") <= clock.stamp(at - _BLOCKED_PAUSE):
        write(lambda: Host.update(blocked_at=clock.stamp(at)).where(Host.id == host.id).execute())


def blocked() -> Any:
    """The condition that a host's newest call was refused for its address."""
    since = Host.last_seen_at.is_null() | (Host.blocked_at >= Host.last_seen_at)
    return Host.blocked_at.is_null(False) & since


def blocked_at(host: Host) -> str | None:
    """When a host was refused for its address, None when it has called since."""
    return host.blocked_at if host.blocked_at is not None and host.blocked_at >= (host.last_seen_at or "") else None
