"""Connections that are silent, many, dropped or no HTTP at all; their limits, and the threads behind them."""

import contextlib
import os
import random
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from cdxsync.base.setting_values import read_networks
from cdxsync.server import connection as connection_module
from cdxsync.server.connection_limits import ConnectionLimits
from tests.support.fleet import Fleet, running_fleet
from tests.support.running import RESET, Running, answer, is_quiet, read_all, running


def connect(fleet: Fleet, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", fleet.port), 30, source_address=(source, 0))


def speak(fleet: Fleet, source: str) -> socket.socket:
    """A connection from an address of its own, with TLS."""
    context = ssl.create_default_context(cafile=str(fleet.ca_file))
    return context.wrap_socket(connect(fleet, source), server_hostname="localhost")


def health(connection: socket.socket) -> int:
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    return answer(connection)[0]


def test_500_silent_clients_and_others_are_answered(fleet: Fleet) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(fleet)) for _ in range(500)]
        for number, connection in enumerate(silent):
            connection.sendall(b"\x16\x03\x01\x02\x00\x01"[: number % 7])
        with fleet.client(fleet.key("among.example.net")) as client:
            for _ in range(20):
                assert client.call("GET", "/wrapper").status_code == 200
        for connection in silent:
            assert is_quiet(connection), "nobody was thrown out"


def test_1000_connections_that_are_dropped(fleet: Fleet) -> None:
    for number in range(1000):
        with connect(fleet) as connection:
            if number % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            if number % 3:
                connection.sendall(os.urandom(number % 300))
    with fleet.client() as client:
        assert client.call("GET", "/healthz").status_code == 200
    assert "Traceback" not in "".join(fleet.output)


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes(fleet: Fleet, seed: int) -> None:
    """In clear, and within TLS: nothing but refusals, and the server goes on."""
    chance = random.Random(seed)
    for _ in range(20):
        junk = chance.randbytes(chance.randrange(1, 5000))
        with connect(fleet) as connection, contextlib.suppress(OSError):
            connection.sendall(junk)
            connection.shutdown(socket.SHUT_WR)
            read_all(connection)
        with speak(fleet, "127.0.0.1") as connection, contextlib.suppress(OSError):
            connection.sendall(junk + b"\r\n\r\n")
            assert b"HTTP/1.1 4" in read_all(connection)
    with fleet.client() as client:
        assert client.call("GET", "/healthz").status_code == 200
    assert "Traceback" not in "".join(fleet.output)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A server that takes 20 connections, 5 of an address; from 127.0.0.9 as many as it wants."""
    env = {
        "CDXSYNC_MAX_CONNECTIONS": "20",
        "CDXSYNC_MAX_CONNECTIONS_PER_IP": "5",
        "CDXSYNC_TRUSTED_PROXIES": "127.0.0.9",
    }
    with running_fleet(tmp_path_factory.mktemp("limited") / "home", env=env) as started:
        yield started


def test_an_address_has_its_limit_and_others_do_not_feel_it(limited: Fleet) -> None:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(speak(limited, "127.0.0.2")) for _ in range(5)]
        assert [health(connection) for connection in held] == [200] * 5
        for _ in range(3):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                speak(limited, "127.0.0.2").close()
        assert [health(connection) for connection in held] == [200] * 5
        with speak(limited, "127.0.0.3") as other:
            assert health(other) == 200
        held.pop().close()
        with speak(limited, "127.0.0.9") as proxy:  # what it waits for has been seen: the place is free
            assert health(proxy) == 200
        with retried(limited, "127.0.0.2") as again:
            assert health(again) == 200
    assert "max_connections_per_ip = 5" in "".join(limited.output)


def retried(fleet: Fleet, source: str) -> ssl.SSLSocket:
    """A connection that is refused as long as the server has not seen the end of another one."""
    for _ in range(1000):
        with contextlib.suppress(OSError):
            connection = speak(fleet, source)
            try:
                if is_quiet(connection):
                    connection.settimeout(30)
                    return connection  # type: ignore[return-value]
            except OSError:
                connection.close()
    raise AssertionError("refused for ever")


def test_trusted_proxies_and_the_limit_in_all(limited: Fleet) -> None:
    """Who is new gets in, and a connection that was quiet for long goes."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(speak(limited, "127.0.0.9")) for _ in range(25)]
        assert health(held[-1]) == 200
        with speak(limited, "127.0.0.4") as other:
            assert health(other) == 200
        gone = 0
        for connection in held[:-1]:
            try:
                gone += not is_quiet(connection)
            except OSError:
                gone += 1
        assert 5 <= gone < 20
    assert "max_connections = 20" in "".join(limited.output)


def test_counting() -> None:
    limits = ConnectionLimits()
    limits.set_limits(3, 1, read_networks("10.0.0.0/8"))
    first, limit = limits.admit("2001:db8::1")
    assert limit == ""
    assert limits.admit("2001:db8::2") == (first, "ip"), "an IPv6 client has its whole /64"
    assert [limits.admit("10.0.0.1")[1] for _ in range(2)] == ["", "total"]
    for source in (first, first, "10.0.0.1", "10.0.0.1"):
        limits.release(source)
    assert limits.total == 0
    assert limits.admit("::ffff:192.0.2.1") == ("192.0.2.1", "")
    assert limits.admit("192.0.2.1") == ("192.0.2.1", "ip")


def test_slow_senders_of_bodies_do_not_take_all_threads() -> None:
    """As many as there are threads; the pool grows for them, and shrinks when they have gone."""
    with running(threads=2) as server, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(3)]
        for connection in slow:
            connection.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        with server.connect() as other:
            other.sendall(b"GET /env HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer(other)[0] == 200
        for connection in slow:
            connection.sendall(b"cd")
            assert answer(connection)[2] == b"abcd"
        assert shrinks_to(server, 2)


def shrinks_to(server: Running, count: int) -> bool:
    """Whether the pool does, with the ticks of the server's own clock."""
    pool = server.server.requests
    for worker in list(pool._threads):
        if len([one for one in pool._threads if one.is_alive()]) > count:
            worker.join(5)
    return len([one for one in pool._threads if one.is_alive()]) == count


FEW_FILES = """
import resource, sys
from pathlib import Path
from cdxsync.server import connection_limits
from cdxsync.base.settings import Settings
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 600))
counted = connection_limits.ConnectionLimits()
connection_limits.apply(counted, Settings(home=Path("/none"), max_connections=int(sys.argv[1])))
taken = 0
while not counted.admit(f"10.0.{taken // 250}.{taken % 250}")[1]:
    taken += 1
print(taken, *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("wanted", "got"), [(200, "200 456 600"), (5000, "344 600 600")])
def test_open_files_are_raised_or_the_limit_is_lowered(wanted: int, got: str) -> None:
    done = subprocess.run([sys.executable, "-c", FEW_FILES, str(wanted)], capture_output=True, text=True)
    assert done.stdout.strip() == got, done.stderr
    assert ("max_connections is 344, not 5000" in done.stderr) == (wanted == 5000)


def test_a_clock_that_is_set_back_stops_no_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as server, server.connect() as slow:
        monkeypatch.setattr(time, "time", lambda: 1.0)
        monkeypatch.setattr(connection_module, "HEAD_TIMEOUT_SECONDS", 0.0)
        slow.sendall(b"GET / HT")
        slow.settimeout(30)
        assert slow.recv(1) == b""
