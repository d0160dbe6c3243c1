"""The p99 of `POST /auth` beside 500 connected clients that say nothing, against none; it shall be 2 at most."""

import functools
import socket
from typing import Any

import benchmarks
from benchmarks import _load, _servers, auth

CLIENTS = 500


def run() -> list[dict[str, Any]]:
    """Requests a second and p99 without and with them; they open new connections for each round."""
    seconds, rounds = (5.0, 5) if benchmarks.full else (2.0, 3)
    with _servers.home() as where, _servers.cdxsync(where) as server:
        quiet = functools.partial(_load.wrk, server, where, auth.call("valid", where.digest), seconds=seconds)

        def beside() -> _load.Measured:
            silent = [socket.create_connection(("localhost", server.port)) for _ in range(CLIENTS)]
            try:
                return quiet()
            finally:
                for connection in silent:
                    connection.close()

        return _load.compare(rounds, {"no silent clients": quiet, f"{CLIENTS} silent clients": beside})
