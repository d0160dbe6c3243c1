"""Taking back what one host has reported: its usage rows, and what they have added to all totals."""

from typing import Any

from peewee import fn

from cdxsync.store.tables import Counters, Host, TokenUsage, UsageDay, UsageFleetDay, UsageLine
from cdxsync.usage.recording import COLUMNS

_COUNTS = (*COLUMNS.values(), "events")


def purge(host_id: int) -> int:
    """Delete the usage of a host, within the caller's write transaction; returns the number of its rows.

    Days are taken back whole, also where rows have been deleted with age; of printed lines only what the rows that
    are kept have added, as the others name no host any more.
    """
    _take_back_lines(host_id)
    days: Any = UsageDay.select().where(UsageDay.host == host_id)
    for day in list(days):
        place = (UsageFleetDay.day == day.day) & (UsageFleetDay.model == day.model)
        _subtract(UsageFleetDay, place, {name: getattr(day, name) for name in _COUNTS})
    UsageDay.delete().where(UsageDay.host == host_id).execute()
    deleted = TokenUsage.delete().where(TokenUsage.host == host_id).execute()
    Host.update(usage_total=0, latest_usage_id=None).where(Host.id == host_id).execute()
    return int(deleted)


def _take_back_lines(host_id: int) -> None:
    sums = [fn.COALESCE(fn.SUM(getattr(TokenUsage, name)), 0) for name in COLUMNS.values()]
    mine = (TokenUsage.host == host_id) & TokenUsage.line.is_null(False)
    lines: Any = (
        TokenUsage.select(TokenUsage.line, *sums, fn.COUNT(TokenUsage.id)).where(mine).group_by(TokenUsage.line)
    )
    for line, *counts in list(lines.tuples()):
        _subtract(UsageLine, UsageLine.line == line, dict(zip(_COUNTS, counts, strict=True)))


def _subtract(table: type[Counters], place: Any, counts: dict[str, Any]) -> None:
    changes = {getattr(table, name): getattr(table, name) - int(count) for name, count in counts.items()}
    table.update(changes).where(place).execute()
    table.delete().where(place & (table.events <= 0)).execute()
