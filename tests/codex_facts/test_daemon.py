"""The full-screen program and its daemon: what it leaves behind, what that knows, and how to do without."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cdxsync.wrapper.src.daemon import ask_daemon, daemon_process, daemon_processes, end_daemon
from tests.support.codex_home import HI, CodexHome, tokens_of_prompt
from tests.support.provider import Provider, running_provider
from tests.support.real_codex import RealCodex
from tests.support.together import until

pytestmark = [pytest.mark.codex, pytest.mark.every_codex]


@dataclass
class Daemon:
    """A home in which the full-screen program has run as plain Codex runs it; what it has left behind goes on."""

    home: CodexHome
    provider: Provider

    @property
    def pid(self) -> int | None:
        """The background server."""
        return daemon_process(str(self.home.path), "daemon.pid")

    @property
    def token(self) -> str:
        """The access token that the background server has."""
        answer = ask_daemon(str(self.home.path))
        assert answer is not None
        return answer[2]


@pytest.fixture(scope="module")
def daemon(codex: RealCodex, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running_provider() as provider:
        home = CodexHome(codex, tmp_path_factory.mktemp("daemon"), provider)
        home.put_auth(provider.login())
        program = home.full_screen("say hi")
        try:
            program.wait_for(HI)
            program.hang_up()
            yield Daemon(home, provider)
        finally:
            end_daemon(str(home.path))
            shutil.rmtree(home.path / "packages", ignore_errors=True)


def test_the_help_of_each_full_screen_command_has_no_daemon(home: CodexHome) -> None:
    for command in ([], ["resume"], ["fork"], ["agents"]):
        assert "\n      --no-daemon\n" in home.run(*command, "--help").stdout, command


def test_without_the_option_a_background_server_and_its_updater_stay(daemon: Daemon) -> None:
    """By the notes that Codex writes, with the moment of their start."""
    assert [what for _, what in daemon_processes(str(daemon.home.path))] == ["updater", "background server"]
    note = json.loads((daemon.home.path / "app-server-daemon" / "daemon.pid").read_text())
    assert {"pid", "processStartTime", "processIdentity"} <= note.keys()
    assert note["processIdentity"]["startTicks"] > 0


def test_the_background_server_tells_its_version_and_its_token(daemon: Daemon) -> None:
    tokens = daemon.home.auth()["tokens"]
    assert ask_daemon(str(daemon.home.path)) == (daemon.home.codex.version, "chatgpt", tokens["access_token"])


def test_a_login_of_another_account_is_used_without_the_daemon_and_by_exec_and_after_a_restart(daemon: Daemon) -> None:
    before, pid = daemon.token, daemon.pid
    login = daemon.provider.login(account="acc-2")
    daemon.home.put_auth(login)
    program = daemon.home.full_screen("--no-daemon", "one")
    program.wait_for("one", HI)
    program.hang_up()
    assert daemon.home.exec().returncode == 0
    token = login["tokens"]["access_token"]
    assert tokens_of_prompt(daemon.provider, "say hi") == [before, token]
    assert tokens_of_prompt(daemon.provider, "one") == [token]
    assert (daemon.token, daemon.pid) == (before, pid)
    assert daemon.home.run("app-server", "daemon", "restart").returncode == 0
    assert daemon.token == token
    assert daemon.pid not in (pid, None)


def test_a_full_screen_run_without_the_daemon_ends_with_its_terminal(home: CodexHome, provider: Provider) -> None:
    home.put_auth(provider.login())
    for arguments in (
        ["say hi"],
        ["resume", "--last", "go on"],
        ["-c", "model_verbosity=low", "fork", "--last", "once more"],
    ):
        asked = len(home.answers())
        program = home.full_screen("--no-daemon", *arguments)
        program.wait_for(arguments[-1], HI)
        until(lambda asked=asked: len(home.answers()) > asked)  # type: ignore[misc]
        program.hang_up()
    assert daemon_processes(str(home.path)) == []
    assert not (home.path / "packages").exists()
    first, second = (home.records(path) for path in home.sessions())
    assert first[0]["payload"]["originator"] == "codex-tui"
    assert len([record for record in first if record["type"] == "token_usage_record"]) == 2
    assert second[0]["payload"]["forked_from_id"] == first[0]["payload"]["id"]


def test_another_server_and_no_daemon_exclude_each_other(home: CodexHome) -> None:
    assert home.run("--no-daemon", "--remote", "unix://", "hi").returncode == 1


def test_a_termination_signal_ends_both_and_neither_comes_back(daemon: Daemon) -> None:
    """The last of these: it ends what they share."""
    assert end_daemon(str(daemon.home.path)) is False
    assert daemon_processes(str(daemon.home.path)) == []
    socket = Path(daemon.home.path / "app-server-control" / "app-server-control.sock")
    assert not socket.exists()
