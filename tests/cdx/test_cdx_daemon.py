"""A daemon of Codex in a home: `cdx --doctor` names it, `cdx --uninstall` ends it, and no other process is touched."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdxsync.wrapper.src import daemon
from tests.support.documents import ACCESS_TOKEN, API_KEY, make_auth
from tests.support.fleet import Fleet
from tests.support.machines import Machine, host, write_program

# What Codex 0.171 leaves behind, as far as cdx looks at it: a server of WebSocket behind a link, with answers
# that are given as JSON; or the updater. It prints a line when it listens.
DAEMON = r"""
import json, os, signal, socket, struct, sys
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1] != "app-server" or "pid-update-loop" in sys.argv:
    print(flush=True)
    signal.pause()
home, answers = os.environ["CODEX_HOME"], json.loads(sys.argv[-1])
server = socket.socket(socket.AF_UNIX)
server.bind(os.environ["REAL_SOCKET"])
server.listen()
print(flush=True)
def exact(size):
    data = b""
    while len(data) < size:
        block = client.recv(size - len(data))
        if not block: raise EOFError
        data += block
    return data
def send(message, first=0x81):
    data = json.dumps(message).encode()
    client.sendall(bytes([first, 126]) + struct.pack(">H", len(data)) + data)
while True:
    client, _ = server.accept()
    while exact(1) != b"\n" or exact(1) != b"\r": pass
    exact(1)
    if not answers:
        client.close(); continue
    client.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
    try:
        while True:
            size = exact(2)[1] & 0x7F
            if size == 126: size = struct.unpack(">H", exact(2))[0]
            mask = exact(4)
            call = json.loads(bytes(byte ^ mask[index % 4] for index, byte in enumerate(exact(size))))
            send({"method": "remoteControl/status/changed", "params": {}})
            client.sendall(b"\x89\x00")  # a ping
            if "id" in call:
                send({"id": call["id"], "result": answers.get(call["method"])})
    except EOFError:
        client.close()
"""
LOGS_IN = """#!/bin/sh
case "$1" in
--version) echo "codex-cli 0.169.0" ;;
login) cp "$NEW_AUTH" "$CODEX_HOME/auth.json" ;;
logout) rm "$CODEX_HOME/auth.json" ;;
esac
"""
VERSION = {"userAgent": "codex-tui/0.169.0 (Debian 12.0.0; x86_64) unknown (codex-tui; 0.169.0)"}


def ticks(pid: int) -> int:
    """When a process started, in ticks since the boot."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


class Daemon:
    """The processes of a daemon in a home, with their notes."""

    def __init__(
        self, home: Path, real_socket: Path, *, answers: dict[str, Any] | None = None, deaf: bool = False
    ) -> None:
        self.home = home
        environment = os.environ | {"CODEX_HOME": str(home), "REAL_SOCKET": str(real_socket)}
        for folder in ("app-server-control", "app-server-daemon"):
            (home / folder).mkdir(mode=0o700, parents=True)
        (home / "app-server-control" / "app-server-control.sock").symlink_to(real_socket)
        command = [sys.executable, "-c", DAEMON, "app-server"]
        words = {
            "daemon": [*command, "--listen", "unix://", *(["deaf"] if deaf else []), json.dumps(answers or {})],
            "daemon-updater": [*command, "daemon", "pid-update-loop"],
        }
        self.processes = {}
        for name, line in words.items():
            process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, start_new_session=True)
            assert process.stdout is not None
            process.stdout.readline()
            self.processes[name] = process
            self.note(name, process.pid)

    def note(self, name: str, pid: int, started: int | None = None) -> None:
        """Write down a process, as Codex does."""
        identity = {"bootId": "b", "startTicks": ticks(pid) if started is None else started}
        text = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True
        ).stdout
        value = {"pid": pid, "processStartTime": text.strip(), "processIdentity": identity}
        (self.home / "app-server-daemon" / f"{name}.pid").write_text(json.dumps(value))

    def ended(self) -> dict[str, int | None]:
        """How the processes have ended, None for one that has not."""
        return {name: process.poll() for name, process in self.processes.items()}

    def close(self) -> None:
        """End what is left."""
        for process in self.processes.values():
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@contextlib.contextmanager
def running(home: Path, folder: Path, **options: Any) -> Iterator[Daemon]:
    started = Daemon(home, folder / "s", **options)
    try:
        yield started
    finally:
        started.close()


def answers(document: dict[str, Any] | None) -> dict[str, Any]:
    """A background server with this login."""
    if document is None:
        return {"initialize": VERSION, "getAuthStatus": {"authMethod": None, "authToken": None}}
    if "tokens" in document:
        said = {"authMethod": "chatgpt", "authToken": document["tokens"]["access_token"]}
    else:
        said = {"authMethod": "apikey", "authToken": document["OPENAI_API_KEY"]}
    return {"initialize": VERSION, "getAuthStatus": said}


@pytest.fixture
def machine(synced: Fleet, tmp_path: Path) -> Machine:
    made = host(synced, tmp_path)
    assert made.run_cdx("--wrapper-sync").returncode == 0
    return made


def doctors_lines(machine: Machine) -> list[str]:
    """What the doctor says of a daemon, each with what to do."""
    lines = machine.run_cdx("--doctor").stdout.splitlines()
    found = [index for index, line in enumerate(lines) if "background server" in line]
    return ["".join(lines[i : i + 2 if "->" in lines[i + 1] else i + 1]) for i in found]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (make_auth(), "ok    {it} has no other login than auth.json; cdx runs without it"),
        (
            make_auth(account="acc-2"),
            "warn  {it} has another login than auth.json      -> cdx app-server daemon restart",
        ),
        (
            {"OPENAI_API_KEY": "sk-1"},
            "warn  {it} has another login than auth.json      -> cdx app-server daemon restart",
        ),
        (None, "warn  {it} has no login, and auth.json has one      -> cdx app-server daemon restart"),
    ],
    ids=["same", "other", "key", "none"],
)
def test_the_doctor_says_which_login_a_daemon_has(
    machine: Machine, tmp_path: Path, document: dict[str, Any] | None, said: str
) -> None:
    with running(machine.home / ".codex", tmp_path, answers=answers(document)) as started:
        it = f"Codex's background server (process {started.processes['daemon'].pid})"
        assert doctors_lines(machine) == [said.format(it=it)]


@pytest.mark.parametrize(
    ("kind", "token", "document", "other"),
    [
        ("access_token", "", ACCESS_TOKEN, False),
        ("access_token", "", API_KEY, True),
        ("api_key", API_KEY["OPENAI_API_KEY"], API_KEY, False),
        ("api_key", "sk-other", API_KEY, True),
        ("chatgpt", make_auth(token_seed="two")["tokens"]["access_token"], make_auth(), False),
        ("chatgpt", make_auth(user="u2")["tokens"]["access_token"], make_auth(), True),
        ("chatgptauthtokens", "", make_auth(), True),
    ],
)
def test_whether_a_daemon_has_another_login(kind: str, token: str, document: dict[str, Any], other: bool) -> None:
    """It does not tell an access token that was made for hosts."""
    assert daemon.has_another_login(kind, token, document) is other


def test_the_doctor_says_that_a_daemon_is_of_another_version(machine: Machine, tmp_path: Path) -> None:
    said = answers(make_auth()) | {"initialize": {"userAgent": "codex-tui/0.168.1 (x)"}}
    with running(machine.home / ".codex", tmp_path, answers=said) as started:
        it = f"Codex's background server (process {started.processes['daemon'].pid})"
        assert doctors_lines(machine) == [
            f"warn  {it} is version 0.168.1, not 0.169.0      -> cdx app-server daemon restart"
        ]


def test_the_doctor_says_that_a_daemon_does_not_answer(machine: Machine, tmp_path: Path) -> None:
    assert doctors_lines(machine) == []
    with running(machine.home / ".codex", tmp_path) as started:
        it = f"Codex's background server (process {started.processes['daemon'].pid})"
        assert doctors_lines(machine) == [f"warn  {it} does not answer      -> cdx app-server daemon restart"]
        (started.home / "app-server-control" / "app-server-control.sock").unlink()
        assert len(doctors_lines(machine)) == 1


def test_login_and_logout_say_that_a_daemon_goes_on(machine: Machine, tmp_path: Path) -> None:
    new = tmp_path / "new.json"
    write_program(machine.bin / "codex", LOGS_IN)
    with running(machine.home / ".codex", tmp_path, answers=answers(make_auth())) as started:
        it = f"cdx: Codex's background server (process {started.processes['daemon'].pid})"
        for document, said in (
            (make_auth("2026-02-01T00:00:00Z", "two"), None),
            (make_auth("2026-02-01T00:00:00Z", "three", "acc-2"), "has another login than auth.json. Run: {} restart"),
        ):
            new.write_text(json.dumps(document))
            lines = machine.run_cdx("login", NEW_AUTH=str(new)).stderr.splitlines()
            expected = [f"{it} {said.format('cdx app-server daemon')}"] if said else []
            assert [line for line in lines if line.startswith(it)] == expected
        lines = machine.run_cdx("logout").stderr.splitlines()
        assert lines[-1] == f"{it} has a login, and auth.json has none. Run: cdx app-server daemon stop"


def test_uninstalling_ends_the_daemon_of_this_home_alone(machine: Machine, tmp_path: Path) -> None:
    home = machine.home / ".codex"
    (tmp_path / "other").mkdir()
    with running(home, tmp_path) as mine, running(tmp_path / "other home", tmp_path / "other") as other:
        done = machine.run_cdx("--uninstall")
        assert f"Codex's background server of this home ends (process {mine.processes['daemon'].pid})" in done.stderr
        assert list(mine.ended().values()) == [None, None]
        done = machine.run_cdx("--uninstall", "--yes")
        assert done.returncode == 0, done.stderr
        for name, what in (("daemon", "background server"), ("daemon-updater", "updater")):
            assert f"Codex's {what} of this home has ended (process {mine.processes[name].pid})" in done.stderr
            assert mine.processes[name].wait(10) == -signal.SIGTERM
        assert list(other.ended().values()) == [None, None]
        assert not home.exists()


def test_a_daemon_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(daemon, "DAEMON_END_SECONDS", 0.2)
    with running(tmp_path / "home", tmp_path, deaf=True) as started:
        assert daemon.end_daemon(str(tmp_path / "home")) is False
        assert started.processes["daemon"].wait(10) == -signal.SIGKILL
    assert "background server of this home has ended" in capsys.readouterr().err


@pytest.mark.parametrize("by", ["proc", "ps"])
def test_a_note_that_is_not_of_a_daemon_of_this_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """A copied home, a number that is another process's by now, and what is no note."""
    home, copy = tmp_path / "home", tmp_path / "copy"
    if by == "ps":
        # As on macOS: the program is the one below the home.
        monkeypatch.setattr(daemon, "in_proc", daemon.by_ps)
        monkeypatch.setattr(sys, "executable", str(home / "packages" / "codex"))
        (home / "packages").mkdir(parents=True)
        (home / "packages" / "codex").symlink_to(Path(os.__file__).parents[2] / "bin" / "python3")
    with running(home, tmp_path) as started:
        pid = started.processes["daemon"].pid
        (tmp_path / "link").symlink_to(home)
        assert daemon.daemon_process(str(home), "daemon.pid") == pid
        assert daemon.daemon_process(str(tmp_path / "link"), "daemon.pid") == pid
        (copy / "app-server-daemon").mkdir(parents=True)
        note = (home / "app-server-daemon" / "daemon.pid").read_text()
        (copy / "app-server-daemon" / "daemon.pid").write_text(note)
        assert daemon.daemon_processes(str(copy)) == []
        for name, value in (("pid", os.getpid()), ("pid", 1), ("pid", True), ("pid", "x"), ("pid", -1)):
            (home / "app-server-daemon" / "daemon.pid").write_text(json.dumps(json.loads(note) | {name: value}))
            assert daemon.daemon_process(str(home), "daemon.pid") is None
        other = {"processIdentity": {"startTicks": 1}, "processStartTime": "Sun Nov 29 23:21:10 2020"}
        (home / "app-server-daemon" / "daemon.pid").write_text(json.dumps(json.loads(note) | other))
        assert daemon.daemon_process(str(home), "daemon.pid") is None
        (home / "app-server-daemon" / "daemon.pid").write_text("not JSON")
        assert daemon.daemon_process(str(home), "daemon.pid") is None
        (home / "app-server-daemon" / "daemon.pid").write_text(note)
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
        assert daemon.daemon_process(str(home), "daemon.pid") is None
