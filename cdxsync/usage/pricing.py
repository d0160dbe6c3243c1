"""Prices of models and what a month's tokens cost, in exact decimals (`docs/protocol.md 12.5 and 12.6`)."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from cdxsync.base import clock, texts
from cdxsync.base.setting_values import read_price
from cdxsync.base.settings import Settings
from cdxsync.store import audit
from cdxsync.store.database import write
from cdxsync.store.tables import Host, PricingSnapshot
from cdxsync.usage import reports

JOB = "pricing"
DEFAULT_MODEL = "gpt-5.1"
"""The model whose prices count for usage that names no model."""
ENVIRONMENT = "env"
MAX_MODELS = 1000
_PRICES = ("input", "output", "cached")


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

    def cost(self, tokens: Mapping[str, int]) -> Decimal:
        """What `tokens` (`input`, `output`, `cached`) cost, not rounded.

        By `docs/protocol.md 12.6` cached tokens are added at their own price and not taken out of the input; reasoning
        tokens are not charged, as they are part of the output.
        """
        return sum((getattr(self, name) * tokens[name] / 1000 for name in _PRICES), Decimal(0))


def parse(body: object, default_currency: str) -> list[Price]:
    """The prices in an answer of `PRICING_URL`: an object that maps a model to its entry.

    Entries that are no objects, lack a price, or are free of charge in all are left out. Raises ValueError when
    nothing usable is left.
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
    """Keep what `PRICING_URL` answered, as one batch of rows with one time."""
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


def rows(settings: Settings) -> dict[str, dict[str, Any]]:
    """The prices in force by model, each as the row of `docs/protocol.md 12.5` with exact `Decimal` prices.

    Those last read from the present `pricing_url`, however old; without it, and for a gpt-5.1 that it lacks, those of
    the settings.
    """
    found: dict[str, dict[str, Any]] = {DEFAULT_MODEL: _from_settings(settings)}
    if settings.pricing_url:
        mine = PricingSnapshot.source_url == settings.pricing_url
        newest = PricingSnapshot.select(PricingSnapshot.fetched_at).where(mine).order_by(PricingSnapshot.id.desc())
        last = newest.limit(1).first()
        if last is not None:
            batch = PricingSnapshot.select().where(mine & (PricingSnapshot.fetched_at == last.fetched_at))
            for row in batch.order_by(PricingSnapshot.id):
                found[row.model] = _row(row)
    return found


def _row(row: PricingSnapshot) -> dict[str, Any]:
    return {
        "id": row.id,
        "model": row.model,
        "currency": row.currency,
        **{f"{name}_price_per_1k": Decimal(getattr(row, f"{name}_price_per_1k")) for name in _PRICES},
        "source_url": row.source_url,
        "raw": json.loads(row.raw_body) if row.raw_body else None,
        "fetched_at": row.fetched_at,
        "created_at": row.created_at,
    }


def _from_settings(settings: Settings) -> dict[str, Any]:
    return {
        "id": None,
        "model": DEFAULT_MODEL,
        "currency": settings.pricing_currency,
        "input_price_per_1k": settings.gpt51_input_per_1k,
        "output_price_per_1k": settings.gpt51_output_per_1k,
        "cached_price_per_1k": settings.gpt51_cached_per_1k,
        "source_url": ENVIRONMENT,
        "raw": None,
        "fetched_at": None,
        "created_at": None,
    }


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as answers carry it: its prices as numbers."""
    return {name: float(value) if isinstance(value, Decimal) else value for name, value in row.items()}


def current(settings: Settings) -> dict[str, Any]:
    """The row of the default model, `pricing` in the overview (`docs/protocol.md 11.3`)."""
    return shown(rows(settings)[DEFAULT_MODEL])


def in_force(settings: Settings) -> dict[str, Price]:
    """The prices in force by model."""
    return {
        model: Price(model, row["currency"], *(row[f"{name}_price_per_1k"] for name in _PRICES))
        for model, row in rows(settings).items()
    }


@dataclass(frozen=True)
class Cost:
    """What tokens cost: `total` by currency, `by_model`, and the models for which there is no price."""

    totals: Mapping[str, Decimal]
    by_model: Mapping[str, Decimal]
    unpriced: tuple[str, ...]


def cost_of(usage: Iterable[Mapping[str, Any]], prices: Mapping[str, Price]) -> Cost:
    """The cost of rows with `model` (None or "" for none named), `input`, `output` and `cached` counts.

    Rows that name no model cost what `DEFAULT_MODEL` does. A model without a price is listed, not guessed.
    """
    totals: dict[str, Decimal] = {}
    by_model: dict[str, Decimal] = {}
    unpriced = set()
    for row in usage:
        model = row["model"] or DEFAULT_MODEL
        price = prices.get(model)
        if price is None:
            unpriced.add(model)
            continue
        cost = price.cost(row)
        by_model[model] = by_model.get(model, Decimal(0)) + cost
        totals[price.currency] = totals.get(price.currency, Decimal(0)) + cost
    return Cost(totals, by_model, tuple(sorted(unpriced)))


def month_cost(settings: Settings, month: str) -> Cost:
    """What a month (`YYYY-MM`) has cost so far at the prices in force."""
    return cost_of(reports.month_models(month), in_force(settings))


def month_report(settings: Settings, month: str, host: Host | None = None) -> dict[str, Any]:
    """A month by day, host and model (`usage_reports.month_report`), with `cost`: what it cost at the prices in force.

    `cost` has `totals` by currency, `models` with the tokens and cost of each (None where there is no price), and
    `unpriced`, the names of those. Costs are numbers, rounded to six places.
    """
    report = reports.month_report(month, host)
    prices = in_force(settings)
    counted: dict[str, dict[str, int]] = {}
    for row in report["days"]:
        sums = counted.setdefault(row["model"] or "", dict.fromkeys(("total", *_PRICES), 0))
        for name in sums:
            sums[name] += row[name]
    cost = cost_of([{"model": model, **sums} for model, sums in counted.items()], prices)
    models = []
    for model, sums in sorted(counted.items(), key=lambda item: (-item[1]["total"], item[0])):
        price = prices.get(model or DEFAULT_MODEL)
        models.append(
            {
                "model": model or None,
                **sums,
                "cost": None if price is None else rounded(price.cost(sums)),
                "currency": None if price is None else price.currency,
            }
        )
    totals = {currency: rounded(total) for currency, total in cost.totals.items()}
    return report | {"cost": {"totals": totals, "models": models, "unpriced": list(cost.unpriced)}}


def rounded(cost: Decimal) -> float:
    """A cost as answers carry it."""
    return float(round(cost, 6))
