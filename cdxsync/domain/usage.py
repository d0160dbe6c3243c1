"""Token usage: totals from the daily roll-ups."""

from datetime import datetime
from typing import Any

from peewee import fn

from cdxsync.store.tables import Host, UsageDay

_SUMS = {
    "total": UsageDay.total,
    "input": UsageDay.input_tokens,
    "output": UsageDay.output_tokens,
    "cached": UsageDay.cached_tokens,
    "reasoning": UsageDay.reasoning_tokens,
    "events": UsageDay.events,
}


def month_totals(at: datetime, host: Host | None = None) -> dict[str, int]:
    """TokenTotals (`contract.md` 1.7) of the UTC month of `at`, of one host or of the fleet."""
    month = at.strftime("%Y-%m")
    in_month = (UsageDay.day >= f"{month}-01") & (UsageDay.day <= f"{month}-31")
    where = in_month if host is None else in_month & (UsageDay.host == host)
    sums = [fn.COALESCE(fn.SUM(column), 0) for column in _SUMS.values()]
    row: tuple[Any, ...] = UsageDay.select(*sums).where(where).tuples().get()  # type: ignore[assignment]
    return {name: int(value) for name, value in zip(_SUMS, row, strict=True)}
