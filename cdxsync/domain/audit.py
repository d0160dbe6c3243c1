"""The audit log: one row for each thing done, with who did it."""

import json

from cdxsync.domain import clock
from cdxsync.store.database import write
from cdxsync.store.tables import Host, LogEntry

ANYONE = "anyone"
"""Actor of a call that proves nothing but a single-use token."""


def host_actor(host: Host) -> str:
    """The actor of a call that a host made with its key."""
    return f"host:{host.fqdn}"


def record(action: str, *, actor: str, host: Host | None = None, **details: object) -> None:
    """Add a row, within the caller's transaction. `details` must hold no secret."""
    LogEntry.insert(
        host=host.id if host is not None else None,
        actor=actor[:255],
        action=action,
        details=json.dumps(details, ensure_ascii=False) if details else None,
        created_at=clock.stamp(clock.now()),
    ).execute()


def note(action: str, *, host: Host | None = None, actor: str | None = None, **details: object) -> None:
    """Add a row in a transaction of its own; the actor is the host, or anyone, where none is named."""
    name = actor or (host_actor(host) if host is not None else ANYONE)
    write(lambda: record(action, actor=name, host=host, **details))
