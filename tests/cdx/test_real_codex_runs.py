"""The real Codex under cdx: its usage is counted in every mode, and a refresh in a long run is shared at once."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import jwt, make_auth, with_auths
from tests.support.fleet import Fleet
from tests.support.machines import Machine, Terminal
from tests.support.real_codex import RealCodex, install
from tests.support.sessions import COUNTS
from tests.support.upstream import Upstream

pytestmark = pytest.mark.codex
ANSWER = COUNTS | {"model": "gpt-5.1"}


def usage(fleet: Fleet) -> list[dict[str, Any]]:
    return [{name: row[name] for name in (*ANSWER, "line") if row[name] is not None} for row in fleet.usages()]


@pytest.fixture
def machine(codex: RealCodex, fresh_fleet: Fleet, upstream: Upstream, tmp_path: Path) -> Machine:
    fresh_fleet.upload(make_auth())
    return install(codex, fresh_fleet, upstream, tmp_path / "one", "one.example.net")


def run(machine: Machine, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = machine.run_cdx("exec", "--skip-git-repo-check", *arguments)
    assert done.returncode == 0, done.stderr
    assert "cdx:" not in done.stderr
    return done


def test_usage_is_exact_in_every_mode(machine: Machine, fresh_fleet: Fleet) -> None:
    assert run(machine, "say hi").stdout == "hi there\n"
    events = [json.loads(line) for line in run(machine, "--json", "say hi").stdout.splitlines()]
    session = events[0]["thread_id"]
    # A resumed session and a fork begin with a running total that was counted before.
    run(machine, "resume", session, "again")
    run(machine, "fork", session, "forked")
    assert usage(fresh_fleet) == [ANSWER] * 4
    assert machine.note("state.json")["sessions"] is True
    # Without a session file: the events, or the one printed number.
    run(machine, "--ephemeral", "--json", "say hi")
    run(machine, "--ephemeral", "say hi")
    assert usage(fresh_fleet)[4:] == [ANSWER, {"total": 4760, "model": "gpt-5.1", "line": "tokens used 4,760"}]
    assert machine.spooled() == []


def test_a_run_on_a_terminal(machine: Machine, fresh_fleet: Fleet) -> None:
    for number, arguments in enumerate(((), ("--ephemeral",)), 1):
        terminal = Terminal(machine, "exec", "--skip-git-repo-check", *arguments, "say hi")
        terminal.type(b"\x04")
        terminal.wait()
        assert "hi there" in terminal.seen
        assert len(usage(fresh_fleet)) == number


def test_runs_at_once_count_their_own(machine: Machine, fresh_fleet: Fleet, upstream: Upstream) -> None:
    upstream.fail("/v1/responses", delay=1.0, times=3)
    command = [str(machine.cdx), "exec", "--skip-git-repo-check", "say hi"]
    processes = [
        subprocess.Popen(
            command, env=machine.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.communicate(timeout=120)[0] == b"hi there\n"
    assert usage(fresh_fleet) == [ANSWER] * 3


def test_a_refresh_is_shared_while_codex_runs(
    codex: RealCodex, machine: Machine, fresh_fleet: Fleet, upstream: Upstream, tmp_path: Path
) -> None:
    expired = make_auth("2026-01-02T00:00:00Z")
    expired["tokens"]["access_token"] = jwt("expired", expires=1_700_000_000)
    expired["tokens"]["refresh_token"] = "rt-old"
    fresh_fleet.upload(expired)
    other = install(codex, fresh_fleet, upstream, tmp_path / "two", "two.example.net")
    # Codex refreshes its token, and then waits for its answer.
    upstream.fail("/v1/responses", hold=True, times=1)
    process = subprocess.Popen(
        [str(machine.cdx), "exec", "--skip-git-repo-check", "say hi"],
        env=machine.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while (canonical := fresh_fleet.canonical()) == with_auths(expired):
        assert process.poll() is None
    assert process.poll() is None
    assert canonical == with_auths(machine.auth())
    assert run(other, "say hi").stdout == "hi there\n"
    assert upstream.count("/oauth/token") == 1
    assert process.poll() is None
    upstream.release()
    assert process.communicate(timeout=120)[0] == b"hi there\n"
    assert usage(fresh_fleet) == [ANSWER] * 2
