"""Which runs open Codex's full-screen program, and that these use no daemon unless the user says so."""

import json
from pathlib import Path

import pytest

from cdxsync.wrapper.src import full_screen
from cdxsync.wrapper.src.codex import Build
from tests.support.fleet import Fleet
from tests.support.machines import Machine, host

# A Codex of today, as far as its help goes: it writes down each time that it is asked.
CODEX = """#!/bin/sh
for word; do
    case "$word" in
    --version) echo "codex-cli 0.171.0"; exit ;;
    --help) echo "asked: $*" >>"$HOME/asked"; printf '  -V, --version\\n%s' "$OPTIONS"; exit ;;
    esac
done
echo "ran with: $*"
"""
TODAY = "      --no-daemon\n          Run without the shared background server\n"


@pytest.fixture
def machine(synced: Fleet, tmp_path: Path) -> Machine:
    made = host(synced, tmp_path, codex=CODEX)
    made.env["OPTIONS"] = TODAY
    return made


class TodaysBuild(Build):
    """A build whose help has the option everywhere."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def takes(self, option: str, *command: str) -> bool:
        self.asked.append(command)
        return option == "--no-daemon"


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["fix the tests"],
        ["resume"],
        ["resume", "--last", "go on"],
        ["fork", "01a2299d-9335-79a2-afee-bd977ce89ad5"],
        ["agents"],
        ["-m", "gpt-5.1", "resume"],
        ["-c", "a=b", "--search", "fork", "--last"],
        ["--cd=/tmp", "-i", "one.png", "two.png"],
        ["-m", "exec", "fix exec"],
        ["-c", "model=daemon", "what is daemon_auto_start?"],
        ["--", "--no-daemon"],
        ["--", "--remote"],
        ["exec the tests"],
    ],
)
def test_a_full_screen_run_uses_no_daemon(line: list[str]) -> None:
    assert full_screen.without_daemon(TodaysBuild(), line) == ["--no-daemon", *line]


@pytest.mark.parametrize(
    "line",
    [
        ["exec", "say hi"],
        ["e", "--json", "say hi"],
        ["-c", "a=b", "exec", "resume", "--last"],
        ["--search", "review"],
        ["login"],
        ["app-server", "daemon", "restart"],
        ["mcp", "list"],
        ["help"],
    ],
)
def test_another_command_is_left_as_it_is(line: list[str]) -> None:
    build = TodaysBuild()
    assert full_screen.without_daemon(build, line) == line
    assert build.asked == []


@pytest.mark.parametrize(
    "line",
    [
        ["--no-daemon"],
        ["resume", "--no-daemon", "--last"],
        ["-c", "features.daemon_auto_start=false", "fix it"],
        ["-cfeatures.daemon_auto_start=true"],
        ["fork", "--config", "features.daemon_auto_start=true"],
        ["--config=features.daemon_auto_start=false", "resume"],
        ["--enable", "daemon_auto_start"],
        ["resume", "--disable=daemon_auto_start"],
        ["--remote", "unix://"],
        ["resume", "--remote=ws://127.0.0.1:4500"],
    ],
)
def test_what_the_user_says_of_it_stands(line: list[str]) -> None:
    assert full_screen.without_daemon(TodaysBuild(), line) == line


def test_the_view_of_agents_is_asked_by_itself() -> None:
    """Older versions take the option for all but `agents`."""
    build = TodaysBuild()
    full_screen.without_daemon(build, ["-m", "x", "agents"])
    full_screen.without_daemon(build, ["resume"])
    assert build.asked == [("agents",), ()]


def test_codex_is_asked_once(machine: Machine) -> None:
    for words in ("", "resume --last", "exec"):
        done = machine.run_cdx(*words.split())
        expected = words if words == "exec" else f"--no-daemon {words}".strip()
        assert (done.stdout, done.stderr) == (f"ran with: {expected}\n", "")
    assert (machine.home / "asked").read_text() == "asked: --help\n"
    # Another build is another question.
    machine.env["OPTIONS"] = ""
    (machine.bin / "codex").write_text(CODEX + "# newer\n")
    for _ in range(2):
        assert machine.run_cdx("go on").stdout == "ran with: go on\n"
    assert (machine.home / "asked").read_text() == "asked: --help\n" * 2


def test_a_codex_that_does_not_say_is_asked_again(machine: Machine) -> None:
    program = machine.bin / "codex"
    program.write_text(CODEX.replace("printf", "[ -e $HOME/says ] && printf"))
    assert machine.run_cdx().stdout == "ran with: \n"
    (machine.home / "says").touch()
    assert machine.run_cdx().stdout == "ran with: --no-daemon\n"


def test_the_user_leaves_codex_its_daemon(machine: Machine) -> None:
    assert machine.run_cdx("go on", CDX_DAEMON="1").stdout == "ran with: go on\n"
    assert not (machine.home / "asked").exists()
    for value in ("", "0"):
        assert machine.run_cdx("go on", CDX_DAEMON=value).stdout == "ran with: --no-daemon go on\n"
    done = machine.run_cdx("go on", CDX_DAEMON="yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "cdx: CDX_DAEMON must be 1 (leave Codex its background server) or 0, not yes\n"


def test_a_host_that_keeps_no_credentials_leaves_codex_no_daemon(machine: Machine, synced: Fleet) -> None:
    synced.cli("hosts", "permit", machine.env["NAME"], "--keep-auth", "off")
    done = machine.run_cdx("go on", CDX_DAEMON="1")
    assert (done.returncode, done.stdout) == (0, "ran with: --no-daemon go on\n")
    assert done.stderr.startswith("cdx: CDX_DAEMON does not count here: this host keeps no credentials")


def test_it_stands_beside_what_the_fleet_wants(machine: Machine, synced: Fleet) -> None:
    """The store of the login is named before it."""
    note = machine.home / ".codex" / ".cdx" / "login.json"
    machine.run_cdx("exec")
    note.write_text(json.dumps(json.loads(note.read_text()) | {"file_store": True}))
    done = machine.run_cdx("resume", CODEX_SYNC_BASE_URL="https://localhost:1")
    assert done.stdout == 'ran with: -c cli_auth_credentials_store="file" --no-daemon resume\n'
