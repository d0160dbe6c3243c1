"""Token usage: recording it with its daily roll-ups, and totals that never scan its rows."""

from datetime import datetime
from typing import Any

from peewee import JOIN, fn

from cdxsync.domain import audit, clock, hosts, idempotency, usage_entries
from cdxsync.domain.usage_entries import Entry
from cdxsync.store.database import reachable, write
from cdxsync.store.tables import Host, TokenUsage, UsageDay

_COLUMNS = {
    "total": "total",
    "input": "input_tokens",
    "output": "output_tokens",
    "cached": "cached_tokens",
    "reasoning": "reasoning_tokens",
}
_SUMS = {name: getattr(UsageDay, column) for name, column in _COLUMNS.items()} | {"events": UsageDay.events}


def record(caller: Host, body: dict[str, Any], raw_body: bytes, key: str | None) -> dict[str, Any]:
    """Store the entries of a `POST /usage` body, all or none; returns the answer's `data` (`contract.md` 4.6).

    `key` is the call's `Idempotency-Key`. Raises `Invalid`.
    """
    key = idempotency.check_key(key)
    entries = usage_entries.read_body(body)

    def work() -> dict[str, Any]:
        host = hosts.still_valid(caller.id, caller.api_key_sha256)
        return idempotency.once(host, key, raw_body, lambda: _store(host, entries))

    return write(work)


def _store(host: Host, entries: list[Entry]) -> dict[str, Any]:
    at = clock.now()
    stamp = clock.stamp(at)
    Host.update(last_seen_at=stamp).where(Host.id == host.id).execute()
    rows = []
    for entry in entries:
        TokenUsage.insert(
            host=host.id,
            model=entry.model,
            line=entry.line,
            created_at=stamp,
            **{_COLUMNS[name]: count for name, count in entry.numbers().items()},
        ).execute()
        shown = {"line": entry.line, **entry.numbers(), "model": entry.model}
        given = {name: value for name, value in shown.items() if value is not None}
        audit.record("token.usage", actor=audit.host_actor(host), host=host, **given)
        rows.append({"recorded_at": stamp, **shown})
    _roll_up(host, at, entries)
    data: dict[str, Any] = {"host_id": host.id, "recorded": len(rows), "usages": rows}
    return data | rows[0] if len(rows) == 1 else data


def _roll_up(host: Host, at: datetime, entries: list[Entry]) -> None:
    """Add entries to the totals of their host, day and model, in the transaction that stores them."""
    for model in sorted({entry.model or "" for entry in entries}):
        mine = [entry for entry in entries if (entry.model or "") == model]
        sums = {column: sum(getattr(entry, name) or 0 for entry in mine) for name, column in _COLUMNS.items()} | {
            "events": len(mine)
        }
        place = {"host": host.id, "day": at.strftime("%Y-%m-%d"), "model": model}
        where = (UsageDay.host == host.id) & (UsageDay.day == place["day"]) & (UsageDay.model == model)
        added = {column: getattr(UsageDay, column) + count for column, count in sums.items()}
        if not UsageDay.update(added).where(where).execute():
            UsageDay.insert(**place, **sums).execute()


def month_totals(at: datetime, host: Host | None = None) -> dict[str, int]:
    """TokenTotals (`contract.md` 1.7) of the UTC month of `at`, of one host or of the fleet."""
    month = at.strftime("%Y-%m")
    in_month = (UsageDay.day >= f"{month}-01") & (UsageDay.day <= f"{month}-31")
    where = in_month if host is None else in_month & (UsageDay.host == host)
    sums = [fn.COALESCE(fn.SUM(column), 0) for column in _SUMS.values()]
    row: tuple[Any, ...] = UsageDay.select(*sums).where(where).tuples().get()  # type: ignore[assignment]
    return {name: int(value) for name, value in zip(_SUMS, row, strict=True)}


def days(month: str) -> list[dict[str, Any]]:
    """The roll-ups of a month (`YYYY-MM`) by day, host and model."""
    with reachable():
        rows = (
            UsageDay.select(UsageDay, Host.fqdn)
            .join(Host, JOIN.LEFT_OUTER)
            .where((UsageDay.day >= f"{month}-01") & (UsageDay.day <= f"{month}-31"))
            .order_by(UsageDay.day, Host.fqdn, UsageDay.model)
        )
        return [
            {
                "day": row.day,
                "fqdn": getattr(row.host, "fqdn", None),
                "model": row.model or None,
                **{name: getattr(row, column) for name, column in _COLUMNS.items()},
                "events": row.events,
            }
            for row in rows
        ]


def recent(limit: int) -> list[dict[str, Any]]:
    """The newest usage rows, as `GET /admin/usage` lists them (`contract.md` 9.2)."""
    with reachable():
        rows = (
            TokenUsage.select(TokenUsage, Host.fqdn)
            .join(Host, JOIN.LEFT_OUTER)
            .order_by(TokenUsage.id.desc())
            .limit(limit)
        )
        return [
            {
                "id": row.id,
                "host_id": row.host_id,
                "fqdn": getattr(row.host, "fqdn", None),
                **{name: getattr(row, column) for name, column in _COLUMNS.items()},
                "model": row.model,
                "line": row.line,
                "created_at": row.created_at,
            }
            for row in rows
        ]
