"""What answers say of the audit log."""

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
        )


class LogPage(Struct, frozen=True, kw_only=True):
    """The newest rows of the audit log."""

    logs: list[LogRow]
    next_before: int | None
    """`before` of the next page; null on the last."""
