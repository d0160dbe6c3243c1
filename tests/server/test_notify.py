"""What a server tells systemd over its socket."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fleet import running_fleet


class Manager:
    """The socket of a service manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(60)

    def told(self, first: str) -> dict[str, str]:
        """The next message that begins with this; others are skipped."""
        while True:
            text = self.socket.recv(4096).decode()
            if text.startswith(first):
                return dict(line.split("=", 1) for line in text.splitlines())


@pytest.fixture
def manager() -> Iterator[Manager]:
    path = Path("/tmp") / f"cdxsync-notify-{os.getpid()}"  # short: such names have little room
    path.unlink(missing_ok=True)
    made = Manager(path)
    yield made
    made.socket.close()
    path.unlink()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ready_reloading_watchdog_stopping(tmp_path: Path, manager: Manager, workers: str) -> None:
    env = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "400000"}
    with running_fleet(tmp_path / "home", serve_args=("--workers", workers), env=env) as fleet:
        (server,) = fleet.processes
        ready = manager.told("READY=1")
        assert ready["MAINPID"] == str(server.pid)
        assert ready["STATUS"].startswith(f"Listening on https://127.0.0.1:{fleet.port}")
        manager.told("WATCHDOG=1")
        manager.told("WATCHDOG=1")
        server.send_signal(signal.SIGHUP)
        assert int(manager.told("RELOADING=1")["MONOTONIC_USEC"]) > 0
        assert manager.told("READY=1")["STATUS"].startswith("Listening")
        server.send_signal(signal.SIGTERM)
        manager.told("STOPPING=1")
        assert server.wait(60) == 0


def test_a_manager_that_is_not_there_stops_nothing(tmp_path: Path) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "none"), "WATCHDOG_USEC": "junk"}
    with running_fleet(tmp_path / "home", env=env) as fleet, fleet.client() as client:
        assert client.call("GET", "/healthz").status_code == 200
