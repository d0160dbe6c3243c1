"""How much a host may store in a day (UTC): usage entries, their texts, and prompts (`docs/protocol.md 1.8`)."""

from datetime import datetime, time, timedelta
from typing import NamedTuple

from cdxsync.base import clock
from cdxsync.base.errors import TooLarge, TooManyRequests
from cdxsync.store.tables import HostBudget


class Charge(NamedTuple):
    """An amount that a call adds to what its host has stored today."""

    column: str
    amount: int
    bound: int
    """0 is no bound."""
    setting: str
    what: str


def charge(host_id: int, *charges: Charge) -> None:
    """Count what a call stores, within its write transaction.

    Raises `TooManyRequests` when the host has too little left for today, `TooLarge` when a whole day is not enough.
    """
    charges = tuple(one for one in charges if one.bound)
    if not charges:
        return
    at = clock.now()
    day = at.strftime("%Y-%m-%d")
    row = HostBudget.get_or_none(HostBudget.host == host_id)
    used = {one.column: getattr(row, one.column) if row is not None and row.day == day else 0 for one in charges}
    for one in charges:
        _check(one, used[one.column], at)
    new = {one.column: used[one.column] + one.amount for one in charges}
    if row is None:
        HostBudget.insert(host=host_id, day=day, **new).execute()
        return
    reset = {} if row.day == day else dict.fromkeys(("usage_rows", "usage_bytes", "prompt_bytes"), 0)
    HostBudget.update({"day": day} | reset | new).where(HostBudget.host == host_id).execute()


def _check(one: Charge, used: int, at: datetime) -> None:
    if used + one.amount <= one.bound:
        return
    bound = f"{one.bound} {one.what} a day (setting {one.setting})"
    if one.amount > one.bound:
        raise TooLarge(f"This call has {one.amount} {one.what}, and a host may store {bound}", code="over_daily_bound")
    tomorrow = datetime.combine(at.date() + timedelta(days=1), time.min, at.tzinfo)
    raise TooManyRequests(
        f"This host has stored {used} {one.what} today, and may store {bound}; try again tomorrow (UTC)",
        max(1, round((tomorrow - at).total_seconds())),
        code="daily_bound_reached",
    )
