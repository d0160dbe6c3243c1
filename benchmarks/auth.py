"""`POST /auth`, valid and outdated, over kept connections and with a TLS connection for each, against a bare server."""

import functools
import json
from collections.abc import Callable
from typing import Any

import benchmarks
from benchmarks import _load, _servers
from benchmarks._load import Call, Measured

ANSWER_BYTES = {"valid": 1200, "outdated": 4600}
"""What the answers come to, so that the baseline's have the same size."""


def call(status: str, digest: str) -> Call:
    """A retrieve that gets this status."""
    refresh = "2026-01-01T00:00:00.123456789Z" if status == "valid" else "2025-12-01T00:00:00Z"
    body = {"command": "retrieve", "last_refresh": refresh, "digest": digest if status == "valid" else "0" * 64}
    return Call("/auth", json.dumps(body | {"client_version": "0.169.0", "wrapper_version": "1.0.0"}))


def run() -> list[dict[str, Any]]:
    """Requests a second and p99; 16 kept connections, or 8 clients that open a connection each time."""
    seconds, rounds = (5.0, 5) if benchmarks.full else (2.0, 3)
    results: list[dict[str, Any]] = []
    ways: dict[str, Callable[..., Measured]] = {"kept": _load.wrk, "connection each": _load.new_connections}
    with _servers.home() as where, _servers.cdxsync(where) as ours:
        for status, size in ANSWER_BYTES.items():
            with _servers.bare(where, size=size) as bare:
                for way, load in ways.items():
                    measure = functools.partial(load, where=where, call=call(status, where.digest), seconds=seconds)
                    named = {f"{status}, {way}: bare": bare, f"{status}, {way}": ours}
                    measures = {name: functools.partial(measure, server) for name, server in named.items()}
                    results += _load.compare(rounds, measures)
    return results
