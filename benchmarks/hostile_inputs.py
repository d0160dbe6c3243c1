"""Inputs that were chosen to cost most, at sizes n, 2n and 4n: a ratio of 4 in the third row is linear, 16 quadratic.

Whatever reads what a host sends, before or after it is known who that is, has its cases in `_hostile`. What counts is
processor time, so that a busy machine changes little.
"""

from typing import Any

import benchmarks
from benchmarks import _hostile, _servers

ROUNDS = 3


def run() -> list[dict[str, Any]]:
    """Milliseconds of processor time for each case and size; the ratio is over that of the smallest size."""
    rows: list[dict[str, Any]] = []
    factor = 4 if benchmarks.full else 1
    for name, case in _hostile.CASES.items():
        sizes = [case.size * factor * times for times in (1, 2, 4)]
        rows += _rows(name, sizes, [min(case.seconds(size) for _ in range(ROUNDS)) for size in sizes])
    with _servers.home(hosts=1) as where, _servers.cdxsync(where) as server:
        for name, send in _hostile.REQUESTS.items():
            sizes = [times * factor * 250 for times in (1, 2, 4)]
            rows += _rows(name, sizes, [_hostile.server_seconds(server, send, size) for size in sizes])
    return rows


def _rows(name: str, sizes: list[int], seconds: list[float]) -> list[dict[str, Any]]:
    return [
        {"name": f"{name}, {size:,}", "value": taken * 1000, "unit": "ms", "ratio": taken / max(seconds[0], 1e-9)}
        for size, taken in zip(sizes, seconds, strict=True)
    ]
