"""Audit rows go to a file and to syslog as they come; what cannot be sent waits, and is told."""

import contextlib
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdxsync.background import audit_sending
from cdxsync.base import setting_values
from tests.support.fleet import Fleet, running_fleet
from tests.support.ports import free_port
from tests.support.together import until


class Syslog:
    """A syslog over TCP, which counts octets."""

    def __init__(self, port: int) -> None:
        self.rows: list[dict[str, Any]] = []
        self._listening = socket.create_server(("127.0.0.1", port), reuse_port=False)
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._connections.append(connection)
                threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection.makefile("rb") as file:
            while True:
                length = b""
                while not length.endswith(b" "):
                    length += file.read(1)
                message = file.read(int(length)).decode()
                head, _, text = message.partition(" - ")
                assert head.startswith("<86>1 2")
                self.rows.append(json.loads(text))

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        for each in (self._listening, *self._connections):
            each.close()


@pytest.fixture
def sent(tmp_path: Path) -> Iterator[tuple[Fleet, Path, int]]:
    """A server that sends to a file and to a port."""
    file, port = tmp_path / "audit.jsonl", free_port()
    env = {"CDXSYNC_AUDIT_FILE": str(file), "CDXSYNC_AUDIT_SYSLOG": f"127.0.0.1:{port}"}
    with running_fleet(tmp_path / "home", env=env) as fleet:
        until(lambda: (fleet.home / audit_sending.STATE_NAME).exists())
        yield fleet, file, port


def in_file(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_rows_are_sent_as_they_come_and_wait_for_what_is_away(sent: tuple[Fleet, Path, int]) -> None:
    fleet, file, port = sent
    fleet.key("one.example.net")  # nobody listens at the port yet
    count = fleet.rows("SELECT COUNT(*) FROM logs")[0][0]
    until(lambda: len(in_file(file)) == count)
    assert file.stat().st_mode & 0o777 == 0o600
    row = in_file(file)[0]
    assert (row["seq"], row["action"], row["ip"], row["host"]) == (1, "register", "127.0.0.1", "one.example.net")
    assert row["details"] == {"result": "created"}
    until(lambda: audit_sending.state_of(fleet.home)[f"syslog 127.0.0.1:{port}"]["error"] is not None)
    done = fleet.cli("--json", "doctor", check=False)
    checks = [(row["level"], row["text"]) for row in json.loads(done.stdout)["checks"] if row["check"] == "audit-sinks"]
    assert [level for level, _ in checks] == ["ok", "fail"]
    assert f"{count} audit rows wait since" in checks[1][1]
    syslog = Syslog(port)
    until(lambda: len(syslog.rows) == count)
    # What a command writes is sent, too; and what was written while the receiver was away.
    syslog.stop()
    fleet.cli("state", "disable")
    again = Syslog(port)
    until(lambda: len(again.rows) > 0)
    seen = {row["seq"] for row in [*syslog.rows, *again.rows]}
    assert seen == {row["seq"] for row in in_file(file)} == set(range(1, count + 2))
    # And what was written while no server ran.
    fleet.stop()
    fleet.cli("state", "enable")
    fleet.start()
    until(lambda: in_file(file)[-1]["seq"] == count + 2)
    assert [row["seq"] for row in in_file(file)] == list(range(1, count + 3))
    again.stop()


def test_a_file_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "away"
    with running_fleet(tmp_path / "home", env={"CDXSYNC_AUDIT_FILE": str(folder / "audit.jsonl")}) as fleet:
        until(lambda: (fleet.home / audit_sending.STATE_NAME).exists())
        fleet.key("one.example.net")
        fleet.wait_for("audit rows from 1 on wait: file .*: No such file or directory")
        folder.mkdir()
        fleet.wait_for("has all audit rows again")
        assert [row["seq"] for row in in_file(folder / "audit.jsonl")] == [1, 2]


def test_rows_that_wait_for_a_mistyped_path_go_to_the_right_one(tmp_path: Path) -> None:
    good = tmp_path / "audit.jsonl"
    with running_fleet(tmp_path / "home") as fleet:
        settings = fleet.home / "config.toml"
        text = settings.read_text()
        settings.write_text(f'{text}audit_file = "{tmp_path}/none/audit.jsonl"\n')
        fleet.processes[0].send_signal(signal.SIGHUP)
        until(lambda: (fleet.home / audit_sending.STATE_NAME).exists())
        fleet.register("web.example.net")
        until(lambda: any(sent["error"] for sent in audit_sending.state_of(fleet.home).values()))
        settings.write_text(f'{text}audit_file = "{good}"\n')
        fleet.processes[0].send_signal(signal.SIGHUP)
        until(good.exists)
        actions = [json.loads(line)["action"] for line in good.read_text().splitlines()]
        assert "register" in actions


def test_a_local_socket_gets_one_message_a_row(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(60)
        with running_fleet(tmp_path / "home", env={"CDXSYNC_AUDIT_SYSLOG": str(path)}) as fleet:
            until(lambda: (fleet.home / audit_sending.STATE_NAME).exists())
            fleet.key("one.example.net")
            head, _, text = receiver.recv(1 << 16).decode().partition(": ")
            assert head.startswith("<86>cdxsync[")
            assert json.loads(text)["action"] == "register"


@pytest.mark.parametrize("value", ["log", "host:", "host:0", ":514", "host:x", "0.0.0.0:514"])
def test_a_syslog_is_a_path_or_a_host_and_port(value: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        setting_values.read_syslog(value)
    assert setting_values.read_syslog("[::1]:514") == "[::1]:514"
    assert setting_values.read_syslog(" /dev/log ") == "/dev/log"
