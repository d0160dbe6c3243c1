"""TLS for Cheroot: the context, handshakes that do not block, the certificate of a client, and orderly ends."""

import contextlib
import io
import logging
import socket
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from cdxsync.base.errors import Failed
from cdxsync.server import streams
from cdxsync.server.cheroot_internals import Adapter, FatalSSLAlert

CLIENT_CERTIFICATE = "cdxsync.client_certificate"
_PLAIN_HTTP = b"This port speaks HTTPS only; use https://...\r\n"
_PLAIN_HTTP_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_PLAIN_HTTP), _PLAIN_HTTP)
)
_log = logging.getLogger("cdxsync.server")


@dataclass(frozen=True)
class ClientCertificate:
    """A client certificate that the handshake has verified against the CA."""

    subject: str
    issuer: str
    serial: int
    fingerprint: str


class _Accepted(ssl.SSLSocket):
    """The TLS socket of a client that was accepted; if it has gone since, the handshake says so.

    Python asks for the client's address to see whether a socket is connected. When the client has gone, what it does
    then depends on its version: it fails, without closing the socket, or goes on without TLS.
    """

    def getpeername(self) -> Any:
        """The client's address; of one that has gone, none."""
        try:
            return super().getpeername()
        except OSError:
            return None


class ServerContext(ssl.SSLContext):
    """A context that remembers of which kind its certificate's key is."""

    sslsocket_class = _Accepted
    key_kind: type | None = None


def server_context(certificate: Path, key: Path, client_ca: Path) -> ServerContext:
    """A context that shows `certificate` and asks clients for one of `client_ca`, which they may leave out.

    Raises `Failed`, naming the file.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Only TLS 1.2 has compression and renegotiation.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    _load_pair(context, certificate, key)
    context.verify_mode = ssl.CERT_OPTIONAL
    try:
        context.load_verify_locations(client_ca)
    except (OSError, ssl.SSLError) as error:
        raise Failed(
            f"{client_ca}: cannot be used as CA of client certificates: {error}; restore it from a backup",
            code="certificate_unusable",
        ) from None
    return context


def _load_pair(context: ServerContext, certificate: Path, key: Path) -> None:
    def refuse() -> bytes:
        """Without this, OpenSSL would ask at the terminal, and a service would wait for ever."""
        raise Failed(f"{key}: is encrypted; set tls_key to a key without a password", code="certificate_unusable")

    for path, setting in ((certificate, "tls_certificate"), (key, "tls_key")):
        try:
            path.read_bytes()
        except OSError as error:
            raise Failed(
                f"{path}: cannot be read: {error.strerror} (setting {setting})", code="certificate_unusable"
            ) from None
    try:
        context.load_cert_chain(certificate, key, password=refuse)
        context.key_kind = type(x509.load_pem_x509_certificate(certificate.read_bytes()).public_key())
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise Failed(
            f"{certificate} and {key}: cannot be used as server certificate and key"
            f" (settings tls_certificate and tls_key): {error}",
            code="certificate_unusable",
        ) from None


@dataclass(frozen=True)
class Files:
    """Where the server's certificate and key lie, and the CA of client certificates."""

    certificate: Path
    key: Path
    client_ca: Path

    def context(self) -> ServerContext:
        """A context of what the files hold now. Raises `Failed`, naming the file."""
        return server_context(self.certificate, self.key, self.client_ca)


class DeferringAdapter(Adapter):
    """Wraps sockets without shaking hands: Cheroot calls `wrap` in its accept thread, where nothing may block."""

    def __init__(self, context: ServerContext) -> None:
        super().__init__(None, None)
        self.context = context
        self._changing = threading.Lock()

    def bind(self, sock: Any) -> Any:
        """The listening socket as it is."""
        return sock

    def wrap(self, sock: Any) -> tuple[ssl.SSLSocket, dict[str, Any]]:
        """The TLS socket of a new connection; the connection shakes hands when its bytes come."""
        try:
            with self._changing:
                return self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), {}
        except OSError as error:  # the client has gone already; ssl.SSLError is an OSError too
            raise FatalSSLAlert(*error.args) from error

    def reload(self, files: Files) -> None:
        """Show what the files hold now to new connections; those that are open keep what they have seen.

        The context stays, and with it the key of its session tickets, so that sessions are resumed, by other workers
        too. It cannot stay when the CA is another one, whose sessions must not go on, or when the key is of another
        kind, as a context has one certificate of each. Raises `Failed`; nothing is changed.
        """
        fresh = files.context()
        with self._changing:
            if self._is_alike(fresh):
                try:
                    _load_pair(self.context, files.certificate, files.key)
                    return
                except Failed:  # they were replaced between the two looks, and the context has half of them
                    _log.warning("%s changed while it was read; reload again", files.certificate)
            self.context = fresh

    def _is_alike(self, fresh: ServerContext) -> bool:
        mine = self.context
        return fresh.key_kind is mine.key_kind and fresh.get_ca_certs(binary_form=True) == mine.get_ca_certs(
            binary_form=True
        )

    def get_environ(self) -> dict[str, Any]:
        """Nothing is known of a connection before its handshake."""
        return {}

    def makefile(self, sock: Any, mode: str = "r", bufsize: int = io.DEFAULT_BUFFER_SIZE) -> Any:
        """Buffered reading or writing over the TLS socket."""
        return streams.make_file(sock, mode, bufsize)


def shake_hands(sock: ssl.SSLSocket, peer: str) -> dict[str, Any]:
    """Go on with a handshake as far as the client's bytes reach; returns what it adds to the WSGI environment.

    The socket must not block. Raises `ssl.SSLWantReadError` when the client must send more first: to wait for that
    is the selector's work, or any client could block a worker with half a message. Another OSError
    when it has failed: a client's mistake, not worth more than a line for debugging. One who spoke plain HTTP is told.
    """
    try:
        sock.do_handshake()
    except ssl.SSLError as error:
        if error.reason in ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST"):
            _answer_in_clear(sock)
        raise
    environ: dict[str, Any] = {"wsgi.url_scheme": "https", "HTTPS": "on"}
    der = sock.getpeercert(binary_form=True)
    if der:
        certificate = x509.load_der_x509_certificate(der)
        if certificate.not_valid_after_utc > datetime.now(UTC):
            environ[CLIENT_CERTIFICATE] = _describe(certificate)
        else:  # TLS has looked at it when the session began, and not again when the client resumed it
            _log.debug("the certificate of %s expired since its session began", peer)
    return environ


def _describe(certificate: x509.Certificate) -> ClientCertificate:
    return ClientCertificate(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=certificate.serial_number,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _answer_in_clear(sock: ssl.SSLSocket) -> None:
    try:
        socket.socket.send(sock, _PLAIN_HTTP_ANSWER)  # beneath the TLS of SSLSocket.send
    except OSError as error:
        _log.debug("the answer to plain HTTP was not taken: %s", error)


def say_goodbye(sock: ssl.SSLSocket) -> None:
    """Send TLS's close_notify, so that the client can tell the end from a cut; waits for nothing."""
    with contextlib.suppress(OSError, ValueError):  # mostly that the client has not said goodbye yet
        sock.unwrap()


def half_close(sock: socket.socket) -> None:
    """End our side of the connection; waits for nothing."""
    if isinstance(sock, ssl.SSLSocket):
        say_goodbye(sock)
    shut_down(sock, socket.SHUT_WR)


def shut_down(sock: socket.socket, how: int) -> None:
    """Shut down a socket beneath TLS.

    SSLSocket.shutdown would forget the keys, and what a worker is about to send would go out in clear.
    """
    socket.socket.shutdown(sock, how)


def receive_raw(sock: socket.socket) -> bytes:
    """What the client has sent, not decrypted: for throwing away."""
    return socket.socket.recv(sock, 65536)
