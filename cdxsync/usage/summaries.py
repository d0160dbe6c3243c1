"""A month's tokens and their cost, summed by day, by model and by host: what a chart needs, however large the fleet."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from msgspec import structs
from peewee import JOIN, fn

from cdxsync.base.settings import Settings
from cdxsync.store.tables import Host, UsageDay, UsageFleetDay
from cdxsync.usage import pricing, reports
from cdxsync.usage.schemas import CostedTotals, DayTotals, HostTotals, ModelTotals, TokenTotals, UsageSummary

MAX_HOSTS = 200
Key = TypeVar("Key")
Totals = TypeVar("Totals", bound=TokenTotals)


def month_summary(settings: Settings, month: str, host: Host | None = None) -> UsageSummary:
    """A month (`YYYY-MM`) of the fleet, deleted hosts included, or of one host, as `GET /admin/usage/summary` shows it.

    At the prices in force; `hosts` are at most `MAX_HOSTS`.
    """
    prices = pricing.in_force(settings)
    rows = _by_day_and_model(month, host)
    hosts = _by_host_and_model(month, host)
    currency = prices[pricing.DEFAULT_MODEL].currency
    cost = pricing.cost_of(((model, tokens) for _, model, tokens in rows), prices)

    def summed(parts: Iterable[tuple[Key, str | None, TokenTotals]]) -> dict[Key, dict[str, Any]]:
        return {key: structs.asdict(_costed(used, prices, currency)) for key, used in _grouped(parts).items()}

    by_model = summed((model, model, tokens) for _, model, tokens in rows)
    totals = _costed([(model, tokens) for _, model, tokens in rows], prices, currency)
    return UsageSummary(
        month=month,
        currency=currency,
        days=[DayTotals(day=day, **sums) for day, sums in summed(rows).items()],
        models=_highest_first(
            [ModelTotals(model=model, **sums) for model, sums in by_model.items()], lambda row: row.model
        ),
        hosts=_highest_first(
            [HostTotals(host_id=host_id, fqdn=fqdn, **sums) for (host_id, fqdn), sums in summed(hosts).items()],
            lambda row: row.fqdn,
        ),
        totals=totals if rows else structs.replace(totals, cost=0.0),
        costs={name: pricing.rounded(total) for name, total in cost.totals.items()},
        unpriced=list(cost.unpriced),
    )


def _by_day_and_model(month: str, host: Host | None) -> list[tuple[str, str | None, TokenTotals]]:
    table: Any = UsageFleetDay if host is None else UsageDay
    query = table.select(table.day, table.model, *reports.columns(table).values())
    query = query.where(reports.in_month(table.day, month))
    if host is not None:
        query = query.where(UsageDay.host == host.id)
    rows: Iterable[Any] = query.order_by(table.day, table.model).tuples()
    return [(row[0], row[1] or None, TokenTotals(**reports.counts(row[2:]))) for row in rows]


def _by_host_and_model(
    month: str, host: Host | None
) -> list[tuple[tuple[int | None, str | None], str | None, TokenTotals]]:
    """Of the hosts with most tokens; what deleted hosts have used counts as of one without a name."""
    inside = reports.in_month(UsageDay.day, month)
    of: Any = UsageDay.host_id
    if host is None:
        totals = UsageDay.select(of, fn.SUM(UsageDay.total)).where(inside).group_by(of)
        most = (fn.SUM(UsageDay.total).desc(), of.asc(nulls="FIRST"))
        top: Iterable[Any] = totals.order_by(*most).limit(MAX_HOSTS).tuples()
        chosen = [row[0] for row in top]
        known = of.in_([host_id for host_id in chosen if host_id is not None])
        inside &= (known | of.is_null()) if None in chosen else known
    else:
        inside &= UsageDay.host == host.id
    sums = [fn.SUM(column) for column in reports.columns(UsageDay).values()]
    rows: Iterable[Any] = (
        UsageDay.select(of, Host.fqdn, UsageDay.model, *sums)
        .join(Host, JOIN.LEFT_OUTER)
        .where(inside)
        .group_by(of, Host.fqdn, UsageDay.model)
        .order_by(Host.fqdn.asc(nulls="FIRST"), UsageDay.model)
        .tuples()
    )
    return [((row[0], row[1]), row[2] or None, TokenTotals(**reports.counts(row[3:]))) for row in rows]


def _grouped(
    parts: Iterable[tuple[Key, str | None, TokenTotals]],
) -> dict[Key, list[tuple[str | None, TokenTotals]]]:
    """What models have used, by key, in order of coming."""
    groups: dict[Key, list[tuple[str | None, TokenTotals]]] = {}
    for key, model, tokens in parts:
        groups.setdefault(key, []).append((model, tokens))
    return groups


def _costed(
    used: list[tuple[str | None, TokenTotals]], prices: Mapping[str, pricing.Price], currency: str
) -> CostedTotals:
    total = pricing.cost_of(used, prices).totals.get(currency)
    sums = reports.added(tokens for _, tokens in used)
    return CostedTotals(**structs.asdict(sums), cost=None if total is None else pricing.rounded(total))


def _highest_first(rows: list[Totals], name: Callable[[Totals], str | None]) -> list[Totals]:
    return sorted(rows, key=lambda row: (-row.total, name(row) or ""))
