"""`POST /usage` with 1 and with 100 entries a call, and the list of prompts, over kept connections."""

import functools
import json
from typing import Any

import benchmarks
from benchmarks import _load, _servers
from benchmarks._load import Call

PROMPTS = 20


def calls() -> dict[str, tuple[Call, int]]:
    """The requests by name, with the size of their answers."""
    entry = {"total": 4880, "input": 4200, "output": 560, "cached": 120, "model": "gpt-5.1-codex"}
    return {
        "usage, 1 a call": (Call("/usage", json.dumps(entry)), 420),
        "usage, 100 a call": (Call("/usage", json.dumps({"usages": [entry] * 100})), 15_800),
        f"list of {PROMPTS} prompts": (Call("/slash-commands"), 3700),
    }


def run() -> list[dict[str, Any]]:
    """Requests a second and p99."""
    seconds, rounds = (5.0, 5) if benchmarks.full else (2.0, 3)
    results: list[dict[str, Any]] = []
    with _servers.home(prompts=PROMPTS) as where, _servers.cdxsync(where) as ours:
        for name, (call, size) in calls().items():
            with _servers.bare(where, size=size) as bare:
                measure = functools.partial(_load.wrk, where=where, call=call, seconds=seconds)
                measures = {f"{name}: bare": functools.partial(measure, bare), name: functools.partial(measure, ours)}
                results += _load.compare(rounds, measures)
    return results
