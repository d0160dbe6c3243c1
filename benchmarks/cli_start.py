"""Start-up of `cdxsync --help` against `python -c "import typer"`; the ratio shall be 2.5 at most.

The two take turns, so that a busy machine slows both; the medians count.
"""

import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

ROUNDS = 15


def run() -> list[dict[str, Any]]:
    """Median times of both, in milliseconds."""
    cdxsync = Path(sysconfig.get_path("scripts")) / "cdxsync"
    commands = {
        'python -c "import typer"': [sys.executable, "-c", "import typer"],
        "cdxsync --help": [str(cdxsync), "--help"],
    }
    for command in commands.values():  # compiles what is not compiled yet, and fills the file cache
        _milliseconds(command)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            times[name].append(_milliseconds(command))
    medians = {name: statistics.median(values) for name, values in times.items()}
    baseline = next(iter(medians.values()))
    return [{"name": name, "value": value, "unit": "ms", "ratio": value / baseline} for name, value in medians.items()]


def _milliseconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - start) * 1000
