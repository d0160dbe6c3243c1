"""`POST /auth` with 1 and with 2 workers on one database."""

import functools
import subprocess
import sys
from typing import Any

import benchmarks
from benchmarks import _load, _servers, auth


def run() -> list[dict[str, Any]]:
    """Requests a second and p99; 32 kept connections."""
    shown = subprocess.run([sys.executable, "-m", "cdxsync", "serve", "--help"], capture_output=True, text=True)
    if "--workers" not in shown.stdout:
        raise benchmarks.Missing("this version has no serve --workers")
    seconds, rounds = (5.0, 5) if benchmarks.full else (2.0, 3)
    with (
        _servers.home() as one,
        _servers.home() as two,
        _servers.cdxsync(one, "--workers", "1") as single,
        _servers.cdxsync(two, "--workers", "2") as double,
    ):
        measures = {
            f"{count} workers": functools.partial(
                _load.wrk, server, where, auth.call("valid", where.digest), seconds=seconds, connections=32
            )
            for count, server, where in ((1, single, one), (2, double, two))
        }
        return _load.compare(rounds, measures)
