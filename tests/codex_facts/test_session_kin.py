"""How session files are related: sub-agents, and what becomes of a file when Codex archives its session."""

from pathlib import Path

import pytest

from tests.support.codex_home import CodexHome
from tests.support.provider import Provider
from tests.support.real_codex import RealCodex
from tests.support.tool_calls import Delegating

pytestmark = [pytest.mark.codex, pytest.mark.every_codex]


@pytest.fixture
def home(codex: RealCodex, provider: Provider, tmp_path: Path) -> CodexHome:
    made = CodexHome(codex, tmp_path, provider)
    made.put_auth(provider.login())
    return made


@pytest.mark.parametrize("fork_context", [False, True])
def test_a_sub_agent_has_a_file_that_names_its_parent_and_records_of_its_own(
    home: CodexHome, provider: Provider, fork_context: bool
) -> None:
    provider.reply = model = Delegating(fork_context=fork_context)
    assert home.run("exec", "--skip-git-repo-check", "delegate this").returncode == 0
    parent, agent = (home.records(path) for path in home.sessions())
    meta, above = agent[0]["payload"], parent[0]["payload"]["id"]
    assert (meta["id"], meta["parent_thread_id"]) == (model.agent, above)
    assert meta["source"]["subagent"]["thread_spawn"]["parent_thread_id"] == above
    assert (meta["originator"], meta["cwd"]) == ("codex_exec", str(home.work))
    used = [record["payload"]["thread_id"] for record in agent if record["type"] == "token_usage_record"]
    assert used == [model.agent]
    turns = [record["payload"]["turn_id"] for record in agent if record["type"] == "turn_context"]
    # What was copied of the parent's history is of a turn with an earlier identifier than the agent's own.
    assert [turn[:13] >= model.agent[:13] for turn in turns] == [False] * fork_context + [True]


def test_an_archived_session_keeps_its_file_and_name(home: CodexHome) -> None:
    home.exec()
    [path] = home.sessions()
    content, inode = path.read_bytes(), path.stat().st_ino
    thread = home.records(path)[0]["payload"]["id"]
    assert home.run("archive", thread).returncode == 0
    archived = home.path / "archived_sessions" / path.name
    assert (archived.read_bytes(), archived.stat().st_ino) == (content, inode)
    assert home.run("unarchive", thread).returncode == 0
    assert home.sessions() == [path]
    assert path.read_bytes() == content
