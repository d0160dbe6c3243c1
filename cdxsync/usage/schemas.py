"""What answers say of token usage, and what bodies about it hold (`docs/protocol.md 6`)."""

from msgspec import UNSET, Struct, UnsetType, structs

from cdxsync.base.schema import Anything, Day, Moment, Month
from cdxsync.store.tables import TokenUsage


class TokenTotals(Struct, frozen=True, kw_only=True):
    """Sums over usage entries."""

    total: int
    input: int
    output: int
    cached: int
    reasoning: int
    events: int
    """How many entries."""


class Entry(Struct, frozen=True, kw_only=True):
    """One use of tokens; what was not given is null."""

    total: int | None = None
    input: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None
    model: str | None = None
    line: str | None = None
    """Codex's printed line; where no number is given, they are read from it."""
    outside: bool = False
    """Whether Codex was not started by `cdx`: plain Codex, an IDE or a daemon."""

    def numbers(self) -> dict[str, int | None]:
        """The five counts by name."""
        return {
            "total": self.total,
            "input": self.input,
            "output": self.output,
            "cached": self.cached,
            "reasoning": self.reasoning,
        }


class UsageBody(Struct, frozen=True, kw_only=True):
    """Several entries, up to 1,000."""

    usages: list[Entry]


class RecordedEntry(Struct, frozen=True, kw_only=True):
    """An entry as it was stored."""

    recorded_at: Moment
    line: str | None
    total: int | None
    input: int | None
    output: int | None
    cached: int | None
    reasoning: int | None
    model: str | None
    outside: bool | UnsetType = UNSET
    """True where it was given."""

    @classmethod
    def of(cls, entry: Entry, recorded_at: str) -> "RecordedEntry":
        """An entry that was stored at a time."""
        return cls(recorded_at=recorded_at, **(structs.asdict(entry) | {"outside": entry.outside or UNSET}))


class Recorded(Struct, frozen=True, kw_only=True):
    """What was stored of a body. The members from `recorded_at` on are those of the entry, where there was one."""

    host_id: int
    recorded: int
    """How many entries."""
    usages: list[RecordedEntry]
    recorded_at: Moment | UnsetType = UNSET
    line: str | UnsetType | None = UNSET
    total: int | UnsetType | None = UNSET
    input: int | UnsetType | None = UNSET
    output: int | UnsetType | None = UNSET
    cached: int | UnsetType | None = UNSET
    reasoning: int | UnsetType | None = UNSET
    model: str | UnsetType | None = UNSET
    outside: bool | UnsetType = UNSET

    @classmethod
    def of(cls, host_id: int, rows: list[RecordedEntry]) -> "Recorded":
        """The answer for the entries of a host."""
        if len(rows) != 1:
            return cls(host_id=host_id, recorded=len(rows), usages=rows)
        (row,) = rows
        return cls(host_id=host_id, recorded=1, usages=rows, **structs.asdict(row))


class LatestUsage(Struct, frozen=True, kw_only=True):
    """A host's newest entry."""

    total: int | None
    input: int | None
    output: int | None
    cached: int | None
    reasoning: int | None
    model: str | None
    line: str | None
    created_at: Moment
    outside: bool
    """Whether Codex was not started by `cdx`."""

    @classmethod
    def of(cls, row: TokenUsage) -> "LatestUsage":
        """What a row counted."""
        return cls(
            total=row.total,
            input=row.input_tokens,
            output=row.output_tokens,
            cached=row.cached_tokens,
            reasoning=row.reasoning_tokens,
            model=row.model,
            line=row.line,
            created_at=row.created_at,
            outside=bool(row.outside),
        )


class UsageRow(Struct, frozen=True, kw_only=True):
    """An entry in the list of all."""

    id: int
    host_id: int | None
    """Null when the host has been deleted."""
    fqdn: str | None
    total: int | None
    input: int | None
    output: int | None
    cached: int | None
    reasoning: int | None
    model: str | None
    line: str | None
    created_at: Moment
    outside: bool
    """Whether Codex was not started by `cdx`."""

    @classmethod
    def of(cls, row: TokenUsage) -> "UsageRow":
        """A row, selected with its host."""
        entry = structs.asdict(LatestUsage.of(row))
        return cls(id=row.id, host_id=row.host_id, fqdn=getattr(row.host, "fqdn", None), **entry)


class UsagePage(Struct, frozen=True, kw_only=True):
    """The newest entries."""

    usages: list[UsageRow]
    next_before: int | None
    """`before` of the next page; null on the last."""


class LineTotals(TokenTotals, frozen=True, kw_only=True):
    """The sums of one printed line."""

    line: str


class LineList(Struct, frozen=True, kw_only=True):
    """Printed lines with their sums, the largest first."""

    tokens: list[LineTotals]


class TopHost(Struct, frozen=True, kw_only=True):
    """The host that has used most tokens."""

    host_id: int
    fqdn: str
    total: int


class FleetTotals(TokenTotals, frozen=True, kw_only=True):
    """The sums of all time."""

    top_host: TopHost | None


class UsageDayRow(TokenTotals, frozen=True, kw_only=True):
    """A day's sums of a host and a model."""

    day: Day
    host_id: int | None
    """Null for hosts that have been deleted."""
    fqdn: str | None
    model: str | None


class ModelCost(Struct, frozen=True, kw_only=True):
    """What a model has cost in a month."""

    model: str | None
    total: int
    input: int
    output: int
    cached: int
    cost: float | None
    """Null where no price is known."""
    currency: str | None


class MonthCost(Struct, frozen=True, kw_only=True):
    """What a month has cost, at the prices in force."""

    totals: dict[str, float]
    """By currency."""
    models: list[ModelCost]
    unpriced: list[str]
    """Models without a price."""


class UsageMonth(Struct, frozen=True, kw_only=True):
    """A month by day, host and model."""

    month: Month
    days: list[UsageDayRow]
    cost: MonthCost


class CostedTotals(TokenTotals, frozen=True, kw_only=True):
    """Sums, with what they cost."""

    cost: float | None
    """In the summary's currency; null where no model of them has a price in that."""


class DayTotals(CostedTotals, frozen=True, kw_only=True):
    """The sums of a day."""

    day: Day


class ModelTotals(CostedTotals, frozen=True, kw_only=True):
    """The sums of a model."""

    model: str | None


class HostTotals(CostedTotals, frozen=True, kw_only=True):
    """The sums of a host."""

    host_id: int | None
    """Null for hosts that have been deleted."""
    fqdn: str | None


class UsageSummary(Struct, frozen=True, kw_only=True):
    """A month's sums by day, by model, and by host."""

    month: Month
    currency: str
    days: list[DayTotals]
    models: list[ModelTotals]
    hosts: list[HostTotals]
    """Those with most tokens, up to 200."""
    totals: CostedTotals
    costs: dict[str, float]
    """The sums in each currency."""
    unpriced: list[str]
    """Models without a price, which the costs leave out."""


class PriceRow(Struct, frozen=True, kw_only=True):
    """The prices of a model per 1,000 tokens, and where they come from."""

    id: int | None
    model: str
    currency: str
    input_price_per_1k: float
    output_price_per_1k: float
    cached_price_per_1k: float
    source_url: str
    """`env` for those of the settings."""
    raw: Anything | None
    """The entry as it came."""
    fetched_at: Moment | None
    created_at: Moment | None
