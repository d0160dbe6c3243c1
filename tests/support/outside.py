"""Codex with and without cdx in front, in one home, and what the server has counted of both."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cdxsync.wrapper.src.document import format_time
from cdxsync.wrapper.src.spool import Spool
from tests.support.fleet import Fleet
from tests.support.machines import Machine
from tests.support.sessions import count, meta, usage


def used(fleet: Fleet, machine: Machine) -> list[tuple[int, bool]]:
    """(total, whether outside cdx) of each row of a host, oldest first."""
    return [(row["total"], row["outside"]) for row in fleet.usages() if row["fqdn"] == machine.env["NAME"]]


def sync(machine: Machine) -> None:
    """A sync without a run, which counts too."""
    done = machine.run_cdx("--wrapper-sync")
    assert done.returncode == 0, done.stderr


def plain(machine: Machine, *steps: list[Any]) -> None:
    """Codex without cdx."""
    done = machine.run(str(machine.bin / "codex"), json.dumps(steps))
    assert done.returncode == 0, done.stderr


def run(machine: Machine, *steps: list[Any]) -> str:
    """Codex with cdx, in its home; what cdx said."""
    done = machine.run_cdx("exec", "-C", str(machine.home), json.dumps(steps))
    assert done.returncode == 0, done.stderr
    return done.stderr


@contextlib.contextmanager
def started(machine: Machine, *steps: list[Any], program: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """Codex with cdx, or what else is named, which has done these steps, until the end of the block."""
    command = [*(program or (str(machine.cdx), "exec", "-C", str(machine.home)))]
    process = subprocess.Popen(
        [*command, json.dumps([*steps, ["say", "ready\n"], ["wait"]])],
        env=machine.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield process
    process.stdin.close()
    with process.stdout:
        process.stdout.read()  # ends when Codex has ended
    process.wait(60)


def session(machine: Machine, name: str, total: int, **more: Any) -> list[list[Any]]:
    """A new session of `codex exec` that uses so many tokens, in the machine's home."""
    facts = {"cwd": str(machine.home), "originator": "codex_exec", "source": "exec"} | more
    return [["open", name], meta(name, **facts), ["turn_context", {"model": "m"}], count(usage(total))]


def date_back(path: Path, seconds: float) -> None:
    """Let all of a session file be from another time."""
    lines = [json.loads(line) | {"timestamp": format_time(seconds)} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def notes(machine: Machine) -> Path:
    """The folder of cdx's own notes."""
    return machine.home / ".codex" / ".cdx"


def context_of(machine: Machine) -> Any:
    """What a sweep of this process is to work with, in the machine's home."""
    home = str(machine.home / ".codex")
    return SimpleNamespace(home=home, spool=Spool(home))
