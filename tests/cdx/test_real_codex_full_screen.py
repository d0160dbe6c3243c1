"""The real full-screen program under cdx, with and without a daemon: its login, its tokens, and its end."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdxsync.wrapper.src.daemon import ask_daemon, daemon_process, daemon_processes, end_daemon
from tests.support.codex_home import HI, CodexHome, tokens_of_prompt
from tests.support.fleet import Fleet
from tests.support.machines import Machine, host
from tests.support.provider import Provider
from tests.support.real_codex import RealCodex
from tests.support.sessions import COUNTS
from tests.support.terminal import Screen
from tests.support.together import until

pytestmark = pytest.mark.codex

ANSWER = COUNTS | {"model": "gpt-5.1"}


class Desk:
    """A host of the fleet with a terminal: cdx and plain Codex work in one home."""

    def __init__(self, codex: RealCodex, fleet: Fleet, provider: Provider, root: Path) -> None:
        self.fleet = fleet
        self.machine: Machine = host(fleet, root, codex=None)
        self.codex = CodexHome(codex, root / "codex", provider)
        self.machine.env |= {**self.codex.env, "CDX_QUIET": "1"}

    def start(self, program: str, *arguments: str, **env: str) -> Screen:
        """Start `codex` or `cdx` on a terminal."""
        path = str(self.machine.cdx) if program == "cdx" else self.codex.codex.program
        command = ["env", "-C", str(self.codex.work), path, *arguments]
        return Screen(command, self.machine.env | env, columns=100, lines=30)

    def talk(self, program: str, *arguments: str, **env: str) -> None:
        """A prompt in the full-screen program, its answer, and the end of the window."""
        asked = len(self.codex.answers())
        screen = self.start(program, *arguments, **env)
        screen.wait_for(arguments[-1], HI)
        until(lambda: len(self.codex.answers()) > asked)
        screen.hang_up()

    def usage(self) -> list[dict[str, Any]]:
        """What the server has counted."""
        return [{name: row[name] for name in ANSWER} for row in self.fleet.usages()]


@pytest.fixture
def desk(codex: RealCodex, served: Fleet, provider: Provider, tmp_path: Path) -> Iterator[Desk]:
    served.upload(provider.login())
    made = Desk(codex, served, provider, tmp_path)
    yield made
    end_daemon(str(made.codex.path))
    shutil.rmtree(made.codex.path / "packages", ignore_errors=True)


def test_runs_are_counted_and_use_the_login_of_the_fleet(desk: Desk, provider: Provider) -> None:
    """First without a daemon, then beside the one that a run has left to which it was allowed; the login changes."""
    desk.talk("cdx", "one")
    assert desk.usage() == [ANSWER]
    assert daemon_processes(str(desk.codex.path)) == []

    desk.talk("cdx", "two", CDX_DAEMON="1")
    before = ask_daemon(str(desk.codex.path))
    assert before is not None
    login = provider.login()
    desk.fleet.upload(login)
    desk.talk("cdx", "-c", "model_verbosity=low", "three")
    assert tokens_of_prompt(provider, "two") == tokens_of_prompt(provider, "one") == [before[2]]
    assert tokens_of_prompt(provider, "three") == [login["tokens"]["access_token"]]
    assert ask_daemon(str(desk.codex.path)) == before
    assert desk.usage() == [ANSWER] * 3

    # What the daemon does from now on is counted when the host leaves.
    desk.talk("codex", "four")
    machine = desk.machine
    it = f"Codex's background server (process {daemon_process(str(desk.codex.path), 'daemon.pid')})"
    said = f"ok    {it} has no other login than auth.json; cdx runs without it"
    assert said in machine.run_cdx("--doctor").stdout.splitlines()
    done = machine.run_cdx("--uninstall", "--yes")
    assert (done.returncode, "background server of this home has ended" in done.stderr) == (0, True), done.stderr
    assert daemon_processes(str(desk.codex.path)) == []
    assert not desk.codex.path.exists()
    assert desk.usage() == [ANSWER] * 4
    assert [row["outside"] for row in desk.fleet.usages()] == [False, False, False, True]
