"""Commands that are really started; what the tests fork instead does the same."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import forkserver
from tests.support.documents import make_auth
from tests.support.fleet import BASE_ENVIRONMENT, Fleet
from tests.support.terminal import on_terminal

Start = Callable[..., forkserver.Started]


def really(*arguments: str, **streams: Any) -> forkserver.Started:
    return subprocess.Popen([sys.executable, "-m", "cdxsync", *arguments], **streams)


def outcome(start: Start, *arguments: str, input: bytes = b"", **given: Any) -> tuple[bytes, bytes, int | None]:
    """What a command prints, and its exit status."""
    pipe = subprocess.PIPE
    env = given.pop("env", BASE_ENVIRONMENT)
    with start(*arguments, env=env, stdin=pipe, stdout=pipe, stderr=pipe, **given) as process:
        output, errors = process.communicate(input, 60)
    return output, errors, process.returncode


@pytest.fixture(scope="module")
def idle(fleet: Fleet) -> Fleet:
    """A fleet with one of each, whose server has ended."""
    fleet.upload(make_auth())
    fleet.key("started.example.net")
    (fleet.home / "review.md").write_text("Look again.\n")
    fleet.cli("prompts", "store", str(fleet.home / "review.md"))
    fleet.cli("pki", "issue", "alice")
    fleet.stop()
    return fleet


COMMANDS = {
    "--help": 0,
    "nonsense": 2,
    "hosts list --nonsense": 2,
    "hosts list": 0,
    "--json hosts show started.example.net": 0,
    "hosts show nobody.example.net": 3,
    "auth show --include-body": 0,
    "usage list": 0,
    "--json prompts list": 0,
    "prompts show review.md": 0,
    "versions show": 0,
    "state show": 0,
    "runner status": 0,
    "jobs list": 0,
    "wrapper cat": 0,
    "pki list": 0,
    "keys list": 0,
    "db check": 0,
    "overview": 0,
    "--json logs --limit 5": 0,
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_prints_the_same(idle: Fleet, line: str) -> None:
    arguments = ["--home", str(idle.home), *line.split()]
    real = outcome(really, *arguments)
    assert real[2] == COMMANDS[line], real
    assert outcome(forkserver.start, *arguments) == real


def test_what_is_given_at_the_start_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directory, umask, environment and standard input."""
    monkeypatch.chdir(tmp_path)
    made = []
    before = os.umask(0)
    try:
        for name, start in (("real", really), ("fork", forkserver.start)):
            env = BASE_ENVIRONMENT | {"CDXSYNC_HOME": name}
            assert outcome(start, "init", "--public-url", "https://localhost:1", env=env)[2] == 0
            assert outcome(start, "auth", "upload", "-", env=env, input=json.dumps(make_auth()).encode())[2] == 0
            home = tmp_path / name
            made.append({str(path.relative_to(home)): oct(path.stat().st_mode) for path in home.rglob("*")})
    finally:
        os.umask(before)
    assert made[0] == made[1]
    assert "cdxsync.db" in made[0]
    assert "cdxsync.db-wal" not in made[0]


def test_the_same_on_a_terminal(idle: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [(["hosts", "list"], b""), (["prompts", "delete", "review.md"], b"no\n")]
    forked = [on_terminal(idle, *command) for command in commands]
    monkeypatch.setenv(forkserver.REAL_STARTS, "1")
    assert [on_terminal(idle, *command) for command in commands] == forked
    assert forked[0][1] == 0
    assert forked[1][1] != 0


@pytest.mark.parametrize("start", [really, forkserver.start], ids=["real", "fork"])
def test_signals_reach_a_command(idle: Fleet, start: Start) -> None:
    for number, status in ((signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)):
        arguments = ["--home", str(idle.home), "logs", "--follow", "--limit", "1"]
        with start(*arguments, env=BASE_ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            assert process.poll() is None
            process.send_signal(number)
            assert process.wait(60) == status


@pytest.mark.parametrize("start", [really, forkserver.start], ids=["real", "fork"])
def test_a_reader_that_has_gone_ends_a_command(idle: Fleet, start: Start) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    arguments = ["--home", str(idle.home), "hosts", "list"]
    env = {name: value for name, value in BASE_ENVIRONMENT.items() if name != "PYTHONUNBUFFERED"}
    with start(*arguments, env=env, stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        assert process.communicate(timeout=60)[1] == b""
        assert process.returncode == 1
