"""Token usage: recording it, with the roll-ups that make every total a look-up."""

import hashlib
from datetime import datetime
from typing import Any

from cdxsync.domain import audit, clock, hosts, idempotency, usage_entries
from cdxsync.domain.usage_entries import Entry
from cdxsync.store.database import write
from cdxsync.store.tables import Counters, Host, TokenUsage, UsageDay, UsageFleetDay, UsageLine

COLUMNS = {
    "total": "total",
    "input": "input_tokens",
    "output": "output_tokens",
    "cached": "cached_tokens",
    "reasoning": "reasoning_tokens",
}
"""The five counts, by their names in the API, with their columns."""


def record(caller: Host, body: dict[str, Any], raw_body: bytes, key: str | None) -> dict[str, Any]:
    """Store the entries of a `POST /usage` body, all or none; returns the answer's `data` (`contract.md` 4.6).

    `key` is the call's `Idempotency-Key`. Raises `Invalid`.
    """
    key = idempotency.check_key(key)
    entries = usage_entries.read_body(body)

    def work() -> dict[str, Any]:
        host = hosts.still_valid(caller.id, caller.api_key_sha256)
        return idempotency.once(host, key, raw_body, lambda: _store(host, entries))

    return write(work)


def _store(host: Host, entries: list[Entry]) -> dict[str, Any]:
    at = clock.now()
    stamp = clock.stamp(at)
    newest = None
    rows = []
    for entry in entries:
        newest = TokenUsage.insert(
            host=host.id,
            model=entry.model,
            line=entry.line,
            created_at=stamp,
            **{COLUMNS[name]: count for name, count in entry.numbers().items()},
        ).execute()
        shown = {"line": entry.line, **entry.numbers(), "model": entry.model}
        given = {name: value for name, value in shown.items() if value is not None}
        audit.record("token.usage", actor=audit.host_actor(host), host=host, **given)
        rows.append({"recorded_at": stamp, **shown})
    roll_up(host.id, at, entries)
    used = sum(entry.total or 0 for entry in entries)
    Host.update(last_seen_at=stamp, latest_usage_id=newest, usage_total=Host.usage_total + used).where(
        Host.id == host.id
    ).execute()
    data: dict[str, Any] = {"host_id": host.id, "recorded": len(rows), "usages": rows}
    return data | rows[0] if len(rows) == 1 else data


def roll_up(host_id: int | None, at: datetime, entries: list[Entry]) -> None:
    """Add entries of one host, or of one that is gone, and one day to all totals that they belong to.

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
    """Add `entries` to the row at `place`, which is made when it is not there; `values` are set either way."""
    sums = {column: sum(getattr(entry, name) or 0 for entry in entries) for name, column in COLUMNS.items()}
    sums["events"] = len(entries)
    added = {column: getattr(table, column) + count for column, count in sums.items()}
    update = table.update({**added, **(values or {})})
    for name, value in place.items():
        update = update.where(getattr(table, name) == value)
    if not update.execute():
        table.insert(**place, **(values or {}), **sums).execute()
