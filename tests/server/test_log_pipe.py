"""A server whose standard error is a pipe that nobody reads."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fleet import Fleet, children

FEW_WAIT = "from cdxsync.base import logs; logs.MAX_WAITING = 20; from cdxsync.cli.main import run; run()"


def start(fleet: Fleet, pipe: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", FEW_WAIT, "--home", str(fleet.home), "serve"]
    command += ["--listen", f"127.0.0.1:{fleet.port}", "--public-url", fleet.url, *fleet.serve_args]
    return subprocess.Popen(command, stderr=pipe, stdout=subprocess.DEVNULL, env=fleet.env)


def read_until(pipe: int, text: bytes) -> bytes:
    got = b""
    while text not in got:
        assert select.select([pipe], [], [], 60)[0], got.decode()
        data = os.read(pipe, 65536)
        assert data, got.decode()
        got += data
    return got


def fill(pipe: int) -> None:
    """Write until it is full, through a description of its own: that of the server stays one that waits."""
    mine = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(mine, b"x" * 4095 + b"\n")
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(mine, b"\n")
    os.close(mine)


def lost(fleet: Fleet) -> float:
    with fleet.client(certificate="admin") as client:
        lines = client.call("GET", "/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith("cdxsync_log_lines_left_out_total")).split()[1])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.slow
def test_a_log_reader_that_hangs_stops_nothing(workers: int, tmp_path: Path) -> None:
    """Requests are answered, a killed worker is replaced, a reload is done, and SIGTERM ends the server."""
    fleet = Fleet(tmp_path / "home", serve_args=("--workers", str(workers)))
    reading, writing = os.pipe()
    server = start(fleet, writing)
    try:
        read_until(reading, b"Listening on ")
        fill(writing)
        key = fleet.key("piped.example.net")
        with fleet.client(key) as client, fleet.client("0" * 64) as stranger:
            for _ in range(60):
                assert client.call("GET", "/versions").status_code == 200
            assert stranger.call("GET", "/slash-commands").status_code == 401
        assert lost(fleet) > 0
        server.send_signal(signal.SIGHUP)
        if workers > 1:
            os.kill(children(server)[0], signal.SIGKILL)
        with fleet.client(key) as client:
            assert client.call("GET", "/versions").status_code == 200
        server.terminate()
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()
        os.close(reading)
        os.close(writing)


def test_a_log_reader_that_goes_on_is_told_what_it_missed(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "home")
    reading, writing = os.pipe()
    server = start(fleet, writing)
    try:
        read_until(reading, b"Listening on ")
        fill(writing)
        key = fleet.key("piped.example.net")
        with fleet.client(key) as client:
            for _ in range(60):
                assert client.call("GET", "/versions").status_code == 200
        assert lost(fleet) > 0
        read_until(reading, b"lines dropped: standard error was not read fast enough\n")
        with fleet.client(key) as client:
            assert client.call("GET", "/versions").status_code == 200
        read_until(reading, b" GET /versions 200 ")
    finally:
        server.terminate()
        os.close(writing)
        with contextlib.suppress(AssertionError):
            read_until(reading, b"no line has this")
        os.close(reading)
        server.wait(60)
