"""What the overview says of what the background jobs have learned."""

from msgspec import Struct

from cdxsync.base.schema import Moment
from cdxsync.codex.schemas import QuotaSnapshot
from cdxsync.jobs.schemas import JobStatus
from cdxsync.usage.schemas import PriceRow


class Notice(Struct, frozen=True, kw_only=True):
    """What an admin should look at."""

    code: str
    """For programs."""
    message: str
    """For people."""


class BackgroundReport(Struct, frozen=True, kw_only=True):
    """Prices and the month's cost, the quota, the jobs, and warnings."""

    pricing: PriceRow
    """Of the model that counts for usage without one."""
    pricing_month_cost: float
    """Of this month, in the currency of `pricing`."""
    pricing_month_costs: dict[str, float]
    """Of this month, by currency."""
    pricing_unpriced_models: list[str]
    chatgpt_usage: QuotaSnapshot | None
    chatgpt_cached: bool
    chatgpt_next_eligible_at: Moment | None
    jobs: list[JobStatus]
    warnings: list[Notice]
