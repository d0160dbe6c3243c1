"""What answers say of the audit log, and of its chain."""

from typing import Literal

from msgspec import Struct

from cdxsync.base.schema import Moment
from cdxsync.store.tables import LogEntry


class LogRow(Struct, frozen=True, kw_only=True):
    """One thing that was done."""

    id: int
    host_id: int | None
    fqdn: str | None
    """Of the host that it concerns; null also when that has been deleted."""
    actor: str
    """`host:NAME`, `cert:SUBJECT#SERIAL`, `proxy:SUBJECT#SERIAL`, `os-user:NAME`, `server` or `anyone`."""
    action: str
    details: str | None
    """JSON, without secrets."""
    created_at: Moment
    request_id: str | None
    ip: str | None
    """The address from which the request came; null for what the server or a command line did."""

    @classmethod
    def of(cls, row: LogEntry) -> "LogRow":
        """A row, selected with its host."""
        return cls(
            id=row.id,
            host_id=row.host_id,
            fqdn=getattr(row.host, "fqdn", None),
            actor=row.actor,
            action=row.action,
            details=row.details,
            created_at=row.created_at,
            request_id=row.request_id,
            ip=row.ip,
        )


class LogPage(Struct, frozen=True, kw_only=True):
    """The newest rows of the audit log."""

    logs: list[LogRow]
    next_before: int | None
    """`before` of the next page; null on the last."""


class LogProblem(Struct, frozen=True, kw_only=True):
    """Something that others did to the audit log."""

    kind: Literal["changed", "removed", "added", "unsealed", "checkpoint"]
    """`unsealed`: written without the keyring, so by an older server, or added."""
    id: int | None
    """Of the row, or of the one after rows that were removed; null at the end of the log."""
    seq: int | None
    """The row's number in the chain, or that of the first one that was removed."""
    problem: str


class LogsVerified(Struct, frozen=True, kw_only=True):
    """Whether the audit log is as it was written."""

    ok: bool
    checked: int
    """How many rows are in the chain, and are as they were written."""
    before: int
    """How many rows are older than the chain, and not checked."""
    since: Moment | None
    """When the chain was begun, or the last rows were deleted with age; null without rows."""
    problems: list[LogProblem]
    """The oldest first, at most 20."""
    more: int
    """How many problems there are beside those."""
