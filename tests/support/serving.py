"""`cdxsync serve` as somebody starts it who has just installed it."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def starts_and_stops(command: Sequence[str | Path], env: Mapping[str, str]) -> None:
    """Start a server, wait until it listens, and see that it ends well."""
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert any(line.startswith("Listening on") for line in process.stderr)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
