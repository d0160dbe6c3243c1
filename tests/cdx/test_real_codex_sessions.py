"""Session files of the real Codex: forks, sub-agents, archived ones, and Codex without cdx, each token once."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Fleet
from tests.support.machines import Machine
from tests.support.provider import Provider
from tests.support.real_codex import RealCodex, codex_host
from tests.support.sessions import COUNTS
from tests.support.tool_calls import Delegating

pytestmark = [pytest.mark.codex, pytest.mark.every_codex]
ANSWER = COUNTS["total"]


def used(fleet: Fleet) -> list[tuple[int, bool]]:
    """(total, whether outside cdx) of each row, oldest first."""
    return [(row["total"], row["outside"]) for row in fleet.usages()]


def run(machine: Machine, *arguments: str) -> None:
    """Codex with cdx."""
    done = machine.run_cdx("exec", "--skip-git-repo-check", *arguments)
    assert done.returncode == 0, done.stderr


def plain(machine: Machine, *arguments: str) -> None:
    """Codex without it."""
    done = machine.run("codex", *arguments)
    assert done.returncode == 0, done.stderr


def sessions(machine: Machine) -> list[dict[str, Any]]:
    """What the session files say of themselves, the oldest first."""
    paths = sorted(machine.home.glob(".codex/*sessions/**/rollout-*.jsonl"), key=lambda path: path.name)
    return [json.loads(path.read_text().split("\n", 1)[0])["payload"] for path in paths]


@pytest.mark.parametrize("fork_context", [False, True])
def test_a_sub_agent_is_counted_once(
    codex: RealCodex, served: Fleet, provider: Provider, tmp_path: Path, fork_context: bool
) -> None:
    served.upload(provider.login())
    machine = codex_host(codex, served, tmp_path, provider)
    provider.reply = model = Delegating(fork_context=fork_context)
    run(machine, "delegate this")
    parent, agent = sessions(machine)
    assert (agent["id"], agent["parent_thread_id"]) == (model.agent, parent["id"])
    assert agent["source"]["subagent"]["thread_spawn"]["parent_thread_id"] == parent["id"]
    assert used(served) == [(4 * ANSWER, False)]
    # And without cdx, with the parent's session archived before anything looks.
    plain(machine, "exec", "--skip-git-repo-check", "delegate this")
    plain(machine, "archive", sessions(machine)[2]["id"])
    assert machine.run_cdx("--wrapper-sync").returncode == 0
    assert used(served)[1:] == [(4 * ANSWER, True)]
    run(machine, "say hi")
    assert used(served)[2:] == [(ANSWER, False)]


def test_forks_and_sessions_that_go_on_with_and_without_cdx(
    codex: RealCodex, served: Fleet, provider: Provider, tmp_path: Path
) -> None:
    served.upload(provider.login())
    machine = codex_host(codex, served, tmp_path, provider)
    machine.put_auth(provider.login())
    plain(machine, "exec", "--skip-git-repo-check", "say hi")  # before cdx
    before = sessions(machine)[0]["id"]
    run(machine, "say hi")
    own = sessions(machine)[1]["id"]
    assert used(served) == [(ANSWER, False)]
    for session in (before, own):
        run(machine, "fork", session, "forked")
        plain(machine, "exec", "--skip-git-repo-check", "fork", session, "forked")
        plain(machine, "exec", "--skip-git-repo-check", "resume", session, "again")
    run(machine, "resume", own, "again")
    rows = used(served)[1:]
    assert sum(total for total, outside in rows if not outside) == 3 * ANSWER
    assert sum(total for total, outside in rows if outside) == 4 * ANSWER
    assert machine.run_cdx("--wrapper-sync").returncode == 0
    assert used(served)[1:] == rows
    plain(machine, "archive", own)
    assert machine.run_cdx("--wrapper-sync").returncode == 0
    plain(machine, "unarchive", own)
    run(machine, "resume", own, "again")
    assert used(served)[1 + len(rows) :] == [(ANSWER, False)]
