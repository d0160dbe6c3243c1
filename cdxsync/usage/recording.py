"""Token usage: recording it, with the roll-ups that make every total a look-up."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cdxsync.base import clock
from cdxsync.base.settings import Settings
from cdxsync.hosts import budgets
from cdxsync.hosts.admission import Caller
from cdxsync.hosts.budgets import Charge
from cdxsync.store import audit
from cdxsync.store.database import write
from cdxsync.store.queries import Prepared
from cdxsync.store.tables import Counters, Host, TokenUsage, UsageDay, UsageFleetDay, UsageLine
from cdxsync.usage import idempotency
from cdxsync.usage.entries import read_body
from cdxsync.usage.schemas import Entry, Recorded, RecordedEntry

COLUMNS = {
    "total": "total",
    "input": "input_tokens",
    "output": "output_tokens",
    "cached": "cached_tokens",
    "reasoning": "reasoning_tokens",
}
"""The five counts, by their names in the API, with their columns."""
_AUDITED_LINE = 200
"""Characters."""
_INSERT = Prepared(
    lambda host, model, line, outside, created_at, total, input, output, cached, reasoning: TokenUsage.insert(
        host=host,
        model=model,
        line=line,
        outside=outside,
        created_at=created_at,
        total=total,
        input_tokens=input,
        output_tokens=output,
        cached_tokens=cached,
        reasoning_tokens=reasoning,
    )
)
_HOST = Prepared(
    lambda host, stamp, newest, used: Host.update(
        last_seen_at=stamp, latest_usage_id=newest, usage_total=Host.usage_total + used
    ).where(Host.id == host)
)


_COUNTERS = COLUMNS | {"events": "events"}


def _added(table: type[Counters], *counts: Any) -> dict[Any, Any]:
    """The counters of a row with `counts` added, in the order of `_COUNTERS`."""
    columns = [getattr(table, column) for column in _COUNTERS.values()]
    return {column: column + count for column, count in zip(columns, counts, strict=True)}


_ADD = {
    UsageDay: Prepared(
        lambda host, day, model, total, input, output, cached, reasoning, events: UsageDay.update(
            _added(UsageDay, total, input, output, cached, reasoning, events)
        ).where((UsageDay.host == host) & (UsageDay.day == day) & (UsageDay.model == model))
    ),
    UsageFleetDay: Prepared(
        lambda day, model, total, input, output, cached, reasoning, events: UsageFleetDay.update(
            _added(UsageFleetDay, total, input, output, cached, reasoning, events)
        ).where((UsageFleetDay.day == day) & (UsageFleetDay.model == model))
    ),
    UsageLine: Prepared(
        lambda line_sha256, line, last_used_at, total, input, output, cached, reasoning, events: UsageLine.update(
            {
                UsageLine.line: line,
                UsageLine.last_used_at: last_used_at,
                **_added(UsageLine, total, input, output, cached, reasoning, events),
            }
        ).where(UsageLine.line_sha256 == line_sha256)
    ),
}
"""By table: adds sums to the row of a key."""


def record(settings: Settings, caller: Caller, body: Mapping[str, Any], raw_body: bytes, key: str | None) -> Recorded:
    """Store the entries of a `POST /usage` body, all or none (`docs/protocol.md 6`).

    `key` is the call's `Idempotency-Key`. Raises `Invalid`, `RowChanged` as `Caller.row` does, or as `budgets.charge`.
    """
    key = idempotency.check_key(key)
    entries = read_body(body).usages

    def work() -> Recorded:
        host = caller.row()
        return idempotency.once(
            host, key, raw_body, lambda: _store(settings, host, entries), lambda stamp: _answer(host, entries, stamp)
        )

    return write(work)


def _answer(host: Host, entries: list[Entry], stamp: str) -> Recorded:
    return Recorded.of(host.id, [RecordedEntry.of(entry, stamp) for entry in entries])


def _store(settings: Settings, host: Host, entries: list[Entry]) -> Recorded:
    size = sum(len((text or "").encode()) for entry in entries for text in (entry.line, entry.model))
    budgets.charge(
        host.id,
        Charge("usage_rows", len(entries), settings.usage_rows_per_day, "usage_rows_per_day", "usage entries"),
        Charge("usage_bytes", size, settings.usage_bytes_per_day, "usage_bytes_per_day", "bytes of usage entries"),
    )
    at = clock.now()
    stamp = clock.stamp(at)
    newest = None
    for entry in entries:
        numbers = entry.numbers()
        newest = _INSERT.insert(
            host=host.id, model=entry.model, line=entry.line, outside=entry.outside, created_at=stamp, **numbers
        )
        details = {"line": _shortened(entry.line), **numbers, "model": entry.model, "outside": entry.outside or None}
        given = {name: value for name, value in details.items() if value is not None}
        audit.record("token.usage", actor=audit.host_actor(host), host=host, **given)
    roll_up(host.id, at, entries)
    used = sum(entry.total or 0 for entry in entries)
    _HOST.execute(host=host.id, stamp=stamp, newest=newest, used=used)
    return _answer(host, entries, stamp)


def _shortened(line: str | None) -> str | None:
    """A line as the audit row has it: the usage row has all of it."""
    return line if line is None or len(line) <= _AUDITED_LINE else line[:_AUDITED_LINE] + "…"


def roll_up(host_id: int | None, at: datetime, entries: list[Entry]) -> None:
    """Add entries of one host, or of a deleted one, and one day to all their totals.

    In the transaction that stores them.
    """
    day = at.strftime("%Y-%m-%d")
    for model, mine in _grouped(entries, lambda entry: entry.model or ""):
        _add(UsageDay, {"host": host_id, "day": day, "model": model}, mine)
        _add(UsageFleetDay, {"day": day, "model": model}, mine)
    for line, mine in _grouped(entries, lambda entry: entry.line or ""):
        if line:
            place = {"line_sha256": hashlib.sha256(line.encode()).hexdigest()}
            _add(UsageLine, place, mine, {"line": line, "last_used_at": clock.stamp(at)})


def _grouped(entries: list[Entry], name_of: Any) -> list[tuple[str, list[Entry]]]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(name_of(entry), []).append(entry)
    return sorted(groups.items())


def _add(
    table: type[Counters], place: dict[str, Any], entries: list[Entry], values: dict[str, Any] | None = None
) -> None:
    """Add `entries` to the row at `place`, which is created if needed; `values` are set either way."""
    sums = {name: sum(getattr(entry, name) or 0 for entry in entries) for name in COLUMNS} | {"events": len(entries)}
    if not _ADD[table].changed(**place, **(values or {}), **sums):
        table.insert(**place, **(values or {}), **{_COUNTERS[name]: count for name, count in sums.items()}).execute()
