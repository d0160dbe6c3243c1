"""Signals end a server, however early they come and to whatever thread."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fleet import BASE_ENVIRONMENT, free_port


@pytest.mark.parametrize(("number", "rounds"), [(signal.SIGTERM, 3), (signal.SIGINT, 1)])
def test_a_signal_ends_a_server_that_has_just_started(tmp_path: Path, number: signal.Signals, rounds: int) -> None:
    for _ in range(rounds):
        assert end_of_server(["-m", "cdxsync"], tmp_path / "home", "Listening on ", number) == 0


IN_ANOTHER_THREAD = """
import signal, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
from cdxsync.cli.main import run
run()
"""


def test_a_signal_may_come_to_any_thread(tmp_path: Path) -> None:
    """Here to another than the one that waits for the end, which it does not interrupt."""
    assert (
        end_of_server(["-c", IN_ANOTHER_THREAD], tmp_path / "home", "Listening on ", signal.SIGTERM, served=True) == 0
    )


def test_a_signal_ends_a_server_that_does_not_listen_yet(tmp_path: Path) -> None:
    """And the next start goes on where that one was."""
    start, home = ["-m", "cdxsync"], tmp_path / "home"
    assert end_of_server(start, home, "Initialised ", signal.SIGTERM) in (0, -signal.SIGTERM)
    assert end_of_server(start, home, "Listening on ", signal.SIGTERM) == 0


def end_of_server(start: list[str], home: Path, line: str, number: signal.Signals, *, served: bool = False) -> int:
    """Start a server, send it the signal when it prints `line` (and has served), and return its exit status."""
    port = free_port()
    command = [sys.executable, *start, "--home", str(home), "serve", "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=BASE_ENVIRONMENT)
    try:
        assert process.stderr is not None
        assert any(text.startswith(line) for text in process.stderr)
        if served:
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", port), 30) as connection:
                    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert connection.recv(65536).startswith(b"HTTP/1.1 400")  # the port speaks TLS only
        process.send_signal(number)
        return process.wait(30)
    finally:
        process.kill()
        process.communicate()
