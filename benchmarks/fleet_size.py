"""`POST /auth` and the admin's pages as hosts and usage rows grow, against the same on the smallest fleet."""

import contextlib
import functools
import http.client
import ssl
import statistics
import time
from typing import Any

import benchmarks
from benchmarks import _load, _servers, auth
from benchmarks._servers import Home, Running

SMALL = ((10, 1_000), (1_000, 50_000))
FULL = ((10, 1_000), (100, 10_000), (1_000, 100_000), (10_000, 1_000_000))
CALLERS = 10
PAGES = ("/admin/overview", "/admin/hosts", "/admin/tokens", "/admin/usage")


def run() -> list[dict[str, Any]]:
    """`POST /auth` a second, and the median time of each page; the sizes take turns."""
    sizes = FULL if benchmarks.full else SMALL
    seconds, rounds = (5.0, 5) if benchmarks.full else (2.0, 3)
    with contextlib.ExitStack() as stack:
        homes = [stack.enter_context(_servers.home(hosts=hosts, usage_rows=rows)) for hosts, rows in sizes]
        for where in homes:
            del where.keys[CALLERS:]  # as many hosts call in each
        servers = [stack.enter_context(_servers.cdxsync(where)) for where in homes]
        measures = {
            f"POST /auth, {hosts} hosts, {rows} usage rows": functools.partial(
                _load.wrk, server, where, auth.call("valid", where.digest), seconds=seconds
            )
            for (hosts, rows), where, server in zip(sizes, homes, servers, strict=True)
        }
        results = _load.compare(rounds, measures)
        for page in PAGES:
            times: list[list[float]] = [[] for _ in sizes]
            for _ in range(5 * rounds):
                for mine, where, server in zip(times, homes, servers, strict=True):
                    mine.append(_milliseconds(where, server, page))
            baseline = statistics.median(times[0])
            for (hosts, rows), mine in zip(sizes, times, strict=True):
                median = statistics.median(mine)
                name = f"GET {page}, {hosts} hosts, {rows} usage rows"
                results.append({"name": name, "value": median, "unit": "ms", "ratio": median / baseline})
    return results


def _milliseconds(where: Home, server: Running, page: str) -> float:
    context = ssl.create_default_context(cafile=str(where.pki / "ca.pem"))
    context.load_cert_chain(where.pki / "admin.pem", where.pki / "admin.key")
    connection = http.client.HTTPSConnection("localhost", server.port, context=context, timeout=60)
    connection.connect()
    start = time.perf_counter()
    connection.request("GET", page)
    response = connection.getresponse()
    response.read()
    took = (time.perf_counter() - start) * 1000
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"{page}: {response.status}")
    return took
