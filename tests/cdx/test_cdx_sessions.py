"""Long sessions: auth.json stays in step while Codex runs; and what ends a run ends it well."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cdxsync.wrapper.src.api import Api
from cdxsync.wrapper.src.server import Server
from tests.support.documents import make_auth, with_auths
from tests.support.fleet import Fleet, free_port
from tests.support.machines import Machine, Terminal, host, machine_key
from tests.support.stub_server import StubServer, with_stub_keys
from tests.support.together import until

OLD, NEW, NEWEST = "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"
# Runs until its standard input ends, a terminal's never; "auth PATH" writes auth.json in place, as Codex does. A thread
# takes signals, and ends it at once: Python's own handlers run late, or not at all, where one comes just before a read.
CODEX = f"""#!{sys.executable}
import os, signal, sys, threading
if sys.argv[1:] == ["--version"]:
    print("codex-cli 0.169.0"); sys.exit()
signals = {{signal.SIGTERM, signal.SIGHUP, signal.SIGINT}}
def stop():
    signal.sigwait(signals)
    os._exit(7)
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
threading.Thread(target=stop, daemon=True).start()
home = os.environ.get("CODEX_HOME") or os.path.expanduser("~/.codex")
is_terminal = sys.stdin.isatty()
print("ready", flush=True)
def lines():
    try:
        yield from sys.stdin
    except OSError:
        pass
    if is_terminal:  # which is gone: cdx says so
        threading.Event().wait(60)
for line in lines():
    word, _, rest = line.strip().partition(" ")
    if word == "auth":
        with open(rest, "rb") as new, open(os.path.join(home, "auth.json"), "wb") as old:
            old.write(new.read())
    elif word == "tear":
        with open(os.path.join(home, "auth.json"), "wb") as old:
            old.write(b'{{"tokens": ')
    print("did", word, flush=True)
"""


class Running:
    """A run of cdx that goes on until it is told to end."""

    def __init__(self, machine: Machine, *arguments: str, **env: str) -> None:
        self.machine = machine
        self.process = subprocess.Popen(
            [str(machine.cdx), *(arguments or ("exec",))],
            env=with_stub_keys(machine.env | env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.read("ready")

    def read(self, text: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == text + "\n"

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        self.read("did " + line.split()[0])

    def write_auth(self, document: dict[str, Any]) -> None:
        path = self.machine.root / "written.json"
        path.write_text(json.dumps(document, indent=2))
        self.tell(f"auth {path}")

    def end(self) -> str:
        _, stderr = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return stderr


@pytest.fixture
def synced(fresh_fleet: Fleet) -> Fleet:
    fresh_fleet.upload(make_auth(OLD))
    return fresh_fleet


def until_canonical(fleet: Fleet, document: dict[str, Any]) -> None:
    """Wait for the canonical document."""
    until(lambda: fleet.canonical() == with_auths(document))


def test_a_refresh_during_a_run_reaches_other_running_hosts(synced: Fleet, tmp_path: Path) -> None:
    one = Running(host(synced, tmp_path, codex=CODEX), CODEX_SYNC_INTERVAL="0.3")
    two = Running(host(synced, tmp_path, codex=CODEX), CODEX_SYNC_INTERVAL="0.3")
    one.tell("tear")
    one.write_auth(make_auth(NEW, "refreshed"))
    until_canonical(synced, make_auth(NEW, "refreshed"))
    until(lambda: two.machine.auth() == with_auths(make_auth(NEW, "refreshed")))
    # And back again.
    two.write_auth(make_auth(NEWEST, "again"))
    until(lambda: one.machine.auth() == with_auths(make_auth(NEWEST, "again")))
    assert one.end() == two.end() == ""
    # Each left its own form of the same document, and nothing is sent to and fro.
    for run in (one, two):
        assert "the server says valid" in run.machine.run_cdx("--wrapper-sync", CODEX_DEBUG="1").stderr
        assert not list(run.machine.home.glob(".codex/*unreadable*"))


def test_the_server_is_not_asked_while_a_login_goes_on(synced: Fleet, tmp_path: Path) -> None:
    """And the login that is here stays in its place until there is another."""
    machine = host(synced, tmp_path, codex=CODEX)
    assert machine.run_cdx("--wrapper-sync").returncode == 0
    before = machine.auth()
    run = Running(machine, "login", CODEX_SYNC_INTERVAL="0.1")
    shown = synced.host(machine.env["NAME"])
    run.write_auth(make_auth(NEW, "login"))
    again = synced.host(machine.env["NAME"])
    assert again["api_calls"] == shown["api_calls"]
    assert machine.auth() == before
    assert run.end() == "cdx: this login is shared with the fleet\n"
    assert synced.canonical() == with_auths(make_auth(NEW, "login"))


def test_a_logout_during_a_run_stays(synced: Fleet, tmp_path: Path, stub: StubServer) -> None:
    machine = host(synced, tmp_path, codex=CODEX)
    machine.put_auth(make_auth(NEW))
    stub.valid()
    run = Running(machine, CODEX_SYNC_INTERVAL="0.1", CODEX_SYNC_BASE_URL=stub.url)
    machine.auth_file.unlink()
    run.tell("look")
    run.end()
    assert not machine.auth_file.exists()


@pytest.mark.slow
def test_a_server_that_is_away_is_tried_again(synced: Fleet, tmp_path: Path) -> None:
    run = Running(host(synced, tmp_path, codex=CODEX))
    synced.stop()
    run.write_auth(make_auth(NEW, "while away"))
    synced.start()
    until_canonical(synced, make_auth(NEW, "while away"))
    assert run.end() == ""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_after_a_signal_all_is_sent(synced: Fleet, tmp_path: Path, name: str) -> None:
    machine = host(synced, tmp_path, codex=CODEX)
    run = Running(machine)
    (machine.home / ".codex" / "prompts").mkdir()
    (machine.home / ".codex" / "prompts" / "new.md").write_text("new")
    run.write_auth(make_auth(NEW, name))
    run.process.send_signal(getattr(signal, name))
    assert run.process.wait(60) == 7
    assert synced.canonical() == with_auths(make_auth(NEW, name))
    assert "new.md" in synced.cli("--json", "prompts", "list").stdout
    run.process.communicate()


EARLY = """
import os, signal, sys
from cdxsync.wrapper.src.codex import Codex
from cdxsync.wrapper.src.taps import Taps
spawn = os.posix_spawn
def spawn_slowly(*arguments, **options):
    child = spawn(*arguments, **options)
    os.kill(os.getpid(), signal.SIGTERM)
    return child
os.posix_spawn = spawn_slowly
status = Codex("/bin/sleep", ["60"], Taps([], []), dict(os.environ)).run(lambda child: None)
sys.exit(0 if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM else 1)
"""


def test_a_signal_while_codex_is_being_started_reaches_it() -> None:
    assert subprocess.run([sys.executable, "-c", EARLY], timeout=30, start_new_session=True).returncode == 0


def test_a_closed_terminal_ends_the_run_well(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=CODEX)
    terminal = Terminal(machine)
    terminal.read_until("ready\r\n")  # the whole line: what is written after the end of the terminal fails
    machine.put_auth(make_auth(NEW, "hung up"))
    os.close(terminal.descriptor)
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]) == 7
    assert synced.canonical() == with_auths(make_auth(NEW, "hung up"))


def test_the_key_is_in_no_command_line_and_no_environment(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=CODEX)
    run = Running(machine, CODEX_SYNC_API_KEY=machine_key(machine))
    key = machine_key(machine).encode()
    seen = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes()
            if b"cdx" not in text and b"codex" not in text:
                continue
            seen += 1
            assert key not in text
            if process.name != str(run.process.pid):
                assert key not in (process / "environ").read_bytes()
        except OSError:
            continue
    assert seen >= 2
    run.end()


def test_a_server_that_was_away_is_not_waited_for_again(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    machine.run_cdx("--wrapper-sync")
    machine.put_auth(make_auth(now()))
    url = f"https://localhost:{free_port()}"
    for _ in range(2):
        done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=url)
        assert (done.returncode, done.stdout) == (0, "ran with: exec\n")
        assert len(done.stderr.splitlines()) == 1
    assert machine.note("contact.json")["failed_at"] > machine.note("contact.json")["synced_at"]
    # It is back: from now on it is waited for as before.
    assert machine.run_cdx("exec").returncode == 0
    assert "failed_at" not in machine.note("contact.json")


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_kept_connection_that_the_server_closed_is_made_anew(synced: Fleet, tmp_path: Path) -> None:
    name = "kept.example.net"
    server = Server(synced.url, synced.key(name), synced.ca_file.read_text(), "")
    api = Api(server)
    assert api.request("GET", "/versions")[0] == 200
    kept = api.connection
    assert kept is not None
    synced.stop()
    synced.start()
    assert api.request("GET", "/versions")[0] == 200
    assert api.connection is not kept
    api.close()


def test_pipes_stay_exact_while_they_are_read_along(synced: Fleet, tmp_path: Path) -> None:
    codex = f"""#!{sys.executable}
import os, sys
if sys.argv[1:] == ["--version"]:
    print("codex-cli 0.169.0"); sys.exit()
for number in range(200):
    os.write(1 + number % 2, bytes(range(256)) * (number + 1))
"""
    machine = host(synced, tmp_path, codex=codex)
    expected = b"".join(bytes(range(256)) * (number + 1) for number in range(200))
    # Both in one pipe keep their order.
    done = subprocess.run(
        [str(machine.cdx), "exec"], env=machine.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
    )
    assert done.stdout == expected
    # A reader that goes away ends Codex as it would without cdx.
    codex = '#!/bin/sh\n[ "$1" = --version ] && exit\nwhile echo line; do :; done\n'
    machine = host(synced, tmp_path, codex=codex)
    ended = subprocess.run(
        ["bash", "-c", f"{machine.cdx} exec | head -1; exit ${{PIPESTATUS[0]}}"],
        env=machine.env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (128 + signal.SIGPIPE, "line\n")
    # Closed descriptors are Codex's own affair too.
    machine = host(synced, tmp_path)
    done = subprocess.run(["bash", "-c", f"{machine.cdx} exec >&- 2>&-"], env=machine.env, timeout=60)
    assert done.returncode in (0, 1, 2)


def test_a_file_that_changes_during_its_own_sync_is_synced_again(
    synced: Fleet, tmp_path: Path, stub: StubServer
) -> None:
    machine = host(synced, tmp_path, codex=CODEX)
    assert machine.run_cdx("--wrapper-sync").returncode == 0
    claims: list[str] = []

    def answer(body: bytes) -> tuple[int, bytes]:
        claims.append(json.loads(body)["last_refresh"])
        if len(claims) == 1:  # another run's Codex refreshes just now
            machine.put_auth(make_auth(NEW, "just now"))
        return 200, b'{"status":"ok","data":{"status":"valid"}}'

    stub.valid()
    stub.answers["POST", "/auth"] = answer
    run = Running(machine, CODEX_SYNC_BASE_URL=stub.url)
    until(lambda: len(claims) >= 2)
    assert claims == [OLD, NEW]
    run.end()
    assert claims == [OLD, NEW]


READ_ALONG = f"""#!{sys.executable}
import os, signal, sys
if sys.argv[1:] == ["--version"]:
    print("codex-cli 0.20.0"); sys.exit()
def tell(*words):  # not by print, which a signal may interrupt and then cannot call again
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
signal.signal(signal.SIGINT, lambda *_: tell("interrupted"))
signal.signal(signal.SIGWINCH, lambda *_: tell("size", *os.get_terminal_size(1)))
tell("ready", os.isatty(1))
for line in sys.stdin:
    if line.strip() == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    print("line", line.strip(), flush=True)
"""


def test_a_terminal_that_is_read_along_is_a_terminal(synced: Fleet, tmp_path: Path) -> None:
    terminal = Terminal(host(synced, tmp_path, codex=READ_ALONG))
    terminal.read_until("ready True")
    terminal.resize(50, 20)
    terminal.read_until("size 50 20")
    terminal.type(b"\x03")
    terminal.read_until("interrupted")
    terminal.type(b"stop\n")
    assert os.WIFSTOPPED(os.waitpid(terminal.pid, os.WUNTRACED)[1])
    os.kill(terminal.pid, signal.SIGCONT)
    terminal.read_until("line stop")
    terminal.type(b"\x04")
    assert os.waitstatus_to_exitcode(terminal.wait()) == 0
    assert terminal.seen.count("interrupted") == 1
