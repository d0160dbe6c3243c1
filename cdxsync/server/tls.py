"""TLS for Cheroot: the context, the certificate that a client showed, and handshakes outside the accept thread."""

import logging
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cheroot.errors import FatalSSLAlert
from cheroot.makefile import MakeFile
from cheroot.ssl import Adapter
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from cdxsync.errors import Failed

HANDSHAKE_TIMEOUT_SECONDS = 5.0
CLIENT_CERTIFICATE = "cdxsync.client_certificate"
_PLAIN_HTTP_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 45\r\n\r\n"
    b"This port speaks HTTPS only; use https://...\r\n"
)
_log = logging.getLogger("cdxsync.server")


@dataclass(frozen=True)
class ClientCertificate:
    """A client certificate that the handshake has verified against the CA."""

    subject: str
    issuer: str
    serial: int
    fingerprint: str


def server_context(certificate: Path, key: Path, client_ca: Path) -> ssl.SSLContext:
    """A context that shows `certificate` and asks clients for one of `client_ca`, which they may leave out.

    Raises `Failed`, naming the file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Only TLS 1.2 has compression and renegotiation.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_OPTIONAL
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise Failed(f"{certificate} and {key}: cannot be used as server certificate and key: {error}") from None
    try:
        context.load_verify_locations(client_ca)
    except (OSError, ssl.SSLError) as error:
        raise Failed(f"{client_ca}: cannot be used as CA of client certificates: {error}") from None
    return context


class DeferringAdapter(Adapter):
    """Wraps sockets without shaking hands: Cheroot calls `wrap` in its accept thread, where nothing may block."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(None, None)
        self.context = context

    def bind(self, sock: Any) -> Any:
        """The listening socket as it is."""
        return sock

    def wrap(self, sock: Any) -> tuple[ssl.SSLSocket, dict[str, Any]]:
        """The TLS socket of a new connection; `shake_hands` does the rest in a worker."""
        try:
            return self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), {}
        except OSError as error:  # the client has gone already; ssl.SSLError is an OSError too
            raise FatalSSLAlert(*error.args) from error

    def get_environ(self) -> dict[str, Any]:
        """Nothing is known of a connection before its handshake."""
        return {}

    def makefile(self, sock: Any, mode: str = "r", bufsize: int = -1) -> Any:
        """Buffered reading and writing over the TLS socket."""
        return MakeFile(sock, mode, bufsize)


def shake_hands(sock: ssl.SSLSocket, peer: str) -> dict[str, Any] | None:
    """Do the handshake of a new connection, in time; returns what it adds to the WSGI environment.

    None when it failed: a client's mistake, not worth more than a line for debugging. A client that spoke plain
    HTTP is told.
    """
    timeout = sock.gettimeout()
    sock.settimeout(HANDSHAKE_TIMEOUT_SECONDS)
    try:
        sock.do_handshake()
    except ssl.SSLError as error:
        _log.debug("TLS handshake with %s failed: %s", peer, error)
        if error.reason == "HTTP_REQUEST":
            _answer_in_clear(sock)
        return None
    except OSError as error:
        _log.debug("TLS handshake with %s failed: %s", peer, error)
        return None
    sock.settimeout(timeout)
    environ: dict[str, Any] = {"wsgi.url_scheme": "https", "HTTPS": "on"}
    der = sock.getpeercert(binary_form=True)
    if der:
        environ[CLIENT_CERTIFICATE] = _describe(der)
    return environ


def _describe(der: bytes) -> ClientCertificate:
    certificate = x509.load_der_x509_certificate(der)
    return ClientCertificate(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=certificate.serial_number,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _answer_in_clear(sock: ssl.SSLSocket) -> None:
    with socket.socket(fileno=os.dup(sock.fileno())) as raw:
        raw.settimeout(1)
        try:
            raw.sendall(_PLAIN_HTTP_ANSWER)
            raw.shutdown(socket.SHUT_WR)
            raw.recv(65536)
        except OSError:
            pass
