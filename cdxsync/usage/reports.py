"""What admins and hosts see of token usage: totals from the roll-ups, and the newest rows."""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from peewee import JOIN, fn

from cdxsync.base import clock
from cdxsync.base.errors import Invalid
from cdxsync.store.queries import Prepared, newest_first
from cdxsync.store.tables import Counters, Host, TokenUsage, UsageDay, UsageFleetDay, UsageLine
from cdxsync.usage.recording import COLUMNS

MAX_ROWS = 500
MAX_LINES = 200


def columns(table: type[Counters]) -> dict[str, Any]:
    """The counts of a roll-up by the names that answers have for them."""
    return {name: getattr(table, column) for name, column in COLUMNS.items()} | {"events": table.events}


def _sums(table: type[Counters]) -> Any:
    return table.select(*(fn.COALESCE(fn.SUM(column), 0) for column in columns(table).values()))


def _totals(row: Any) -> dict[str, int]:
    """TokenTotals (`docs/protocol.md 6.5`) of the sums over rows of a roll-up."""
    return {name: int(value) for name, value in zip((*COLUMNS, "events"), row, strict=True)}


def in_month(day: Any, month: str) -> Any:
    """The condition that a column of days lies in a month (`YYYY-MM`)."""
    return (day >= f"{month}-01") & (day <= f"{month}-31")


_HOST_SPAN = Prepared(
    lambda host, first, last: _sums(UsageDay).where(
        (UsageDay.host == host) & (UsageDay.day >= first) & (UsageDay.day <= last)
    )
)


def host_month_totals(at: datetime, host: Host) -> dict[str, int]:
    """TokenTotals of one host in the UTC month of `at`."""
    month = at.strftime("%Y-%m")
    return _totals(_HOST_SPAN.row(host=host.id, first=f"{month}-01", last=f"{month}-31"))


def fleet_month_totals(at: datetime) -> dict[str, int]:
    """TokenTotals of the whole fleet in the UTC month of `at`."""
    return _totals(_sums(UsageFleetDay).where(in_month(UsageFleetDay.day, at.strftime("%Y-%m"))).tuples().get())


def fleet_day_totals(at: datetime) -> dict[str, int]:
    """TokenTotals of the whole fleet in the UTC day of `at`."""
    return _totals(_sums(UsageFleetDay).where(UsageFleetDay.day == at.strftime("%Y-%m-%d")).tuples().get())


def fleet_totals() -> dict[str, Any]:
    """TokenTotals of all time, with `top_host`: `host_id`, `fqdn` and `total`, or None (`docs/protocol.md 11.3`)."""
    top = Host.select(Host.id, Host.fqdn, Host.usage_total).where(Host.usage_total > 0)
    row = top.order_by(Host.usage_total.desc(), Host.id).first()
    shown = None if row is None else {"host_id": row.id, "fqdn": row.fqdn, "total": row.usage_total}
    return {**_totals(_sums(UsageFleetDay).tuples().get()), "top_host": shown}


def month_models(month: str) -> list[dict[str, Any]]:
    """The totals of a month (`YYYY-MM`) by model, None for usage without one; by total, highest first."""
    counted = columns(UsageFleetDay)
    sums = [fn.SUM(column).alias(f"sum_{name}") for name, column in counted.items()]
    rows: Iterable[Any] = (
        UsageFleetDay.select(UsageFleetDay.model, *sums)
        .where(in_month(UsageFleetDay.day, month))
        .group_by(UsageFleetDay.model)
        .tuples()
    )
    found = [
        {"model": row[0] or None, **{name: int(value) for name, value in zip(counted, row[1:], strict=True)}}
        for row in rows
    ]
    return sorted(found, key=lambda row: (-row["total"], row["model"] or ""))


def check_month(value: str | None) -> str:
    """A month as `YYYY-MM`, or this one. Raises `Invalid`."""
    if not value:
        return clock.now().strftime("%Y-%m")
    if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", value):
        raise Invalid({"month": ["must be YYYY-MM, such as 2026-01"]})
    return value


def month_report(month: str, host: Host | None = None) -> dict[str, Any]:
    """A month by day, host and model: `month`, and `days` with the five counts and `events`."""
    counted = columns(UsageDay)
    query = (
        UsageDay.select(UsageDay.day, UsageDay.host_id, Host.fqdn, UsageDay.model, *counted.values())
        .join(Host, JOIN.LEFT_OUTER)
        .where(in_month(UsageDay.day, month))
        .order_by(UsageDay.day, Host.fqdn.asc(nulls="FIRST"), UsageDay.model, UsageDay.id)
    )
    rows: Iterable[Any] = (query if host is None else query.where(UsageDay.host == host.id)).tuples()
    days = [
        {
            "day": row[0],
            "host_id": row[1],
            "fqdn": row[2],
            "model": row[3] or None,
            **dict(zip(counted, row[4:], strict=True)),
        }
        for row in rows
    ]
    return {"month": month, "days": days}


def recent(limit: int, *, host: Host | None = None, before: int | None = None) -> dict[str, Any]:
    """`usages`: the newest rows, as `GET /admin/usage` lists them (`docs/protocol.md 11.8`), and `next_before`."""
    query = TokenUsage.select(TokenUsage, Host.id, Host.fqdn).join(Host, JOIN.LEFT_OUTER)
    if host is not None:
        query = query.where(TokenUsage.host == host.id)
    return newest_first(query, TokenUsage.id, "usages", _shown, limit=limit, before=before)


def _shown(row: TokenUsage) -> dict[str, Any]:
    return {
        "id": row.id,
        "host_id": row.host_id,
        "fqdn": getattr(row.host, "fqdn", None),
        **counts(row),
        "created_at": row.created_at,
    }


def counts(row: TokenUsage) -> dict[str, Any]:
    """What a usage row counted: the five numbers, `model` and `line`, each null where it was not given."""
    return {name: getattr(row, column) for name, column in COLUMNS.items()} | {"model": row.model, "line": row.line}


def lines(limit: int) -> dict[str, Any]:
    """`tokens`: totals of each printed line, highest first: `GET /admin/tokens` (`docs/protocol.md 11.8`)."""
    counted = columns(UsageLine)
    order = [UsageLine.total, UsageLine.input_tokens, UsageLine.output_tokens, UsageLine.cached_tokens, UsageLine.id]
    query = UsageLine.select(UsageLine.line, *counted.values()).order_by(*(column.desc() for column in order))
    rows: Iterable[Any] = query.limit(limit).tuples()
    return {"tokens": [{"line": row[0], **dict(zip(counted, row[1:], strict=True))} for row in rows]}
