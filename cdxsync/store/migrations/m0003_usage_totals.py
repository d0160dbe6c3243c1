"""Roll-ups of usage: of the whole fleet by day and model, by printed line, and what is shown of each host."""

import hashlib
from collections.abc import Callable
from typing import Any

_SUMS = "total, input_tokens, output_tokens, cached_tokens, reasoning_tokens"
_COUNTERS = """
        total {bigint} NOT NULL,
        input_tokens {bigint} NOT NULL,
        output_tokens {bigint} NOT NULL,
        cached_tokens {bigint} NOT NULL,
        reasoning_tokens {bigint} NOT NULL,
        events {bigint} NOT NULL"""

STATEMENTS = (
    f"""CREATE TABLE usage_fleet_days (
        id {{id}},
        day VARCHAR(10) NOT NULL,
        model VARCHAR(128) NOT NULL,{_COUNTERS},
        UNIQUE (day, model)
    )""",
    f"""CREATE TABLE usage_lines (
        id {{id}},
        line_sha256 VARCHAR(64) NOT NULL UNIQUE,
        line {{longtext}} NOT NULL,
        last_used_at VARCHAR(32) NOT NULL,{_COUNTERS}
    )""",
    "CREATE INDEX usage_lines_order ON usage_lines (total, input_tokens, output_tokens, cached_tokens, id)",
    "CREATE INDEX usage_lines_last_used_at ON usage_lines (last_used_at)",
    "ALTER TABLE hosts ADD COLUMN usage_total {bigint} NOT NULL DEFAULT 0",
    "ALTER TABLE hosts ADD COLUMN latest_usage_id {integer}",
    "CREATE INDEX hosts_usage_total ON hosts (usage_total)",
    f"""INSERT INTO usage_fleet_days (day, model, {_SUMS}, events)
        SELECT day, model, SUM(total), SUM(input_tokens), SUM(output_tokens), SUM(cached_tokens),
        SUM(reasoning_tokens), SUM(events) FROM usage_days GROUP BY day, model""",  # noqa: S608 - of constants
    """UPDATE hosts SET
        usage_total = COALESCE((SELECT SUM(total) FROM usage_days WHERE host_id = hosts.id), 0),
        latest_usage_id = (SELECT MAX(id) FROM token_usages WHERE host_id = hosts.id)""",
)


def fill(execute: Callable[..., Any]) -> None:
    """Sum up the rows by line; their digests are what the statements cannot compute on every engine."""
    sums = ", ".join(f"COALESCE(SUM({name}), 0)" for name in _SUMS.split(", "))
    grouped = execute(
        f"SELECT line, MAX(created_at), {sums}, COUNT(*) FROM token_usages WHERE line IS NOT NULL GROUP BY line"  # noqa: S608
    ).fetchall()
    insert = (
        f"INSERT INTO usage_lines (line_sha256, line, last_used_at, {_SUMS}, events)"  # noqa: S608
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    for row in grouped:
        execute(insert, (hashlib.sha256(row[0].encode()).hexdigest(), *row))
