"""Where requests and their answers begin and end on a connection."""

import json
import logging
import socket
from pathlib import Path

import pytest

from cdxsync.server import tls
from tests.support.running import REQUEST, Running, answer, answers, ask, open_tls, read_all, running, trusting

BOTH = pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])


@BOTH
def test_coalesced_requests(secured: bool, server_context: tls.ServerContext, pki_folder: Path) -> None:
    padded = REQUEST[:-2] + b"X-Pad: " + b"p" * 9000 + b"\r\n\r\n"
    with running(server_context if secured else None) as server:
        connection = open_tls(server, trusting(pki_folder)) if secured else server.connect()
        with connection:
            for requests in (REQUEST, REQUEST * 5, padded * 3, REQUEST + REQUEST[:10], REQUEST[10:]):
                connection.sendall(requests)
                count = requests.count(b"\r\n\r\n")
                assert answers(connection, count) == [(200, True)] * count


@BOTH
def test_an_early_answer_reaches_a_client_that_sends_on(
    secured: bool, server_context: tls.ServerContext, pki_folder: Path
) -> None:
    size = 3 << 20
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size)
    with running(server_context if secured else None) as server:
        for framing, body in ((b"Content-Length: %d" % size, b"x" * size), (b"Transfer-Encoding: chunked", chunk)):
            with open_tls(server, trusting(pki_folder)) if secured else server.connect() as connection:
                connection.sendall(b"POST /early HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n" + body)
                status, headers, text = answer(connection)
                assert (status, headers["Connection"], text) == (413, "close", b"too large")
                assert read_all(connection) == b""


def test_a_body_that_nobody_reads_is_not_taken_into_memory(plain_server: Running) -> None:
    """Cheroot reads it whole to keep the connection; here the connection ends instead."""
    with plain_server.connect() as connection:
        connection.sendall(b"POST /env HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000000\r\n\r\n")
        status, headers, _ = answer(connection)
        assert (status, headers["Connection"]) == (200, "close")
    with plain_server.connect() as connection:
        connection.sendall(b"POST /env HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" + REQUEST)
        assert answers(connection, 2) == [(200, True)] * 2


@BOTH
def test_100_continue(secured: bool, server_context: tls.ServerContext, pki_folder: Path) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    with (
        running(server_context if secured else None) as server,
        open_tls(server, trusting(pki_folder)) if secured else server.connect() as connection,
    ):
        for _ in range(2):
            connection.sendall(head)
            assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(b"hello")
            status, headers, body = answer(connection)
            assert (status, "Connection" in headers, body) == (200, False, b"hello")


@BOTH
def test_large_bodies(secured: bool, server_context: tls.ServerContext, pki_folder: Path) -> None:
    body = bytes(range(256)) * (4 << 12)
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with (
        running(server_context if secured else None) as server,
        open_tls(server, trusting(pki_folder)) if secured else server.connect() as connection,
    ):
        for _ in range(2):
            connection.sendall(head + body)
            status, headers, received = answer(connection)
            assert (status, "Connection" in headers, received == body) == (200, False, True)


@pytest.mark.parametrize("option", [b"close", b"Close", b"TE, close"])
def test_the_client_may_end_the_connection(plain_server: Running, option: bytes) -> None:
    with plain_server.connect() as connection:
        connection.sendall(REQUEST[:-2] + b"Connection: " + option + b"\r\n\r\n")
        status, headers, _ = answer(connection)
        assert (status, headers["Connection"], read_all(connection)) == (200, "close", b"")


def test_head(plain_server: Running) -> None:
    for request, status in (
        (b"HEAD /env HTTP/1.1\r\nHost: x\r\n", b"200"),
        (b"HEAD /early HTTP/1.1\r\nHost: x\r\n", b"413"),
        (b"HEAD /env HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n", b"400"),
    ):
        with plain_server.connect() as connection:
            connection.sendall(request + b"Connection: close\r\n\r\n")
            received = read_all(connection)
        assert received.startswith(b"HTTP/1.1 " + status)
        assert received.endswith(b"\r\n\r\n")
        assert b"Content-Length: " in received
        assert b"Content-Length: 0" not in received


def test_chunked_bodies(plain_server: Running) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    large = bytes(range(256)) * 4096
    for chunks, body in (
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX-Trailer: 1\r\n\r\n", b"hello!"),
        (b"%X\r\n%b\r\n0\r\n\r\n" % (len(large), large), large),
    ):
        with plain_server.connect() as connection:
            connection.sendall(head + chunks)
            status, headers, received = answer(connection)
        assert (status, received, headers["Connection"]) == (200, body, "close")
    for size in (b"0x5", b"+5", b"-5", b" 5", b"5_0", b"", b"z", b"f" * 13):
        with plain_server.connect() as connection:
            connection.sendall(head + size + b"\r\nhello\r\n0\r\n\r\n")
            assert answer(connection)[0] == 400, size


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + REQUEST,
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + REQUEST,
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + REQUEST,
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n" + REQUEST[:9] + b"GET",
    ],
)
def test_a_body_never_becomes_a_request(plain_server: Running, request_bytes: bytes) -> None:
    with plain_server.connect() as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)
    assert plain_server.app.paths in (["/a"], ["/echo"])


@pytest.mark.parametrize(
    "head",
    [
        b"POST /a HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 5, 5\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: -5\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: +5\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 5_0\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length:\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length : 5\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: ,\r\n",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding:\r\n",
        b"POST /a HTTP/1.0\r\nConnection: Keep-Alive\r\nTransfer-Encoding: chunked\r\n",
        b"GET /a HTTP/1.1\r\n Folded: first\r\n",
        b"GET /a HTTP/1.1\r\nX-A: 1\r\n folded\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n",
        b"GET /a HTTP/1.1\r\nX-A: 1\rX-B: 2\r\n",
        b"GET /a HTTP/1.1\r\nX-A: 1\nX-B: 2\r\n",
        b"GET /a HTTP/1.1\nHost: x\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 5\nTransfer-Encoding: chunked\r\n",
        b"GET /a HTTP/1.1\r\nX-A: 1\x00\r\n",
        b"GET /a HTTP/1.1\r\nX(A): 1\r\n",
        b"GET /a HTTP/1.1\r\n: 1\r\n",
        b"GET /a HTTP/1.1\r\nno colon\r\n",
        b"GET //[a HTTP/1.1\r\n",
        b"GET /a\tb HTTP/1.1\r\n",
        b"GET /a\x00b HTTP/1.1\r\n",
        b"GET /\xff HTTP/1.1\r\n",
        b"GET /a HTTP/x\r\n",
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(
    plain_server: Running, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with plain_server.connect() as connection:
        connection.sendall(head + b"\r\nhello" + REQUEST)
        status, headers, body = answer(connection)
        assert (status, headers["Content-Type"], headers["Connection"]) == (400, "application/json", "close")
        assert json.loads(body)["status"] == "error"
        assert read_all(connection) == b""
    assert plain_server.app.paths == []
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


def test_headers_with_an_underscore_are_dropped(plain_server: Running) -> None:
    request = b"GET /env HTTP/1.1\r\nHost: x\r\nX_Forwarded_For: 10.0.0.1\r\nX-mTLS_Present: 1\r\n"
    with plain_server.connect() as connection:
        told = ask(connection, request + b"X-Forwarded-For: 192.0.2.1\r\n\r\n")
    assert told["HTTP_X_FORWARDED_FOR"] == "192.0.2.1"
    assert "HTTP_X_MTLS_PRESENT" not in told


def test_repeated_headers_are_joined_in_order(plain_server: Running) -> None:
    request = b"GET /env HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 192.0.2.1\r\n"
    with plain_server.connect() as connection:
        told = ask(connection, request + b"Cookie: a=1\r\nCookie: b=2\r\n\r\n")
    assert told["HTTP_X_FORWARDED_FOR"] == "10.0.0.1, 192.0.2.1"
    assert told["HTTP_COOKIE"] == "a=1; b=2"
