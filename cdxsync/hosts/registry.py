"""Hosts: registering, finding, changing and deleting them, and what answers say of them (`docs/protocol.md 2`)."""

from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET, structs
from peewee import fn

from cdxsync.base import clock
from cdxsync.base.errors import Invalid, NotFound
from cdxsync.base.names import check_fqdn as check_fqdn
from cdxsync.codex import versions
from cdxsync.hosts.schemas import Cleared, HostBrief, HostCleared, PermitBody
from cdxsync.security import apikeys
from cdxsync.store import audit, rights
from cdxsync.store.database import write
from cdxsync.store.queries import Prepared
from cdxsync.store.tables import Host, HostAuthDigest, HostAuthState, InstallToken, LoginOffer

ACTIVE = "active"
DISABLED = "disabled"
PERMITS = {"store_auth": "allow_store_auth", "store_prompts": "allow_store_prompts", "keep_auth": "allow_keep_auth"}
"""What a host may store for the whole fleet, and keep, until an admin says otherwise: names in requests, with their
columns."""
RECENT_DIGESTS = 3
_HAS_DIGEST = Prepared(
    lambda host, digest: HostAuthDigest.select(HostAuthDigest.id).where(
        (HostAuthDigest.host == host) & (HostAuthDigest.digest == digest)
    )
)


def find(reference: str) -> Host:
    """A host by id or FQDN. Raises `NotFound`."""
    text = reference.strip()
    if text.isascii() and text.isdigit() and len(text) < 19:
        return by_id(int(text))
    host = Host.get_or_none(Host.fqdn == text.lower().removesuffix("."))
    if host is None:
        raise NotFound(f"No host {reference!r}; cdxsync hosts list shows all", code="host_not_found")
    return host


def by_id(host_id: int) -> Host:
    """A host by id. Raises `NotFound`."""
    host = Host.get_or_none(Host.id == host_id) if 0 < host_id < 2**63 else None
    if host is None:
        raise NotFound(f"No host with id {host_id}; cdxsync hosts list shows all", code="host_not_found")
    return host


def names(prefix: str) -> list[str]:
    """The FQDNs that begin with `prefix`, in alphabetical order."""
    mine = Host.fqdn.startswith(prefix.lower())
    return [row.fqdn for row in Host.select(Host.fqdn).where(mine).order_by(Host.fqdn)]


def in_use(host: Host) -> bool:
    """Whether a host may be working with its key: it has called, or its installer was run."""
    if host.last_seen_at is not None or host.ip is not None:
        return True
    used = (InstallToken.host == host.id) & InstallToken.used_at.is_null(False)
    return bool(InstallToken.select(InstallToken.id).where(used).exists())


def loss_by_rotation(fqdn: str) -> str:
    """What stops when a host of this name is registered again, in words; "" where nothing does. Raises `Invalid`."""
    host = Host.get_or_none(Host.fqdn == checked_fqdn(fqdn))
    if host is None:
        return ""
    said = []
    if in_use(host):
        since = f", last at {host.last_seen_at}" if host.last_seen_at else ""
        said.append(
            f"{host.fqdn} is in use{since}: its key ends at once, and cdx there fails until the new installer was run."
        )
    if host.status != ACTIVE:
        said.append(f"{host.fqdn} is {host.status}: its new key is refused until cdxsync hosts enable {host.fqdn}.")
    return " ".join(said)


@dataclass(frozen=True)
class MintedKey:
    """A host with its new API key, which is shown only once."""

    host: Host
    api_key: str = field(repr=False)
    created: bool


def mint_key(fqdn: str, actor: str) -> MintedKey:
    """Register `fqdn`, or rotate its key when it is registered; within the caller's write transaction.

    Rotation revokes the old key and the address binding at once; the host's id, status, roaming and sync state stay.
    Raises `RowAltered`: permits that others have written must not outlive the key.
    """
    api_key = apikeys.mint()
    at = clock.stamp(clock.now())
    changes = {"api_key_sha256": apikeys.fingerprint(api_key), "ip": None, "blocked_at": None, "updated_at": at}
    known = Host.get_or_none(Host.fqdn == fqdn)
    created = known is None
    if known is not None:
        rights.update(Host, known.id, **changes)
    else:
        rights.insert(Host, fqdn=fqdn, created_at=at, **changes)
    host = Host.get(Host.fqdn == fqdn)
    audit.record("register", actor=actor, host=host, result="created" if created else "rotated")
    return MintedKey(host=host, api_key=api_key, created=created)


def checked_fqdn(value: object) -> str:
    """`check_fqdn` for a body's field `fqdn`. Raises `Invalid`."""
    try:
        return check_fqdn(value)
    except ValueError as error:
        raise Invalid({"fqdn": [str(error)]}) from None


def delete(host: audit.HostLike, *, actor: str, action: str) -> None:
    """Delete a host with its digests, state and installers; the canonical document stays (`docs/protocol.md 2.6`)."""
    write(lambda: remove(_get(host), actor=actor, action=action))


def remove(host: Host, *, actor: str, action: str, **details: str) -> None:
    """`delete`, within the caller's write transaction."""
    host.delete_instance()
    versions.note_reported(host.client_version, None)
    audit.record(action, actor=actor, host=None, fqdn=host.fqdn, host_id=host.id, **details)


def change(host: Host, *, actor: str, action: str, **changes: Any) -> Host:
    """Set columns of a host, with an audit row `action` that names them; returns the host as it is then.

    Raises `NotFound`, or `RowAltered` when its row was changed past cdxsync.
    """

    lifted = {"blocked_at": None} if "ip" in changes or changes.get("allow_roaming_ips") else {}

    def work() -> Host:
        rights.update(Host, host.id, updated_at=clock.stamp(clock.now()), **changes, **lifted)
        changed = _get(host)
        audit.record(action, actor=actor, host=changed, fqdn=changed.fqdn, **changes)
        return changed

    return write(work)


def set_roaming(host: Host, allow: bool, *, actor: str) -> Host:
    """Let a host call from any address, or only from the one that it is bound to."""
    return change(host, actor=actor, action="admin.host.roaming", allow_roaming_ips=allow)


def set_active(host: Host, active: bool, *, actor: str) -> Host:
    """Refuse all calls of a host, or accept them again; its key stays."""
    action = "admin.host.enable" if active else "admin.host.disable"
    return change(host, actor=actor, action=action, status=ACTIVE if active else DISABLED)


def set_permits(host: Host, wanted: PermitBody, *, actor: str) -> Host:
    """Let a host store auth documents or prompts for the fleet, or keep credentials after a run, or not."""
    changes = {PERMITS[name]: value for name, value in structs.asdict(wanted).items() if value is not UNSET}
    return change(host, actor=actor, action="admin.host.permit", **changes)


def unbind(host: Host, *, actor: str) -> Host:
    """Unbind a host from its address; its next call binds the one that it comes from."""
    return change(host, actor=actor, action="admin.host.unbind", ip=None)


def clear(host: Host, *, actor: str) -> HostCleared:
    """Delete the record of a host's document, with its recent digests and its offer (`docs/protocol.md 11.4`).

    Its key, its address and the fleet's canonical document stay; the host's next call reports its document again.
    """

    def work() -> HostCleared:
        before = _get(host)
        digests = HostAuthDigest.delete().where(HostAuthDigest.host == host.id).execute()
        states = HostAuthState.delete().where(HostAuthState.host == host.id).execute()
        LoginOffer.delete().where(LoginOffer.host == host.id).execute()
        Host.update(last_refresh=None, auth_digest=None, updated_at=clock.stamp(clock.now())).where(
            Host.id == host.id
        ).execute()
        audit.record(
            "admin.host.clear", actor=actor, host=host, fqdn=host.fqdn, auth_digest=before.auth_digest, digests=digests
        )
        cleared = Cleared(
            last_refresh=before.last_refresh, auth_digest=before.auth_digest, digests=digests, states=states
        )
        return HostCleared(host=HostBrief.of(_get(host)), cleared=cleared)

    return write(work)


def _get(host: audit.HostLike) -> Host:
    """The host as it is now. Raises `NotFound` when it has been deleted meanwhile."""
    found: Host | None = Host.get_or_none(Host.id == host.id)
    if found is None:
        raise NotFound(f"No host {host.fqdn!r}; cdxsync hosts list shows all", code="host_not_found")
    return found


def note_digest(host: Host, digest: str, *, refresh: bool) -> None:
    """Add `digest` to the recent ones of a host, within the caller's write transaction; the newest three stay.

    With `refresh` a digest that is listed already counts as seen again (`docs/protocol.md 2.8`).
    """
    listed = _HAS_DIGEST.row(host=host.id, digest=digest) is not None
    if listed and not refresh:
        return
    mine = HostAuthDigest.host == host.id
    newest = HostAuthDigest.select(fn.MAX(HostAuthDigest.last_seen)).where(mine).scalar()
    # The present digest is the newest, also after the clock was set back: otherwise it would be deleted at once.
    at = max(clock.stamp(clock.now()), str(newest or ""))
    if listed:
        HostAuthDigest.update(last_seen=at).where(mine & (HostAuthDigest.digest == digest)).execute()
    else:
        HostAuthDigest.insert(host=host.id, digest=digest, last_seen=at, created_at=at).execute()
    newest_first = (HostAuthDigest.last_seen.desc(), HostAuthDigest.id.desc())
    kept = HostAuthDigest.select(HostAuthDigest.id).where(mine).order_by(*newest_first).limit(RECENT_DIGESTS)
    HostAuthDigest.delete().where(mine & HostAuthDigest.id.not_in([row.id for row in kept])).execute()
