"""Calls of hosts on PostgreSQL and MariaDB against SQLite, and the processor time that each call takes."""

import contextlib
import functools
import statistics
from typing import Any

import benchmarks
from benchmarks import _databases, _load, _servers, auth, usage
from benchmarks._load import Call, Measured
from benchmarks._servers import Home, Running


def run() -> list[dict[str, Any]]:
    """Requests a second, p99, and milliseconds of the processors a request; 16 kept connections, or 8 clients.

    The database is on the same machine, and takes from it what the server then lacks.
    """
    seconds, rounds = (5.0, 5) if benchmarks.full else (2.0, 3)
    results: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        measured: dict[str, tuple[Home, Running, dict[str, int]]] = {}
        databases = {"SQLite": None, "PostgreSQL": _databases.postgres, "MariaDB": _databases.mariadb}
        for name, start in databases.items():
            database = stack.enter_context(start()) if start is not None else None
            where = stack.enter_context(_servers.home(database_url=database.fresh() if database else ""))
            server = stack.enter_context(_servers.cdxsync(where))
            pids = {"server": server.pid}
            if database and database.process:
                pids["database"] = database.process.pid
            measured[name] = (where, server, pids)
        for label in ("auth valid", "auth valid, connection each", "auth outdated", "usage, 1 a call"):
            costs: dict[str, list[float]] = {}
            measures = {
                f"{label}: {name}": functools.partial(
                    _measure, where, server, _call(label, where), seconds, pids, f"{label}: {name}", costs
                )
                for name, (where, server, pids) in measured.items()
            }
            results += _load.compare(rounds, measures)
            baseline = statistics.median(next(iter(costs.values())))
            for name, values in costs.items():
                median = statistics.median(values)
                results.append({"name": name, "value": median, "unit": "ms", "ratio": median / baseline})
    return results


def _call(label: str, where: Home) -> Call:
    found = usage.calls().get(label)
    return found[0] if found else auth.call("outdated" if "outdated" in label else "valid", where.digest)


def _measure(
    where: Home,
    server: Running,
    call: Call,
    seconds: float,
    pids: dict[str, int],
    name: str,
    costs: dict[str, list[float]],
) -> Measured:
    before = {who: _servers.processor_seconds(pid) for who, pid in pids.items()}
    load = _load.new_connections if "connection each" in name else _load.wrk
    found = load(server, where, call, seconds=seconds)
    for who, pid in pids.items():
        spent = _servers.processor_seconds(pid) - before[who]
        costs.setdefault(f"{name}, processor time of the {who}", []).append(1000 * spent / found.count)
    return found
