"""`POST /auth` and `/usage` with 1 and with 2 servers on one PostgreSQL."""

import functools
from typing import Any

import benchmarks
from benchmarks import _databases, _load, _servers, auth, usage
from benchmarks._load import Call

CONNECTIONS = 32


def run() -> list[dict[str, Any]]:
    """Requests a second and p99; 32 kept connections over all servers.

    Servers, database and load share this machine: servers on machines of their own gain more.
    """
    seconds, rounds = (5.0, 5) if benchmarks.full else (2.0, 3)
    results: list[dict[str, Any]] = []
    with (
        _databases.postgres() as database,
        _servers.home(database_url=database.fresh()) as where,
        _servers.same_home(where) as copy,
        _servers.cdxsync(where) as first,
        _servers.cdxsync(copy) as second,
    ):
        calls: dict[str, Call] = {
            "auth valid": auth.call("valid", where.digest),
            "usage, 1 a call": usage.calls()["usage, 1 a call"][0],
        }
        for label, call in calls.items():
            load = functools.partial(_load.spread, where=where, call=call, seconds=seconds, connections=CONNECTIONS)
            measures = {
                f"{label}: 1 server": functools.partial(load, [first]),
                f"{label}: 2 servers": functools.partial(load, [first, second]),
            }
            results += _load.compare(rounds, measures)
    return results
