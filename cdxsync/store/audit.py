"""The audit log: one row per action, with its actor, each linked to the one before (`store.audit_chain`)."""

import json
import weakref
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from peewee import JOIN

from cdxsync.base import clock
from cdxsync.store import audit_chain
from cdxsync.store.database import Database, current, write
from cdxsync.store.queries import Prepared, newest_first
from cdxsync.store.schemas import LogPage, LogRow
from cdxsync.store.tables import Host, LogEntry, proxy

ANYONE = "anyone"
"""Actor of a call that shows only a single-use token."""
MAX_ROWS = 500
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the HTTP request of this context; rows have it."""
client_ip: ContextVar[str | None] = ContextVar("client_ip", default=None)
"""The address of the client of that request; rows have it."""
_encode = json.JSONEncoder(ensure_ascii=False).encode
_INSERT = Prepared(
    lambda host, actor, action, details, created_at, request_id, ip, seq, host_ref, hash, mac: LogEntry.insert(
        host=host,
        actor=actor,
        action=action,
        details=details,
        created_at=created_at,
        request_id=request_id,
        ip=ip,
        seq=seq,
        host_ref=host_ref,
        hash=hash,
        mac=mac,
    )
)
_INSERT_IN_OLD_SCHEMA = Prepared(
    lambda host, actor, action, details, created_at, request_id: LogEntry.insert(
        host=host, actor=actor, action=action, details=details, created_at=created_at, request_id=request_id
    )
)
_of_present_schema: "weakref.WeakSet[Database]" = weakref.WeakSet()


class HostLike(Protocol):
    """A host's row, or the host that calls."""

    @property
    def id(self) -> Any:
        """The row's id."""

    @property
    def fqdn(self) -> Any:
        """The host's name."""


def host_actor(host: HostLike) -> str:
    """The actor of a call that a host made with its key."""
    return f"host:{host.fqdn}"


def record(action: str, *, actor: str, host: HostLike | None = None, **details: object) -> None:
    """Add a row, within the caller's transaction. `details` must hold no secret."""
    host_id = host.id if host is not None else None
    row = {
        "actor": actor[:255],
        "action": action,
        "details": _encode(details) if details else None,
        "created_at": clock.stamp(clock.now()),
        "request_id": request_id.get(),
    }
    if not has_chain():
        _INSERT_IN_OLD_SCHEMA.execute(host=host_id, **row)
        return
    row["ip"] = client_ip.get()
    link = audit_chain.link(host_id, tuple(row[name] for name in audit_chain.COVERED))
    _INSERT.execute(host=host_id, **row, **link)


def has_chain() -> bool:
    """Whether the database has the columns of the chain: a backup is also made, and restored, before it is migrated."""
    here = current()
    if here not in _of_present_schema:
        if not any(column.name == "seq" for column in proxy.get_columns("logs")):
            return False
        _of_present_schema.add(here)
    return True


def note(action: str, *, host: HostLike | None = None, actor: str | None = None, **details: object) -> None:
    """Add a row in a transaction of its own; without `actor` it is the host, or anyone."""
    name = actor or (host_actor(host) if host is not None else ANYONE)

    def work() -> None:
        # It may have been deleted since the caller has seen it.
        is_here = host is not None and Host.select(Host.id).where(Host.id == host.id).exists()
        record(action, actor=name, host=host if is_here else None, **details)

    write(work)


@dataclass(frozen=True)
class Wanted:
    """A filter of rows: host, beginning of the action, text in the actor, text in actor or details."""

    host: Host | None = None
    action: str = ""
    actor: str = ""
    text: str = ""


ALL = Wanted()


def recent(limit: int, wanted: Wanted = ALL, *, before: int | None = None, after: int | None = None) -> LogPage:
    """The newest rows, as `GET /admin/logs` lists them (`docs/protocol.md 11.7`).

    With `after` only those that are newer than the row with that id.
    """
    query = _rows(wanted)
    if after is not None:
        query = query.where(LogEntry.id > after)
    rows, next_before = newest_first(query, LogEntry.id, limit=limit, before=before)
    return LogPage(logs=[LogRow.of(row) for row in rows], next_before=next_before)


def since(last_id: int, limit: int, wanted: Wanted = ALL) -> list[LogRow]:
    """The rows after the one with `last_id`, oldest first, at most `limit`."""
    rows = _rows(wanted).where(LogEntry.id > last_id).order_by(LogEntry.id).limit(limit)
    return [LogRow.of(row) for row in rows]


def _rows(wanted: Wanted) -> Any:
    query = LogEntry.select(LogEntry, Host.id, Host.fqdn).join(Host, JOIN.LEFT_OUTER)
    if wanted.host is not None:
        query = query.where(LogEntry.host == wanted.host.id)
    if wanted.action:
        query = query.where(LogEntry.action.startswith(wanted.action))
    if wanted.actor:
        query = query.where(LogEntry.actor.contains(wanted.actor))
    if wanted.text:
        query = query.where(LogEntry.actor.contains(wanted.text) | LogEntry.details.contains(wanted.text))
    return query


def latest_at() -> str | None:
    """When the newest row was written."""
    row = LogEntry.select(LogEntry.created_at).order_by(LogEntry.id.desc()).first()
    return None if row is None else str(row.created_at)
