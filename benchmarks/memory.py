"""Memory of a server of one process: idle after its start, and idle after load, against the bare server."""

from typing import Any

from benchmarks import _load, _servers, auth


def run() -> list[dict[str, Any]]:
    """Private resident memory in MB; the target of an idle worker is 60."""
    found: dict[str, float] = {}
    with _servers.home() as where, _servers.bare(where, size=1200) as bare, _servers.cdxsync(where) as ours:
        call = auth.call("outdated", where.digest)
        for name, server in (("bare", bare), ("cdxsync", ours)):
            _load.new_connections(server, where, call, seconds=0.2)
            found[f"{name}, idle"] = _servers.memory_mb(server.pid)
        for name, server in (("bare", bare), ("cdxsync", ours)):
            _load.wrk(server, where, call, seconds=5)
            found[f"{name}, after load"] = _servers.memory_mb(server.pid)
    return [
        {"name": name, "value": value, "unit": "MB", "ratio": value / found["bare, idle"]}
        for name, value in found.items()
    ]
