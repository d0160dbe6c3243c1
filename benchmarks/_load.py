"""Load: wrk over kept connections, and a small generator of our own that opens a connection for each request."""

import functools
import http.client
import json
import shutil
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import benchmarks
from benchmarks._servers import Home, Running

CONNECTIONS = 16
_SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Call:
    """A request that hosts send, each with its own key."""

    path: str
    body: str = ""

    @property
    def method(self) -> str:
        """POST when there is a body."""
        return "POST" if self.body else "GET"


@dataclass(frozen=True)
class Measured:
    """What a round of load came to; times in milliseconds."""

    per_second: float
    p50: float
    p99: float
    count: int
    """How many requests there were."""


def wrk(server: Running, where: Home, call: Call, *, seconds: float, connections: int = CONNECTIONS) -> Measured:
    """Requests over kept connections. Raises RuntimeError when one fails."""
    if shutil.which("wrk") is None:
        raise benchmarks.Missing("wrk is not installed; on Debian: apt install wrk")
    with tempfile.TemporaryDirectory() as folder:
        keys, body = Path(folder) / "keys", Path(folder) / "body"
        keys.write_text("\n".join(where.keys) + "\n")
        body.write_text(call.body)
        command = [
            "wrk",
            "--threads=1",
            f"--connections={connections}",
            f"--duration={round(seconds)}s",
            "--timeout=30s",
        ]
        command += [f"--script={_SCRIPT}", f"{server.url}{call.path}", "--", call.method, str(keys), str(body)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    if found["failed"]:
        raise RuntimeError(f"{call.method} {call.path}: {found['failed']} of {found['requests']} requests failed")
    return Measured(found["requests"] / found["seconds"], found["p50"], found["p99"], found["requests"])


def spread(servers: Sequence[Running], where: Home, call: Call, *, seconds: float, connections: int) -> Measured:
    """As `wrk`, over several servers at the same time, as a balancer spreads it: `connections` over all together.

    Times are those of the slower server. Two loads run also where there is one server, so that both cost the same.
    """
    ways = [servers[number % len(servers)] for number in range(2)]
    with ThreadPoolExecutor(len(ways)) as pool:
        one = functools.partial(wrk, where=where, call=call, seconds=seconds, connections=connections // len(ways))
        found = list(pool.map(one, ways))
    return Measured(
        sum(part.per_second for part in found),
        max(part.p50 for part in found),
        max(part.p99 for part in found),
        sum(part.count for part in found),
    )


def new_connections(server: Running, where: Home, call: Call, *, seconds: float, clients: int = 8) -> Measured:
    """A TLS connection for each request, without resumption. Raises RuntimeError when one fails."""
    context = ssl.create_default_context(cafile=str(where.pki / "ca.pem"))
    times: list[float] = []
    end = time.monotonic() + seconds

    def client(number: int) -> None:
        headers = {"X-API-Key": where.keys[number % len(where.keys)], "Content-Type": "application/json"}
        while time.monotonic() < end:
            start = time.perf_counter()
            connection = http.client.HTTPSConnection("localhost", server.port, context=context, timeout=30)
            connection.request(call.method, call.path, call.body or None, headers)
            response = connection.getresponse()
            response.read()
            connection.close()
            times.append((time.perf_counter() - start) * 1000)
            if response.status != 200:
                raise RuntimeError(f"{call.method} {call.path}: {response.status}")

    start = time.monotonic()
    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(client, range(clients)))  # which raises what one of them did
    took = time.monotonic() - start
    cuts = statistics.quantiles(times, n=100)
    return Measured(len(times) / took, cuts[49], cuts[98], len(times))


def compare(rounds: int, measures: Mapping[str, Callable[[], Measured]]) -> list[dict[str, object]]:
    """Take turns, so that a busy machine slows all; the first is the baseline. Medians of values and of ratios."""
    found: dict[str, list[Measured]] = {name: [] for name in measures}
    for measure in measures.values():  # what is made when first used is made
        measure()
    for _ in range(rounds):
        for name, measure in measures.items():
            found[name].append(measure())
    baseline = next(iter(found.values()))
    results: list[dict[str, object]] = []
    for name, mine in found.items():
        results.append(_row(name, "requests/s", baseline, mine, lambda one: one.per_second))
        results.append(_row(f"{name}, p99", "ms", baseline, mine, lambda one: one.p99))
    return results


def _row(
    name: str, unit: str, baseline: Iterable[Measured], mine: Iterable[Measured], value: Callable[[Measured], float]
) -> dict[str, object]:
    mine = list(mine)
    ratios = [value(one) / value(base) for one, base in zip(mine, baseline, strict=True)]
    median = statistics.median(value(one) for one in mine)
    return {"name": name, "value": median, "unit": unit, "ratio": statistics.median(ratios)}
