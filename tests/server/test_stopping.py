"""The addresses that a server listens on, and its end."""

import contextlib
import errno
import ssl
from pathlib import Path

import pytest

from cdxsync.server import httpd, tls
from tests.support.running import (
    Application,
    Running,
    answer,
    ask,
    open_tls,
    read_all,
    running,
    trusting,
)


@pytest.mark.parametrize(("host", "peer"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("localhost", None)])
def test_addresses(host: str, peer: str | None) -> None:
    with running(host=host) as server:
        assert server.port > 0
        with server.connect() as connection:
            told = ask(connection)
    assert told["REMOTE_ADDR"] in ((peer,) if peer else ("127.0.0.1", "::1"))
    assert told["SERVER_PORT"] == str(server.port)


def test_an_address_in_use_is_an_oserror(plain_server: Running) -> None:
    with pytest.raises(OSError, match="in use") as caught:
        httpd.listen(httpd.Server((plain_server.host, plain_server.port), plain_server.app, None, threads=1))
    assert caught.value.errno == errno.EADDRINUSE


# The end


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
def test_a_request_in_flight_finishes(secured: bool, server_context: tls.ServerContext, pki_folder: Path) -> None:
    with running(server_context if secured else None) as server:
        connection = open_tls(server, trusting(pki_folder)) if secured else server.connect()
        with connection:
            connection.sendall(b"GET /gate HTTP/1.1\r\nHost: x\r\n\r\n")
            assert server.app.entered.wait(30)
            server.server.request_stop()
            with contextlib.suppress(OSError):
                while True:  # until nobody accepts any more: the server is stopping
                    server.connect().close()
            server.app.gate.set()
            status, headers, body = answer(connection)
            assert (status, headers["Connection"], body) == (200, "close", b"through the gate")
            assert read_all(connection) == b""


def test_a_request_that_does_not_end_is_cut_off_and_sends_nothing_in_clear(
    tls_server: Running, pki_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(httpd, "_FORCED_SECONDS", 0)
    tls_server.server.shutdown_timeout = 0
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(pki_folder).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with tls_server.connect() as connection:
        done = False
        while not done:
            try:
                client.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                incoming.write(connection.recv(65536))
        client.write(b"GET /gate HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.sendall(outgoing.read())
        assert tls_server.app.entered.wait(30)
        tls_server.stop()  # returns, although the request goes on
        assert "requests cut off, as they did not end in time: 1" in caplog.text
        tls_server.app.gate.set()
        for worker in tls_server.workers:
            worker.join(30)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := connection.recv(65536):
                received += data
    assert b"HTTP" not in received
    assert b"gate" not in received


def test_a_server_may_be_asked_to_stop_before_it_serves() -> None:
    server = httpd.Server(("127.0.0.1", 0), Application(), None, threads=1)
    httpd.listen(server)
    server.request_stop()
    server.request_stop()
    httpd.serve_until_stopped(server)


def test_the_end_does_not_wait_for_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpd.Server, "expiration_interval", 3600)
    with running() as server, server.connect() as connection:
        ask(connection)
        server.stop()  # fails if that takes long
