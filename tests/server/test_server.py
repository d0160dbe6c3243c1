"""The server under clients that are silent, wrong or malicious, over real sockets."""

import errno
import http.client
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdxsync.server import framing
from tests.support.fleet import BASE_ENVIRONMENT, Fleet, free_port, running_fleet


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A server without TLS, to send raw bytes to."""
    with running_fleet(tmp_path_factory.mktemp("plain") / "home", serve_args=("--plain-http",)) as started:
        yield started


def exchange(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, dict(response.getheaders()), response.read()


def tls_connection(fleet: Fleet) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(fleet.ca_file))
    return context.wrap_socket(socket.create_connection(("127.0.0.1", fleet.port), 30), server_hostname="localhost")


def test_silent_clients_do_not_keep_others_waiting(fleet: Fleet) -> None:
    """More of them than there are worker threads, before and within the handshake."""
    silent = [socket.create_connection(("127.0.0.1", fleet.port), 30) for _ in range(40)]
    handshaken = [tls_connection(fleet) for _ in range(3)]
    try:
        silent[0].sendall(b"\x16\x03\x01")  # the beginning of a ClientHello
        with fleet.client() as client:
            assert client.call("GET", "/nothing").status_code == 404
        for connection in silent[1:]:
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(1)  # still connected: nobody was thrown out for it
    finally:
        for connection in [*silent, *handshaken]:
            connection.close()


def test_plain_http_on_the_tls_port_is_told_so(fleet: Fleet) -> None:
    status, _, body = exchange(fleet.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 400
    assert b"https" in body
    log = "".join(fleet.output)
    assert "Traceback" not in log, log


def test_old_tls_is_refused(fleet: Fleet) -> None:
    context = ssl.create_default_context(cafile=str(fleet.ca_file))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", fleet.port), 30) as raw, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(raw, server_hostname="localhost")


def test_kept_alive_and_coalesced_requests(fleet: Fleet) -> None:
    with tls_connection(fleet) as connection:
        request = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
        padded = request[:-2] + b"X-Pad: " + b"p" * 9000 + b"\r\n\r\n"
        for requests in (request, request * 3, padded * 2, request):
            connection.sendall(requests)
            for _ in range(requests.count(b"GET")):
                response = http.client.HTTPResponse(connection)
                response.begin()
                assert response.status == 404
                assert response.read()


def test_the_answer_to_a_large_body_can_be_read_while_it_is_still_sent(fleet: Fleet) -> None:
    with fleet.client(fleet.key("large.example.net")) as client:
        response = client.call("POST", "/auth", data=b" " * (3 << 20))
    assert response.status_code == 413
    assert response.headers["Connection"] == "close"


def test_clients_that_vanish_do_no_harm(fleet: Fleet) -> None:
    """With a reset at every stage: before the handshake, within it, after it, and within a request and a body."""
    key = fleet.key("vanish.example.net")
    linger = struct.pack("ii", 1, 0)  # close by RST
    body = f"POST /auth HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\nContent-Length: 100\r\n\r\n{{".encode()
    for sent in (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET / HTTP/1.1\r\n\r\n"):
        for _ in range(20):
            raw = socket.create_connection(("127.0.0.1", fleet.port), 30)
            raw.sendall(sent)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            raw.close()
    for request in (b"", b"GET /", b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", body):
        for _ in range(20):
            connection = tls_connection(fleet)
            connection.sendall(request)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()
    with fleet.client() as client:
        for _ in range(40):
            assert client.call("GET", "/nothing", headers={"Connection": "close"}).status_code == 404
    assert fleet.processes[0].poll() is None
    log = "".join(fleet.output)
    assert "Traceback" not in log, log


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: -2\r\n",
        b"Content-Length: +2\r\n",
        b"Content-Length: 2, 2\r\n",
        b"Content-Length: two\r\n",
        b"Host: other\r\n",
    ],
)
def test_ambiguous_requests_are_refused(plain: Fleet, framing: bytes) -> None:
    request = b"POST /auth HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n{}"
    status, headers, body = exchange(plain.port, request)
    assert status == 400
    assert headers["Content-Type"] == "application/json"
    assert headers["Connection"] == "close"
    assert json.loads(body)["status"] == "error"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\n\r\n", 505),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"get / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET http://evil/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 40000 + b"\r\n\r\n", 413),
        (b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"POST /auth HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ],
)
def test_what_is_no_good_http_gets_json_too(plain: Fleet, request_bytes: bytes, status: int) -> None:
    answered, headers, body = exchange(plain.port, request_bytes)
    assert answered == status
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body)["status"] == "error"


@pytest.mark.parametrize(
    "line",
    [
        b"GET /%ff%fe HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"GET /wrapper?x=%ff&force=%ff HTTP/1.1",
        b"GET /install/%ff HTTP/1.1",
        b"GET /install/00000000-0000-4000-8000-000000000000 HTTP/1.1",
        b"DELETE /auth?force=%ff HTTP/1.1",
        b"POST /usage HTTP/1.1",
        b"GET /slash-commands HTTP/1.1",
        b"GET /admin/%ff HTTP/1.1",
        b"GET //admin/hosts HTTP/1.1",
        b"GET /admin%2fhosts HTTP/1.1",
        b"GET /%61dmin/hosts HTTP/1.1",
    ],
)
def test_bytes_that_are_no_text_are_never_an_internal_error(plain: Fleet, line: bytes) -> None:
    junk = b"\xe9\xff"
    names = (b"X-API-Key", b"Authorization", b"User-Agent", b"Accept", b"If-None-Match", b"Idempotency-Key", b"X-Junk")
    headers = b"".join(name + b": " + junk + b"\r\n" for name in names)
    status, _, _ = exchange(plain.port, line + b"\r\nHost: x\r\n" + headers + b"\r\n")
    assert 400 <= status < 500
    key = json.loads(plain.cli("--json", "hosts", "register", "--yes", "junk.example.net").stdout)["host"][
        "api_key"
    ].encode()
    status, _, _ = exchange(
        plain.port, line + b"\r\nHost: x\r\nX-API-Key: " + key + b"\r\nX-Junk: " + junk + b"\r\n\r\n"
    )
    assert status < 500


def test_head_has_no_body(plain: Fleet) -> None:
    with socket.create_connection(("127.0.0.1", plain.port), 30) as connection:
        connection.sendall(b"HEAD /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := connection.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 404")
    assert answer.endswith(b"\r\n\r\n")


def test_broken_chunks_are_400(plain: Fleet) -> None:
    key = json.loads(plain.cli("--json", "hosts", "register", "--yes", "chunks.example.net").stdout)["host"]["api_key"]
    head = f"POST /auth HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    assert exchange(plain.port, head + b"zz\r\n{}\r\n0\r\n\r\n")[0] == 400
    assert exchange(plain.port, head + b"2\r\n{}\r\n0\r\n\r\n")[0] == 422


def test_more_chunks_than_a_body_needs_are_400(plain: Fleet) -> None:
    key = json.loads(plain.cli("--json", "hosts", "register", "--yes", "pieces.example.net").stdout)["host"]["api_key"]
    head = f"POST /auth HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    piece, end = b"1\r\n \r\n", b"0\r\n\r\n"
    assert exchange(plain.port, head + piece * (framing.MAX_CHUNKS - 1) + end)[0] == 422
    assert exchange(plain.port, head + piece * framing.MAX_CHUNKS + end)[0] == 400


def test_ipv6(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "cdxsync", "--home", str(tmp_path / "home"), "serve", "--listen", f"[::1]:{port}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=BASE_ENVIRONMENT)
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("Listening on "):
                break
        assert f"Listening on https://[::1]:{port}; hosts call https://[::1]:{port}\n" in lines
        context = ssl.create_default_context(cafile=str(tmp_path / "home" / "pki" / "ca.pem"))
        connection = http.client.HTTPSConnection("::1", port, context=context)
        connection.request("GET", "/nothing")
        assert connection.getresponse().status == 404
        connection.close()
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_an_address_in_use_is_named(fleet: Fleet, tmp_path: Path) -> None:
    other = Fleet(tmp_path / "home")
    done = other.cli("serve", "--listen", f"127.0.0.1:{fleet.port}", check=False)
    assert done.returncode == 1
    address = f"127.0.0.1:{fleet.port}"
    advice = "another server has that port: stop it, or choose one with --listen HOST:PORT"
    assert done.stderr.endswith(f"cdxsync: cannot listen on {address}: {os.strerror(errno.EADDRINUSE)}; {advice}\n")
    assert "Traceback" not in done.stderr


def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    done = Fleet(tmp_path / "home").cli("serve", "--listen", "192.0.2.1:8443", check=False)
    assert done.returncode == 1
    assert f"cannot listen on 192.0.2.1:8443: {os.strerror(errno.EADDRNOTAVAIL)}; this machine has" in done.stderr


def test_own_certificates(tmp_path: Path, fleet: Fleet) -> None:
    """A server with a certificate of its own; its hosts trust what host_ca says, or their own store."""
    pki = fleet.home / "pki"
    env = {"CDXSYNC_TLS_CERTIFICATE": str(pki / "server.pem"), "CDXSYNC_TLS_KEY": str(pki / "server.key")}
    with running_fleet(tmp_path / "own", env=env) as own:
        command = json.loads(own.cli("--json", "hosts", "register", "a.example.net").stdout)["installer"]["command"]
        url = command.split('"')[1]
        assert url.startswith(f"{own.url}/install/")
        options = '-q --proto "=https" -fsSL --max-redirs 0 -K -'
        assert command == f"echo 'set -o pipefail; echo url = \"{url}\" | curl {options} | bash' | bash"
        own.ca_file = pki / "ca.pem"
        with own.client() as client:
            assert client.call("GET", "/nothing").status_code == 404
        own.env["CDXSYNC_HOST_CA"] = str(pki / "ca.pem")
        assert "BEGIN CERTIFICATE" in own.cli("hosts", "register", "--yes", "a.example.net").stdout
    done = Fleet(tmp_path / "bad", env=env | {"CDXSYNC_TLS_KEY": str(pki / "admin.key")}).cli("serve", check=False)
    assert done.returncode == 1
    assert "cannot be used as server certificate and key" in done.stderr
