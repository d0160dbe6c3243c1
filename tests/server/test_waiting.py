"""Clients that keep a server waiting, at every stage; and what stands in the log about them."""

import contextlib
import errno
import json
import logging
import socket
from pathlib import Path
from typing import Any

import pytest
from cheroot import connections

from cdxsync.server import connection as connection_module
from cdxsync.server import tls
from tests.support.running import (
    REQUEST,
    RESET,
    Running,
    answer,
    answers,
    ask,
    client_hello,
    is_quiet,
    open_tls,
    read_all,
    running,
    trusting,
)

BOTH = pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])


def test_no_client_that_waits_holds_a_worker(tls_server: Running, pki_folder: Path) -> None:
    context = trusting(pki_folder)
    hello = client_hello(context)
    waiting: list[socket.socket] = [tls_server.connect() for _ in range(3)]
    for _ in range(8):
        half = tls_server.connect()
        half.sendall(hello[: len(hello) // 2])
        waiting.append(half)
    waiting += [open_tls(tls_server, context) for _ in range(4)]
    for sent in (b"G", b"GET /env HTTP/1.1\r\n", REQUEST[:-2]):
        for _ in range(4):
            half = open_tls(tls_server, context)
            half.sendall(sent)
            waiting.append(half)
    for _ in range(4):
        garbage = tls_server.connect()
        garbage.sendall(b"\x16\x03\x01\x00\x05hello")  # its answer is read by nobody
        waiting.append(garbage)
    with open_tls(tls_server, context) as connection:
        ask(connection)
    assert all(is_quiet(connection) for connection in waiting[:-4])
    # Those that had only begun go on where they were.
    slow = waiting[11 + 4 + 4]
    slow.settimeout(30)
    slow.sendall(b"Host: x\r\n\r\n")
    assert answer(slow)[0] == 200
    for one in waiting:
        one.close()


@pytest.mark.parametrize(
    ("limit", "sent"), [("HANDSHAKE_TIMEOUT_SECONDS", b"\x16\x03\x01"), ("HEAD_TIMEOUT_SECONDS", b"GET /")]
)
def test_what_was_begun_must_be_completed_in_time(
    server_context: tls.ServerContext, limit: str, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, limit, 0.0)
    with running(server_context if limit.startswith("HANDSHAKE") else None) as server, server.connect() as connection:
        connection.sendall(sent)
        assert read_all(connection) == b""  # closed


@BOTH
def test_a_body_must_come_in_time(
    secured: bool, server_context: tls.ServerContext, pki_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "IDLE_TIMEOUT_SECONDS", 0.0)
    with (
        running(server_context if secured else None) as server,
        open_tls(server, trusting(pki_folder)) if secured else server.connect() as connection,
    ):
        connection.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        status, headers, _ = answer(connection)
        assert (status, headers["Connection"]) == (408, "close")
        assert read_all(connection) == b""


@BOTH
def test_no_client_that_does_not_read_holds_a_worker(
    secured: bool, server_context: tls.ServerContext, pki_folder: Path
) -> None:
    """Neither with one large answer nor with many small ones; and all of them can be read later."""
    context = trusting(pki_folder)
    with running(server_context if secured else None) as server, contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            return stack.enter_context(open_tls(server, context) if secured else server.connect())

        lazy = [connect() for _ in range(4)]
        for connection in lazy:
            connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" + REQUEST)
        busy = [connect() for _ in range(2)]
        for connection in busy:
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                connection.sendall(REQUEST * 40_000)
        ask(connect())
        for connection in lazy:
            assert answers(connection, 2) == [(200, True)] * 2


@BOTH
def test_an_answer_is_sent_to_its_end_when_the_server_stops(
    secured: bool, server_context: tls.ServerContext, pki_folder: Path
) -> None:
    with running(server_context if secured else None) as server:
        connections = []
        for _ in range(4):
            connections.append(open_tls(server, trusting(pki_folder)) if secured else server.connect())
            connections[-1].sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connections[-1].recv(1) == b"H"  # it is on its way; most of it has no room to go
        server.server.request_stop()
        for connection in connections:
            with connection:
                assert len(read_all(connection).partition(b"\r\n\r\n")[2]) == 8 << 20
        server.serving.join(30)
        assert not server.serving.is_alive()


def test_silent_clients_do_not_end_keep_alive_for_others(plain_server: Running) -> None:
    silent = [plain_server.connect() for _ in range(20)]
    with plain_server.connect() as connection:
        for _ in range(3):
            connection.sendall(REQUEST)
            assert "Connection" not in answer(connection)[1]
    for connection in silent:
        connection.close()


def test_out_of_descriptors_the_longest_idle_go_first(
    plain_server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    idle = [plain_server.connect() for _ in range(20)]
    for connection in idle:
        ask(connection)
    accept = vars(connections.ConnectionManager)["_from_server_socket"]
    failures = [OSError(errno.EMFILE, "Too many open files")]

    def accept_or_fail(manager: Any, server_socket: Any) -> Any:
        if failures:
            raise failures.pop()
        return accept(manager, server_socket)

    monkeypatch.setattr(connections.ConnectionManager, "_from_server_socket", accept_or_fail)
    with plain_server.connect() as connection:
        ask(connection)
    assert read_all(idle[0]) == b""
    ask(idle[-1])
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage().startswith("cannot accept a connection (Too many open files)")
    assert record.exc_info is None
    for connection in idle:
        connection.close()


def test_clients_that_go_away_are_no_news(
    tls_server: Running, pki_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = trusting(pki_folder)
    for request in (
        b"",
        b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: 9\r\n\r\na",
    ):
        for _ in range(10):
            connection = open_tls(tls_server, context)
            connection.sendall(request)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.close()
    tls_server.stop()  # all of them have been served then
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


def test_an_error_of_the_application_is_news(plain_server: Running, caplog: pytest.LogCaptureFixture) -> None:
    """Even an OSError: that is not always about a client."""
    with plain_server.connect() as connection:
        connection.sendall(b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers, body = answer(connection)
    assert (status, headers["Content-Type"]) == (500, "application/json")
    error = json.loads(body)
    assert (error["status"], error["message"]) == ("error", "Internal Server Error")
    assert len(error["request_id"]) == 16
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert records
    assert "No space left" in str(records[0].exc_info)
