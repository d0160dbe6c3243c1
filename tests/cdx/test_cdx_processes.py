"""cdx between a shell and Codex: pipes, descriptors, environment, signals, terminal and exit code are Codex's own."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cdxsync.wrapper.src.processes import alive, descendants
from tests.support.documents import make_auth, with_auths
from tests.support.fleet import Fleet
from tests.support.machines import Machine, Terminal, host, machine_key, stub_cdx, write_program
from tests.support.stub_server import StubServer
from tests.support.together import until

OLD, NEW = "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"


@pytest.fixture(scope="module")
def synced(fleet: Fleet) -> Fleet:
    """A fleet that has a document."""
    fleet.upload(make_auth(OLD))
    return fleet


PROBE = f"""#!{sys.executable}
import json, os, sys
if sys.argv[1:] == ["--version"]:
    print("codex-cli 1.0"); sys.exit()
data = sys.stdin.buffer.read()
os.write(1, bytes(range(256)) + data)
os.write(2, b"err")
os.write(7, b"seven")
with open(os.environ["REPORT"], "w") as file:
    json.dump({{"env": dict(os.environ), "argv": sys.argv, "pgid": os.getpgrp() == os.getpgid(os.getppid())}}, file)
"""


def test_pipes_descriptors_and_environment_are_codexs_own(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=PROBE)
    machine.run_cdx("--wrapper-sync")
    payload = os.urandom(300_000)
    seven = tmp_path / "seven"
    env = machine.env | {"REPORT": str(tmp_path / "report"), "CODEX_SYNC_API_KEY": machine_key(machine)}
    command = f'exec "{machine.cdx}" exec - "two words" 7>"{seven}"'
    done = subprocess.run(["bash", "-c", command], input=payload, env=env, capture_output=True)
    assert done.returncode == 0
    assert done.stdout == bytes(range(256)) + payload
    assert done.stderr == b"err"
    assert seven.read_bytes() == b"seven"
    report = json.loads((tmp_path / "report").read_text())
    assert report["argv"][1:] == ["exec", "-", "two words"]
    assert report["pgid"]
    assert "CODEX_SYNC_API_KEY" not in report["env"]
    assert machine_key(machine) not in json.dumps(report)


WAITER = f"""#!{sys.executable}
import os, signal, sys
if sys.argv[1:] == ["--version"]:
    print("codex-cli 1.0"); sys.exit()
def tell(*words):
    # Not by print: a signal may come while it is at work, and it cannot be called again then.
    os.write(1, (" ".join(words) + "\\n").encode())
def note(number, frame):
    tell("got", signal.Signals(number).name)
for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT"):
    number = getattr(signal, name)
    if signal.getsignal(number) == signal.SIG_IGN:
        tell("ignored", name)
    else:
        signal.signal(number, note)
tell("ready")
for line in sys.stdin:
    if line.strip() == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
        tell("continued")
    else:
        tell("line", line.strip())
sys.exit(5)
"""


def start(machine: Machine, *prefix: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*prefix, str(machine.cdx), "exec"],
        env=machine.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return process


def read_until(process: subprocess.Popen[str], text: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if line.strip() == text:
            return lines
    raise AssertionError(f"{text!r} did not come: {lines}")


def ended(process: subprocess.Popen[str]) -> int:
    """Its exit status, when it has got no more and has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    status = process.wait(30)
    process.stdout.close()
    return status


def test_signals_reach_codex_once_and_the_exit_code_comes_back(synced: Fleet, tmp_path: Path) -> None:
    process = start(host(synced, tmp_path, codex=WAITER))
    read_until(process, "ready")
    for name in ("SIGTERM", "SIGUSR1", "SIGHUP", "SIGINT"):
        process.send_signal(getattr(signal, name))
        assert read_until(process, f"got {name}") == [f"got {name}"]
    assert process.stdin is not None
    process.stdin.write("end\n")
    process.stdin.close()
    assert read_until(process, "line end") == ["line end"]
    assert ended(process) == 5


def test_signals_ignored_from_the_start_stay_ignored(synced: Fleet, tmp_path: Path) -> None:
    process = start(host(synced, tmp_path, codex=WAITER), "nohup")
    assert "ignored SIGHUP" in read_until(process, "ready")
    process.send_signal(signal.SIGHUP)
    assert ended(process) == 5


def test_a_stopped_codex_stops_the_job_and_goes_on_with_it(synced: Fleet, tmp_path: Path) -> None:
    process = start(host(synced, tmp_path, codex=WAITER))
    read_until(process, "ready")
    assert process.stdin is not None
    process.stdin.write("stop\n")
    process.stdin.flush()
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    process.send_signal(signal.SIGCONT)
    assert read_until(process, "continued") == ["continued"]
    assert ended(process) == 5


def test_ctrl_c_on_a_terminal_arrives_once(fresh_fleet: Fleet, tmp_path: Path) -> None:
    fresh_fleet.upload(make_auth(OLD))
    machine = host(fresh_fleet, tmp_path, codex=WAITER)
    terminal = Terminal(machine)
    terminal.read_until("ready")
    terminal.type(b"\x03")
    terminal.read_until("got SIGINT")
    machine.put_auth(make_auth(NEW, "terminal"))
    terminal.type(b"tty\n")
    terminal.read_until("line tty")
    terminal.type(b"\x04")
    assert os.waitstatus_to_exitcode(terminal.wait()) == 5
    assert terminal.seen.count("got SIGINT") == 1
    assert fresh_fleet.canonical() == with_auths(make_auth(NEW, "terminal"))


def test_a_codex_that_ctrl_c_kills_ends_the_wrapper_the_same_way(fresh_fleet: Fleet, tmp_path: Path) -> None:
    fresh_fleet.upload(make_auth(OLD))
    codex = '#!/bin/sh\n[ "$1" = --version ] && exit\necho ready\nexec sleep 1000\n'
    machine = host(fresh_fleet, tmp_path, codex=codex)
    terminal = Terminal(machine)
    terminal.read_until("ready")
    machine.put_auth(make_auth(NEW, "killed"))
    terminal.type(b"\x03")
    assert os.waitstatus_to_exitcode(terminal.wait()) == -signal.SIGINT
    assert fresh_fleet.canonical() == with_auths(make_auth(NEW, "killed"))


def arrived(process: subprocess.Popen[str]) -> list[str]:
    """What else Codex has got, once cdx has handed on all that it had to.

    Of signals that come at once Python takes those of lower numbers first; those of a second round come after all.
    """
    lines = []
    for _ in range(2):
        process.send_signal(signal.SIGUSR1)
        lines += read_until(process, "got SIGUSR1")[:-1]
    return lines


def test_a_signal_to_the_group_arrives_once(synced: Fleet, tmp_path: Path) -> None:
    process = start(host(synced, tmp_path, codex=WAITER))
    read_until(process, "ready")
    for name in ("SIGTERM", "SIGINT", "SIGTERM", "SIGHUP"):
        os.killpg(process.pid, getattr(signal, name))
        assert read_until(process, f"got {name}") == [f"got {name}"]
        assert arrived(process) == []
    process.send_signal(signal.SIGTERM)
    assert arrived(process) == ["got SIGTERM"]
    assert ended(process) == 5


def test_a_signal_to_each_process_arrives_once(synced: Fleet, tmp_path: Path) -> None:
    """As systemd stops a service."""
    process = start(host(synced, tmp_path, codex=WAITER))
    read_until(process, "ready")
    until(lambda: len(descendants(process.pid)) == 3)
    process.send_signal(signal.SIGSTOP)  # as all are told before it gets to work
    for pid in descendants(process.pid):
        os.kill(pid, signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    read_until(process, "got SIGTERM")
    assert arrived(process) == []
    assert ended(process) == 5


def test_nothing_is_left_of_a_cdx_that_is_killed(synced: Fleet, tmp_path: Path) -> None:
    process = start(host(synced, tmp_path, codex=WAITER))
    read_until(process, "ready")
    until(lambda: len(descendants(process.pid)) == 3)
    pids = descendants(process.pid)
    process.kill()
    assert ended(process) == -signal.SIGKILL
    until(lambda: not any(alive(pid) for pid in pids))


def test_a_kill_in_the_foreground_of_a_terminal_arrives_once(synced: Fleet, tmp_path: Path) -> None:
    terminal = Terminal(host(synced, tmp_path, codex=WAITER))
    terminal.read_until("ready")
    for number in range(1, 4):
        os.kill(terminal.pid, signal.SIGINT)
        terminal.read_until("got SIGINT\r\n" * number)
    terminal.type(b"\x03")
    terminal.read_until("^Cgot SIGINT")
    os.kill(terminal.pid, signal.SIGUSR1)
    terminal.read_until("got SIGUSR1")
    terminal.type(b"\x04")
    assert os.waitstatus_to_exitcode(terminal.wait()) == 5
    assert terminal.seen.count("got SIGINT") == 4


def of_stub(stub: StubServer, root: Path) -> Machine:
    """A machine whose cdx calls the stub."""
    machine = Machine(root / "m")
    machine.put_cdx(stub_cdx(stub.url))
    machine.put_auth(make_auth(OLD))
    stub.valid()
    return machine


def hanging(stub: StubServer, path: str) -> tuple[threading.Event, threading.Event]:
    """Let the stub's answer to a POST wait; returns (it was asked, it may answer)."""
    asked, answer = threading.Event(), threading.Event()

    def waits(_body: bytes) -> tuple[int, bytes]:
        asked.set()
        answer.wait(30)
        return 503, b"{}"

    stub.answers["POST", path] = waits
    return asked, answer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_quick_signals_before_codex_starts(stub: StubServer, tmp_path: Path, number: signal.Signals) -> None:
    """Nothing is left behind, and no traceback comes."""
    machine = of_stub(stub, tmp_path)
    asked, answer = hanging(stub, "/auth")
    process = subprocess.Popen([machine.cdx, "exec"], env=machine.env, stderr=subprocess.PIPE, text=True)
    assert asked.wait(30)
    while process.poll() is None:
        process.send_signal(number)
    _, said = process.communicate(timeout=30)
    answer.set()
    assert (process.returncode, said) == (-number, "")
    names = {path.name for path in (machine.home / ".codex").iterdir()}
    assert names - {".prompt-baseline.json"} == {".cdx", "auth.json"}


def test_quick_signals_after_codex_has_ended(stub: StubServer, tmp_path: Path) -> None:
    """Its exit code comes out."""
    machine = of_stub(stub, tmp_path)
    write_program(machine.bin / "codex", '#!/bin/sh\necho "Token usage: total=12 input=7 output=5"\nexit 3\n')
    asked, answer = hanging(stub, "/usage")
    process = subprocess.Popen(
        [machine.cdx, "exec"], env=machine.env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert asked.wait(30)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    answer.set()
    assert (process.returncode, said) == (3, "")
