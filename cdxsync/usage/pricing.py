"""Prices of models and what a month's tokens cost, in exact decimals (`docs/protocol.md 12.5 and 12.6`)."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

from cdxsync.base import clock, texts
from cdxsync.base.setting_values import read_price
from cdxsync.base.settings import Settings
from cdxsync.store import audit
from cdxsync.store.database import write
from cdxsync.store.tables import Host, PricingSnapshot
from cdxsync.usage import reports
from cdxsync.usage.schemas import ModelCost, MonthCost, PriceRow, TokenTotals, UsageDayRow, UsageMonth

JOB = "pricing"
DEFAULT_MODEL = "gpt-5.1"
"""The model whose prices count for usage that names no model."""
ENVIRONMENT = "env"
MAX_MODELS = 1000
_PRICES = ("input", "output", "cached")


class Tokens(Protocol):
    """The counts that cost something."""

    @property
    def input(self) -> int:
        """Without those that were cached."""

    @property
    def output(self) -> int:
        """With reasoning."""

    @property
    def cached(self) -> int:
        """Read from the cache."""


@dataclass(frozen=True)
class Price:
    """Prices of a model per 1,000 tokens in `currency`."""

    model: str
    currency: str
    input: Decimal
    output: Decimal
    cached: Decimal
    entry: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """The list's own words on the model."""

    def cost(self, tokens: Tokens) -> Decimal:
        """What `tokens` cost, not rounded.

        By `docs/protocol.md 12.6` cached tokens are added at their own price and not subtracted from the input;
        reasoning tokens are not charged, as they are part of the output.
        """
        return sum((getattr(self, name) * getattr(tokens, name) / 1000 for name in _PRICES), Decimal(0))


def parse(body: object, default_currency: str) -> list[Price]:
    """The prices in an answer of `PRICING_URL`: an object that maps a model to its entry.

    Entries that are not objects, lack a price, or are free of charge are skipped. Raises ValueError when none is left.
    """
    if not isinstance(body, dict):
        raise ValueError("the answer is not a JSON object of models")
    prices = [price for price in (_entry(name, entry, default_currency) for name, entry in body.items()) if price]
    if not prices:
        raise ValueError("the answer has no model with input_per_1k and output_per_1k")
    if len(prices) > MAX_MODELS:
        raise ValueError(f"the answer has more than {MAX_MODELS} models")
    return prices


def _entry(model: str, entry: object, default_currency: str) -> Price | None:
    name = texts.clean(model)[:128]
    if not isinstance(entry, dict) or not name:
        return None
    try:
        read = [read_price(entry["input_per_1k"]), read_price(entry["output_per_1k"])]
        read.append(read_price(entry.get("cached_per_1k", 0)))
    except (KeyError, ValueError, InvalidOperation):
        return None
    if not any(read):
        return None
    currency = entry.get("currency")
    shown = texts.clean(currency)[:16].upper() if isinstance(currency, str) else ""
    return Price(name, shown or default_currency, read[0], read[1], read[2], entry)


def keep(settings: Settings, prices: Iterable[Price]) -> None:
    """Store the answer of `PRICING_URL`, as one batch of rows with one time."""
    stamp = clock.stamp(clock.now())

    def work() -> None:
        for price in prices:
            PricingSnapshot.insert(
                model=price.model,
                currency=price.currency,
                **{f"{name}_price_per_1k": format(getattr(price, name), "f") for name in _PRICES},
                source_url=settings.pricing_url,
                raw_body=json.dumps(price.entry),
                fetched_at=stamp,
                created_at=stamp,
            ).execute()
        audit.record(
            "pricing.refresh", actor="server", model=DEFAULT_MODEL, source_url=settings.pricing_url, fetched_at=stamp
        )

    write(work)


def _listed(settings: Settings) -> dict[str, tuple[Price, PriceRow]]:
    """The prices in force by model, exact and as answers have them.

    Those last read from the present `pricing_url`, however old; without it, and for a gpt-5.1 that it lacks, those of
    the settings.
    """
    found = {DEFAULT_MODEL: _of_settings(settings)}
    if settings.pricing_url:
        mine = PricingSnapshot.source_url == settings.pricing_url
        newest = PricingSnapshot.select(PricingSnapshot.fetched_at).where(mine).order_by(PricingSnapshot.id.desc())
        last = newest.limit(1).first()
        if last is not None:
            batch = PricingSnapshot.select().where(mine & (PricingSnapshot.fetched_at == last.fetched_at))
            for row in batch.order_by(PricingSnapshot.id):
                found[row.model] = _of_row(row)
    return found


def _of_row(row: PricingSnapshot) -> tuple[Price, PriceRow]:
    exact = (row.input_price_per_1k, row.output_price_per_1k, row.cached_price_per_1k)
    read, written, cached = map(Decimal, exact)
    price = Price(row.model, row.currency, read, written, cached)
    raw = json.loads(row.raw_body) if row.raw_body else None
    return price, _row(price, row.source_url, raw=raw, id=row.id, fetched_at=row.fetched_at, created_at=row.created_at)


def _of_settings(settings: Settings) -> tuple[Price, PriceRow]:
    price = Price(
        DEFAULT_MODEL,
        settings.pricing_currency,
        settings.gpt51_input_per_1k,
        settings.gpt51_output_per_1k,
        settings.gpt51_cached_per_1k,
    )
    return price, _row(price, ENVIRONMENT)


def _row(
    price: Price,
    source_url: str,
    *,
    raw: object = None,
    id: int | None = None,
    fetched_at: str | None = None,
    created_at: str | None = None,
) -> PriceRow:
    return PriceRow(
        id=id,
        model=price.model,
        currency=price.currency,
        input_price_per_1k=float(price.input),
        output_price_per_1k=float(price.output),
        cached_price_per_1k=float(price.cached),
        source_url=source_url,
        raw=raw,
        fetched_at=fetched_at,
        created_at=created_at,
    )


def current(settings: Settings) -> PriceRow:
    """The prices of the default model, `pricing` in the overview (`docs/protocol.md 11.3`)."""
    return _listed(settings)[DEFAULT_MODEL][1]


def in_force(settings: Settings) -> dict[str, Price]:
    """The prices in force by model."""
    return {model: price for model, (price, _) in _listed(settings).items()}


@dataclass(frozen=True)
class Cost:
    """What tokens cost: `total` by currency, `by_model`, and the models for which there is no price."""

    totals: Mapping[str, Decimal]
    by_model: Mapping[str, Decimal]
    unpriced: tuple[str, ...]


def cost_of(usage: Iterable[tuple[str | None, Tokens]], prices: Mapping[str, Price]) -> Cost:
    """The cost of what models have used; None or "" stands for none named, which costs what `DEFAULT_MODEL` does.

    A model without a price is listed, not guessed.
    """
    totals: dict[str, Decimal] = {}
    by_model: dict[str, Decimal] = {}
    unpriced = set()
    for named, tokens in usage:
        model = named or DEFAULT_MODEL
        price = prices.get(model)
        if price is None:
            unpriced.add(model)
            continue
        cost = price.cost(tokens)
        by_model[model] = by_model.get(model, Decimal(0)) + cost
        totals[price.currency] = totals.get(price.currency, Decimal(0)) + cost
    return Cost(totals, by_model, tuple(sorted(unpriced)))


def month_cost(settings: Settings, month: str) -> Cost:
    """What a month (`YYYY-MM`) has cost so far at the prices in force."""
    return cost_of(reports.month_models(month).items(), in_force(settings))


def month_report(settings: Settings, month: str, host: Host | None = None) -> UsageMonth:
    """A month by day, host and model, with what it cost at the prices in force, rounded to six places."""
    days = reports.month_days(month, host)
    prices = in_force(settings)
    used: dict[str, list[UsageDayRow]] = {}
    for row in days:
        used.setdefault(row.model or "", []).append(row)
    sums = {model: reports.added(rows) for model, rows in used.items()}
    cost = cost_of(sums.items(), prices)
    models = [
        _model_cost(model or None, tokens, prices.get(model or DEFAULT_MODEL))
        for model, tokens in sorted(sums.items(), key=lambda item: (-item[1].total, item[0]))
    ]
    totals = {currency: rounded(total) for currency, total in cost.totals.items()}
    return UsageMonth(
        month=month, days=days, cost=MonthCost(totals=totals, models=models, unpriced=list(cost.unpriced))
    )


def _model_cost(model: str | None, tokens: TokenTotals, price: Price | None) -> ModelCost:
    return ModelCost(
        model=model,
        total=tokens.total,
        input=tokens.input,
        output=tokens.output,
        cached=tokens.cached,
        cost=None if price is None else rounded(price.cost(tokens)),
        currency=None if price is None else price.currency,
    )


def rounded(cost: Decimal) -> float:
    """A cost as answers carry it."""
    return float(round(cost, 6))
