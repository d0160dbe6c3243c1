"""A month's tokens and their cost, summed by day, by model and by host: what a chart needs, however large the fleet."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from peewee import JOIN, fn

from cdxsync.base.settings import Settings
from cdxsync.store.tables import Host, UsageDay, UsageFleetDay
from cdxsync.usage import pricing, reports
from cdxsync.usage.recording import COLUMNS

MAX_HOSTS = 200
_COUNTS = (*COLUMNS, "events")


def month_summary(settings: Settings, month: str, host: Host | None = None) -> dict[str, Any]:
    """`GET /admin/usage/summary`: a month (`YYYY-MM`) of the fleet, deleted hosts included, or of one host.

    `days`, `models` and `hosts` (those with most tokens, at most `MAX_HOSTS`) have the five counts, `events` and
    `cost`; `totals` their sum. `cost` is in `currency`, at the prices in force, without the models in `unpriced`;
    it is None where no model of the row has a price in that currency. `costs` has the sum in each currency.
    """
    prices = pricing.in_force(settings)
    rows = _by_day_and_model(month, host)
    hosts = _by_host_and_model(month, host)
    currency = prices[pricing.DEFAULT_MODEL].currency
    cost = pricing.cost_of(rows, prices)

    def summed(groups: Iterable[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
        return [_with_cost(row, prices, currency) for row in _grouped(groups, names)]

    totals = summed(rows)
    return {
        "month": month,
        "currency": currency,
        "days": summed(rows, "day"),
        "models": _highest_first(summed(rows, "model"), lambda row: str(row["model"] or "")),
        "hosts": _highest_first(summed(hosts, "host_id", "fqdn"), lambda row: str(row["fqdn"] or "")),
        "totals": totals[0] if totals else dict.fromkeys(_COUNTS, 0) | {"cost": 0.0},
        "costs": {name: pricing.rounded(total) for name, total in cost.totals.items()},
        "unpriced": list(cost.unpriced),
    }


def _by_day_and_model(month: str, host: Host | None) -> list[dict[str, Any]]:
    table: Any = UsageFleetDay if host is None else UsageDay
    columns = reports.columns(table)
    query = table.select(table.day, table.model, *columns.values()).where(reports.in_month(table.day, month))
    if host is not None:
        query = query.where(UsageDay.host == host.id)
    rows: Iterable[Any] = query.order_by(table.day, table.model).tuples()
    return [{"day": row[0], "model": row[1] or None, **dict(zip(columns, row[2:], strict=True))} for row in rows]


def _by_host_and_model(month: str, host: Host | None) -> list[dict[str, Any]]:
    """Of the hosts with most tokens; what deleted hosts have used counts as of one without a name."""
    inside = reports.in_month(UsageDay.day, month)
    of: Any = UsageDay.host_id
    if host is None:
        totals = UsageDay.select(of, fn.SUM(UsageDay.total)).where(inside).group_by(of)
        top: Iterable[Any] = totals.order_by(fn.SUM(UsageDay.total).desc()).limit(MAX_HOSTS).tuples()
        chosen = [row[0] for row in top]
        known = of.in_([host_id for host_id in chosen if host_id is not None])
        inside &= (known | of.is_null()) if None in chosen else known
    else:
        inside &= UsageDay.host == host.id
    columns = reports.columns(UsageDay)
    sums = [fn.SUM(column) for column in columns.values()]
    rows: Iterable[Any] = (
        UsageDay.select(of, Host.fqdn, UsageDay.model, *sums)
        .join(Host, JOIN.LEFT_OUTER)
        .where(inside)
        .group_by(of, Host.fqdn, UsageDay.model)
        .tuples()
    )
    return [
        {
            "host_id": row[0],
            "fqdn": row[1],
            "model": row[2] or None,
            **{name: int(value) for name, value in zip(columns, row[3:], strict=True)},
        }
        for row in rows
    ]


def _grouped(rows: Iterable[dict[str, Any]], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows with the same values of `names` added up, each with the `parts` that it is made of; in order of coming."""
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[name] for name in names)
        empty: dict[str, Any] = dict(zip(names, key, strict=True)) | dict.fromkeys(_COUNTS, 0) | {"parts": []}
        group = groups.setdefault(key, empty)
        for name in _COUNTS:
            group[name] += row[name]
        group["parts"].append(row)
    return list(groups.values())


def _with_cost(group: dict[str, Any], prices: dict[str, pricing.Price], currency: str) -> dict[str, Any]:
    total: Decimal | None = pricing.cost_of(group.pop("parts"), prices).totals.get(currency)
    return group | {"cost": None if total is None else pricing.rounded(total)}


def _highest_first(rows: list[dict[str, Any]], name: Callable[[dict[str, Any]], str]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (-row["total"], name(row)))
