"""Handshakes, client certificates, and what TLS makes of the end of a connection."""

import logging
import select
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from cdxsync.base.errors import Failed
from cdxsync.security import pki
from cdxsync.server import tls
from tests.support.running import LAST_REQUEST, REQUEST, RESET, Running, answer, ask, open_tls, read_all, trusting

BOTH_VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])


def test_without_a_certificate(tls_server: Running, pki_folder: Path) -> None:
    with open_tls(tls_server, trusting(pki_folder)) as connection:
        told = ask(connection)
    assert told["certificate"] is None
    assert (told["wsgi.url_scheme"], told["HTTPS"], told["SERVER_NAME"]) == ("https", "on", "cdxsync")


@BOTH_VERSIONS
def test_with_a_certificate(tls_server: Running, pki_folder: Path, version: ssl.TLSVersion) -> None:
    pem = x509.load_pem_x509_certificate((pki_folder / "admin.pem").read_bytes())
    context = trusting(pki_folder, pki_folder / "admin.pem", pki_folder / "admin.key", version=version)
    with open_tls(tls_server, context) as connection:
        for _ in range(2):
            assert ask(connection)["certificate"] == {
                "subject": "CN=admin",
                "issuer": "CN=cdxsync CA",
                "serial": pem.serial_number,
                "fingerprint": pem.fingerprint(hashes.SHA256()).hex(),
            }


@BOTH_VERSIONS
def test_a_resumed_session_brings_its_certificate(
    tls_server: Running, pki_folder: Path, version: ssl.TLSVersion
) -> None:
    context = trusting(pki_folder, pki_folder / "admin.pem", pki_folder / "admin.key", version=version)
    with open_tls(tls_server, context) as connection:
        ask(connection)
        session = connection.session
    with open_tls(tls_server, context, session) as connection:
        assert connection.session_reused
        assert ask(connection)["certificate"]["subject"] == "CN=admin"


def test_a_certificate_that_expired_since_its_session_began_does_not_count(
    tls_server: Running, pki_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Self:
            return cls(2200, 1, 1, tzinfo=tz)

    monkeypatch.setattr(tls, "datetime", Later)
    with open_tls(tls_server, trusting(pki_folder, pki_folder / "admin.pem", pki_folder / "admin.key")) as connection:
        assert ask(connection)["certificate"] is None


def expired_pair(pki_folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    with monkeypatch.context() as patch:
        patch.setattr(pki, "_now", lambda: datetime.now(UTC).replace(microsecond=0) - timedelta(days=30))
        issued = pki.issue(pki_folder, "old", days=1)
    return issued.certificate, issued.key


@pytest.mark.parametrize("which", ["foreign", "server", "expired"])
def test_wrong_certificates_are_refused(
    tls_server: Running, pki_folder: Path, tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if which == "foreign":
        pki.create(tmp_path / "pki", ["localhost"])
        pair = (tmp_path / "pki" / "admin.pem", tmp_path / "pki" / "admin.key")
    elif which == "server":
        pair = (pki_folder / "server.pem", pki_folder / "server.key")
    else:
        pair = expired_pair(pki_folder, monkeypatch)
    # With TLS 1.3 the client learns of it only after its own part of the handshake. It is told why, not just cut off.
    with (
        pytest.raises(ssl.SSLError, match="alert"),
        open_tls(tls_server, trusting(pki_folder, *pair)) as connection,
    ):
        ask(connection)
    assert tls_server.app.paths == []
    with open_tls(tls_server, trusting(pki_folder)) as connection:
        ask(connection)


def test_bad_files_are_named(pki_folder: Path, tmp_path: Path) -> None:
    certificate, key, ca = pki_folder / "server.pem", pki_folder / "server.key", pki_folder / "ca.pem"
    absent, empty, locked = tmp_path / "absent.pem", tmp_path / "empty.pem", tmp_path / "locked.key"
    empty.touch()
    private = load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    for files, told in (
        ((absent, key, ca), ("absent.pem", "tls_certificate")),
        ((certificate, absent, ca), ("absent.pem", "tls_key")),
        ((empty, key, ca), ("empty.pem", "tls_certificate")),
        ((certificate, pki_folder / "admin.key", ca), ("admin.key", "tls_key")),
        ((certificate, locked, ca), ("locked.key", "is encrypted")),
        ((certificate, key, absent), ("absent.pem", "CA of client certificates")),
        ((certificate, key, empty), ("empty.pem", "CA of client certificates")),
    ):
        with pytest.raises(Failed) as caught:
            tls.server_context(*files)
        assert all(word in caught.value.message for word in told), caught.value.message


@BOTH_VERSIONS
@pytest.mark.parametrize("cut", [1, 100])
def test_a_handshake_in_pieces(tls_server: Running, pki_folder: Path, cut: int, version: ssl.TLSVersion) -> None:
    context = trusting(pki_folder, version=version)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with tls_server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        done = False
        while not done:
            try:
                client.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            pending = outgoing.read()
            for at in range(0, len(pending), cut):
                connection.sendall(pending[at : at + cut])
            if not done:
                incoming.write(connection.recv(65536))
        client.write(LAST_REQUEST)
        connection.sendall(outgoing.read())
        incoming.write(read_all(connection))
    assert client.read(65536).startswith(b"HTTP/1.1 200")


def test_a_client_that_goes_before_its_handshake(server_context: tls.ServerContext) -> None:
    """Its socket is whole, though not connected any more, and fails at the handshake."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        select.select([accepted], [], [])
        connection, _ = tls.DeferringAdapter(server_context).wrap(accepted)
        with connection, pytest.raises(ConnectionResetError):
            connection.do_handshake()


def test_plain_http_on_the_tls_port(tls_server: Running, caplog: pytest.LogCaptureFixture) -> None:
    for request in (REQUEST, b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000):
        with tls_server.connect() as connection:
            connection.sendall(request)
            status, headers, body = answer(connection)
        assert (status, headers["Content-Type"], headers["Connection"]) == (400, "text/plain", "close")
        assert b"HTTPS" in body
    assert tls_server.app.paths == []
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


@BOTH_VERSIONS
def test_the_end_of_a_tls_connection_is_told(tls_server: Running, pki_folder: Path, version: ssl.TLSVersion) -> None:
    context = trusting(pki_folder, version=version)
    connection = context.wrap_socket(tls_server.connect(), server_hostname="localhost", suppress_ragged_eofs=False)
    with connection:
        connection.sendall(LAST_REQUEST)
        assert read_all(connection).startswith(b"HTTP/1.1 200")  # a cut would raise SSLEOFError
