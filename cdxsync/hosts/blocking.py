"""Hosts that call from an address to which they are not bound, and are refused for it."""

from datetime import timedelta
from typing import Any

from cdxsync.base import clock
from cdxsync.hosts import registry
from cdxsync.store.database import write
from cdxsync.store.tables import Host

_PAUSE = timedelta(minutes=1)


def note_blocked(host: Host) -> None:
    """Remember that an active host was refused for its address; a write a minute, whatever comes in."""
    at = clock.now()
    if host.status == registry.ACTIVE and (blocked_at(host) or "") <= clock.stamp(at - _PAUSE):
        write(lambda: Host.update(blocked_at=clock.stamp(at)).where(Host.id == host.id).execute())


def blocked() -> Any:
    """The condition that a host's newest call was refused for its address."""
    since = Host.last_seen_at.is_null() | (Host.blocked_at >= Host.last_seen_at)
    return Host.blocked_at.is_null(False) & since


def blocked_at(host: Host) -> str | None:
    """When a host was refused for its address, None when it has called since."""
    return host.blocked_at if host.blocked_at is not None and host.blocked_at >= (host.last_seen_at or "") else None
