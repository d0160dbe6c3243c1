"""Make a home of a given size; run as a program, as it opens a database. Prints the document's digest and the keys."""

import argparse
import contextlib
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import _servers
from cdxsync.auth import exchange, history
from cdxsync.base import clock, settings
from cdxsync.ops import homes
from cdxsync.prompts import catalog
from cdxsync.security import apikeys
from cdxsync.store import rights
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet
from cdxsync.store.table import Guarded
from cdxsync.store.tables import Host, TokenUsage, UsageDay, UsageFleetDay, proxy

_ROWS_AT_ONCE = 2000
_MODEL = "gpt-5.1-codex"
_DAYS = 60


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    for name in ("hosts", "usage-rows", "prompts"):
        parser.add_argument(f"--{name}", type=int, default=0)
    given = parser.parse_args()
    loaded = settings.load(given.home, flags={"public_url": "https://localhost:8443"})
    homes.initialise(loaded)
    fleet = homes.open_fleet(loaded)
    with contextlib.closing(fleet.database), fleet.database.scope():
        _fill(fleet, given)


def _fill(fleet: Fleet, given: argparse.Namespace) -> None:
    is_sqlite = not fleet.settings.database_url
    if is_sqlite:
        proxy.execute_sql("PRAGMA synchronous = off")
    keys = [apikeys.mint() for _ in range(given.hosts)]
    _insert(Host, _hosts(keys))
    _insert(TokenUsage, _usage(given.hosts, given.usage_rows))
    if given.usage_rows:
        _roll_up()
    if is_sqlite:
        proxy.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    for number in range(given.prompts):
        prompt = catalog.read_prompt({"filename": f"p{number}.md", "prompt": f"# {number}\n" + "words " * 200}, 1 << 20)
        catalog.store(fleet.settings, prompt, actor="benchmark")
    exchange.upload(fleet, _servers.document(), host=None, actor="benchmark")
    shown = history.show(fleet, include_body=False, actor="benchmark")
    print(shown.canonical_digest, *keys[: _servers.HOSTS])


def _hosts(keys: list[str]) -> Iterator[dict[str, Any]]:
    for number, key in enumerate(keys, 1):
        at = clock.stamp(clock.now() - timedelta(minutes=number))
        yield {
            "id": number,
            "fqdn": f"host{number:05}.example.net",
            "api_key_sha256": apikeys.fingerprint(key),
            "status": "active",
            "ip": "127.0.0.1",
            "client_version": "unknown",
            "wrapper_version": "unknown",
            "api_calls": 1,
            "last_seen_at": at,
            "created_at": at,
            "updated_at": at,
        }


def _usage(hosts: int, count: int) -> Iterator[dict[str, Any]]:
    start = datetime.now(UTC) - timedelta(days=_DAYS)
    for number in range(count):
        at = start + timedelta(days=_DAYS) * (number / count)
        total = secrets.randbelow(10_000)
        yield {
            "host": number % hosts + 1,
            "total": total,
            "input_tokens": total // 2,
            "output_tokens": total - total // 2,
            "model": _MODEL,
            "created_at": clock.stamp(at),
        }


def _insert(table: Any, rows: Iterator[dict[str, Any]]) -> None:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS_AT_ONCE:
            _insert_batch(table, batch)
            batch = []
    _insert_batch(table, batch)


def _insert_batch(table: Any, rows: list[dict[str, Any]]) -> None:
    if rows and issubclass(table, Guarded):
        write(lambda: [rights.insert(table, **row) for row in rows])
    elif rows:
        write(lambda: table.insert_many(rows).execute())


def _roll_up() -> None:
    """The totals that the server would have kept as these rows came in."""
    sums = "SUM(total), SUM(input_tokens), SUM(output_tokens), 0, 0, COUNT(*)"
    columns = "total, input_tokens, output_tokens, cached_tokens, reasoning_tokens, events"

    def work() -> None:
        for table, place in ((UsageDay, "host_id, "), (UsageFleetDay, "")):
            name = table._meta.table_name
            proxy.execute_sql(
                f"INSERT INTO {name} ({place}day, model, {columns})"
                f" SELECT {place}substr(created_at, 1, 10), model, {sums} FROM token_usages"
                f" GROUP BY {place}substr(created_at, 1, 10), model"
            )
        proxy.execute_sql(
            "UPDATE hosts SET (usage_total, latest_usage_id) ="
            " (SELECT COALESCE(SUM(total), 0), MAX(id) FROM token_usages WHERE host_id = hosts.id)"
        )

    proxy.execute_sql("CREATE INDEX IF NOT EXISTS temporary_host ON token_usages (host_id, total)")
    write(work)
    proxy.execute_sql("DROP INDEX temporary_host")


if __name__ == "__main__":
    main()
