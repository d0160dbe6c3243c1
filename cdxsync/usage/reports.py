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
from cdxsync.usage.schemas import (
    FleetTotals,
    LineList,
    LineTotals,
    TokenTotals,
    TopHost,
    UsageDayRow,
    UsagePage,
    UsageRow,
)

MAX_ROWS = 500
MAX_LINES = 200


def columns(table: type[Counters]) -> dict[str, Any]:
    """The counts of a roll-up by the names that answers have for them."""
    return {name: getattr(table, column) for name, column in COLUMNS.items()} | {"events": table.events}


def _sums(table: type[Counters]) -> Any:
    return table.select(*(fn.COALESCE(fn.SUM(column), 0) for column in columns(table).values()))


def _totals(row: Any) -> TokenTotals:
    """The sums over rows of a roll-up (`docs/protocol.md 6.5`), in the order of `columns`."""
    return TokenTotals(**counts(row))


def counts(row: Iterable[Any]) -> dict[str, int]:
    """The counts of a row that was selected by `columns`, by their names."""
    return {name: int(value) for name, value in zip((*COLUMNS, "events"), row, strict=True)}


def added(parts: Iterable[TokenTotals]) -> TokenTotals:
    """The sums of several."""
    rows = list(parts)
    return TokenTotals(**{name: sum(getattr(row, name) for row in rows) for name in TokenTotals.__struct_fields__})


def in_month(day: Any, month: str) -> Any:
    """The condition that a column of days lies in a month (`YYYY-MM`)."""
    return (day >= f"{month}-01") & (day <= f"{month}-31")


_HOST_SPAN = Prepared(
    lambda host, first, last: _sums(UsageDay).where(
        (UsageDay.host == host) & (UsageDay.day >= first) & (UsageDay.day <= last)
    )
)


def host_month_totals(at: datetime, host: Host) -> TokenTotals:
    """The sums of one host in the UTC month of `at`."""
    month = at.strftime("%Y-%m")
    return _totals(_HOST_SPAN.row(host=host.id, first=f"{month}-01", last=f"{month}-31"))


def fleet_month_totals(at: datetime) -> TokenTotals:
    """The sums of the whole fleet in the UTC month of `at`."""
    return _totals(_sums(UsageFleetDay).where(in_month(UsageFleetDay.day, at.strftime("%Y-%m"))).tuples().get())


def fleet_day_totals(at: datetime) -> TokenTotals:
    """The sums of the whole fleet in the UTC day of `at`."""
    return _totals(_sums(UsageFleetDay).where(UsageFleetDay.day == at.strftime("%Y-%m-%d")).tuples().get())


def fleet_totals() -> FleetTotals:
    """The sums of all time, with the host that has used most (`docs/protocol.md 11.3`)."""
    top = Host.select(Host.id, Host.fqdn, Host.usage_total).where(Host.usage_total > 0)
    row = top.order_by(Host.usage_total.desc(), Host.id).first()
    shown = None if row is None else TopHost(host_id=row.id, fqdn=row.fqdn, total=row.usage_total)
    return FleetTotals(**counts(_sums(UsageFleetDay).tuples().get()), top_host=shown)


def month_models(month: str) -> dict[str | None, TokenTotals]:
    """The totals of a month (`YYYY-MM`) by model, None for usage without one."""
    sums = [fn.SUM(column).alias(f"sum_{name}") for name, column in columns(UsageFleetDay).items()]
    rows: Iterable[Any] = (
        UsageFleetDay.select(UsageFleetDay.model, *sums)
        .where(in_month(UsageFleetDay.day, month))
        .group_by(UsageFleetDay.model)
        .tuples()
    )
    return {row[0] or None: _totals(row[1:]) for row in rows}


def check_month(value: str | None) -> str:
    """A month as `YYYY-MM`, or this one. Raises `Invalid`."""
    if not value:
        return clock.now().strftime("%Y-%m")
    if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", value):
        raise Invalid({"month": ["must be YYYY-MM, such as 2026-01"]})
    return value


def month_days(month: str, host: Host | None = None) -> list[UsageDayRow]:
    """A month by day, host and model; what deleted hosts have used in the order of its coming."""
    query = (
        UsageDay.select(UsageDay.day, UsageDay.host_id, Host.fqdn, UsageDay.model, *columns(UsageDay).values())
        .join(Host, JOIN.LEFT_OUTER)
        .where(in_month(UsageDay.day, month))
        .order_by(UsageDay.day, Host.fqdn.asc(nulls="FIRST"), UsageDay.model, UsageDay.id)
    )
    rows: Iterable[Any] = (query if host is None else query.where(UsageDay.host == host.id)).tuples()
    return [
        UsageDayRow(day=row[0], host_id=row[1], fqdn=row[2], model=row[3] or None, **counts(row[4:])) for row in rows
    ]


def recent(limit: int, *, host: Host | None = None, before: int | None = None) -> UsagePage:
    """The newest usage rows, as `GET /admin/usage` lists them (`docs/protocol.md 11.8`)."""
    query = TokenUsage.select(TokenUsage, Host.id, Host.fqdn).join(Host, JOIN.LEFT_OUTER)
    if host is not None:
        query = query.where(TokenUsage.host == host.id)
    rows, next_before = newest_first(query, TokenUsage.id, limit=limit, before=before)
    return UsagePage(usages=[UsageRow.of(row) for row in rows], next_before=next_before)


def lines(limit: int) -> LineList:
    """Totals of each printed line, highest first, as `GET /admin/tokens` lists them (`docs/protocol.md 11.8`)."""
    order = [UsageLine.total, UsageLine.input_tokens, UsageLine.output_tokens, UsageLine.cached_tokens, UsageLine.id]
    query = UsageLine.select(UsageLine.line, *columns(UsageLine).values())
    rows: Iterable[Any] = query.order_by(*(column.desc() for column in order)).limit(limit).tuples()
    return LineList(tokens=[LineTotals(line=row[0], **counts(row[1:])) for row in rows])
