"""The server alone, in this process, with a small application of its own; and the clients of its tests."""

import contextlib
import errno
import http.client
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cdxsync.server import httpd, tls

REQUEST = b"GET /env HTTP/1.1\r\nHost: x\r\n\r\n"
LAST_REQUEST = b"GET /env HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close by RST


class Application:
    """Tells what it was given. `/gate` answers when it may; `/early` does not read the body."""

    def __init__(self) -> None:
        self.entered, self.gate = threading.Event(), threading.Event()
        self.paths: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        path = environ["PATH_INFO"]
        self.paths.append(path)
        status, body = "200 OK", b""
        if path == "/gate":
            self.entered.set()
            self.gate.wait(30)
            body = b"through the gate"
        elif path == "/early":
            status, body = "413 Content Too Large", b"too large"
        elif path == "/large":
            body = b"x" * (8 << 20)
        elif path == "/broken":
            raise OSError(errno.ENOSPC, "No space left on device")
        elif path == "/echo":
            length = environ.get("CONTENT_LENGTH")
            try:
                body = environ["wsgi.input"].read(int(length) if length else 1 << 24)
            except ValueError:
                status = "400 Bad Request"
        else:
            certificate = environ.get(tls.CLIENT_CERTIFICATE)
            told = {name: value for name, value in environ.items() if isinstance(value, str)}
            body = json.dumps(told | {"certificate": certificate and vars(certificate)}).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]


class Running:
    """A server on a free port, in this process."""

    def __init__(self, context: tls.ServerContext | None, *, host: str = "127.0.0.1", threads: int = 2) -> None:
        self.app = Application()
        self.server = httpd.Server((host, 0), self.app, context, threads=threads)
        self.host, self.port = httpd.listen(self.server)
        self.workers = list(self.server.requests._threads)
        self.serving = threading.Thread(target=httpd.serve_until_stopped, args=(self.server,))
        self.serving.start()

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), 30)

    def stop(self) -> None:
        self.server.request_stop()
        self.serving.join(30)
        assert not self.serving.is_alive()


@contextlib.contextmanager
def running(context: tls.ServerContext | None = None, **kwargs: Any) -> Iterator[Running]:
    server = Running(context, **kwargs)
    try:
        yield server
    finally:
        server.app.gate.set()
        server.stop()


def trusting(
    pki_folder: Path,
    certificate: Path | None = None,
    key: Path | None = None,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> ssl.SSLContext:
    """A client's TLS, with its certificate and key if it has one."""
    context = ssl.create_default_context(cafile=str(pki_folder / "ca.pem"))
    context.minimum_version = context.maximum_version = version
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def open_tls(server: Running, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    return context.wrap_socket(server.connect(), server_hostname="localhost", session=session)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


def answer(connection: socket.socket, method: str | None = None) -> tuple[int, dict[str, str], bytes]:
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    return response.status, dict(response.getheaders()), response.read()


def answers(connection: socket.socket, count: int) -> list[tuple[int, bool]]:
    """Status, and whether the connection stays, of answers that may arrive together."""
    file = connection.makefile("rb")  # one for all: what it has read ahead belongs to the next
    found = []
    for _ in range(count):
        status = int(file.readline().split()[1])
        headers = http.client.parse_headers(file)
        assert len(file.read(int(headers["Content-Length"]))) == int(headers["Content-Length"])
        found.append((status, "Connection" not in headers))
    return found


def is_quiet(connection: socket.socket) -> bool:
    """Whether it is still connected, with nothing to read. (TLS 1.3 session tickets are not data.)"""
    connection.setblocking(False)
    try:
        connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    return False


def ask(connection: socket.socket, request: bytes = REQUEST) -> dict[str, Any]:
    connection.sendall(request)
    status, _, body = answer(connection)
    assert status == 200
    told: dict[str, Any] = json.loads(body)
    return told


def client_hello(context: ssl.SSLContext) -> bytes:
    outgoing = ssl.MemoryBIO()
    half = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        half.do_handshake()
    return outgoing.read()
