"""The benchmarks can be called, and what keeps the start of the command line fast stays so."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_cases_are_listed() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks", "--list"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules = [path.stem for path in sorted((ROOT / "benchmarks").glob("[a-z]*.py"))]
    listed = dict(line.split("\t") for line in done.stdout.splitlines())
    assert list(listed) == modules
    assert all(listed.values()), "each says what it measures"
    assert all(callable(importlib.import_module(f"benchmarks.{name}").run) for name in modules)


def test_an_unknown_case_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks", "nonsense"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.search("no case nonsense; there are: .*cli_start", done.stderr)


def test_help_loads_no_rich() -> None:
    """Which would more than double its time; `benchmarks.cli_start` measures it."""
    command = [sys.executable, "-X", "importtime", "-m", "cdxsync", "hosts", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & {"rich", "cryptography", "peewee", "bottle", "cheroot"}
