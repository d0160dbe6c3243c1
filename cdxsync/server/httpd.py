"""The Cheroot server, hardened: silent clients cost no thread, ambiguous requests are refused, errors are JSON."""

import contextlib
import json
import logging
import secrets
import selectors
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from cheroot import connections
from cheroot import server as cheroot_server
from cheroot.wsgi import Server as WsgiServer

from cdxsync.errors import Failed
from cdxsync.server import tls

MAX_HEADER_BYTES = 32 * 1024
IDLE_TIMEOUT_SECONDS = 30
SHUTDOWN_TIMEOUT_SECONDS = 10
_DRAIN_BYTES = 4 << 20
_DRAIN_SECONDS = 2.0
_log = logging.getLogger("cdxsync.server")


class _HeaderReader(cheroot_server.HeaderReader):
    """Leaves out headers with an underscore in their name.

    `X_Forwarded_For` would become the same WSGI name as `X-Forwarded-For`, past a proxy that strips the latter.
    (Cheroot 11.1's own DropUnderscoreHeaderReader fails on every header: it looks for a text in bytes.)
    """

    def _allow_header(self, key_name: bytes) -> bool:
        return b"_" not in key_name


class _StrictHeaders(dict[bytes, bytes]):
    """Request headers in which those that frame or route a request stand once."""

    def __setitem__(self, name: bytes, value: bytes) -> None:
        if name in (b"Content-Length", b"Transfer-Encoding", b"Host") and name in self:
            raise ValueError(f"The header {name.decode()} is repeated")
        super().__setitem__(name, value)


class _Request(cheroot_server.HTTPRequest):
    """A request whose framing must be beyond doubt (RFC 9112, 6.3), as proxies in front may read it otherwise."""

    header_reader = _HeaderReader()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.inheaders = _StrictHeaders()

    def read_request_headers(self) -> bool:
        """Read the headers; refuse a body whose length can be read in two ways."""
        if not super().read_request_headers():
            return False
        length = self.inheaders.get(b"Content-Length")
        if length is not None and (b"Transfer-Encoding" in self.inheaders or not length.isdigit()):
            self.simple_response("400 Bad Request", "The length of the body is ambiguous")
            return False
        return True

    def respond(self) -> None:
        """Answer through the application."""
        super().respond()
        if self.close_connection:
            self._drain_body()

    def _drain_body(self) -> None:
        """Read on a bounded while when the answer came before the whole body had been read.

        Closing a socket with unread data resets the connection, and the client would lose the answer (RFC 9112, 9.6).
        """
        left = _DRAIN_BYTES if self.chunked_read else min(_DRAIN_BYTES, getattr(self.rfile, "remaining", 0))
        if self.chunked_read and self.rfile.closed:
            return
        end = time.monotonic() + _DRAIN_SECONDS
        try:
            while left > 0 and (seconds := end - time.monotonic()) > 0:
                self.conn.socket.settimeout(seconds)
                data = self.conn.rfile.read1(min(left, 65536))
                if not data:
                    return
                left -= len(data)
        except OSError:
            return

    def simple_response(self, status: Any, msg: str = "") -> None:
        """Answer for the server itself, before the application sees the request; the connection ends with it."""
        self.close_connection = True
        text = msg or str(status).partition(" ")[2]
        error = {"status": "error", "message": text, "request_id": secrets.token_hex(8)}
        body = json.dumps(error).encode()
        head = (
            f"{self.server.protocol} {status}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            self.conn.wfile.write(head.encode("latin-1") + body)


class _Connection(cheroot_server.HTTPConnection):
    """A connection whose handshake is done by the worker that serves its first request."""

    RequestHandlerClass = _Request
    _fresh = True

    def communicate(self) -> bool:
        """Serve one request; whether the connection stays open."""
        if self._fresh and isinstance(self.socket, ssl.SSLSocket):
            environ = tls.shake_hands(self.socket, str(self.remote_addr))
            if environ is None:
                return False
            self.ssl_env = environ
        self._fresh = False
        return bool(super().communicate())

    def close(self) -> None:
        """Close the connection. Never raises: what did would take Cheroot's worker, and then the server, with it."""
        # What could not be written to a client that has gone would be tried again when the writer is collected.
        with contextlib.suppress(OSError):
            self.wfile.close()
        try:
            super().close()
        except OSError as error:
            _log.debug("closing the connection of %s: %s", self.remote_addr, error)


class _ConnectionManager(connections.ConnectionManager):
    """Hands a new connection to a worker only when its first bytes have come."""

    def _from_server_socket(self, server_socket: Any) -> None:
        connection = super()._from_server_socket(server_socket)
        if connection is not None:
            connection.last_used = time.time()
            self._selector.register(connection.socket.fileno(), selectors.EVENT_READ, data=connection)

    def put(self, conn: Any) -> None:
        """Take back a kept-alive connection; one whose next request was decrypted already goes on at once."""
        try:
            if isinstance(conn.socket, ssl.SSLSocket) and conn.socket.pending():
                conn.last_used = time.time()
                self.server.process_conn(conn)
            else:
                super().put(conn)
        except (OSError, ValueError, KeyError) as error:
            # The client has gone, or the server is stopping; either way a worker must outlive it.
            _log.debug("giving up the connection of %s: %s", conn.remote_addr, error)
            conn.close()


class Server(WsgiServer):
    """A server for `app` on `address`, with TLS when a context is given."""

    ConnectionClass = _Connection
    max_request_header_size = MAX_HEADER_BYTES

    def __init__(
        self, address: tuple[str, int], app: Callable[..., Any], context: ssl.SSLContext | None, *, threads: int
    ) -> None:
        super().__init__(
            address,
            app,
            numthreads=threads,
            max=threads,
            server_name="cdxsync",
            request_queue_size=256,
            timeout=IDLE_TIMEOUT_SECONDS,
            shutdown_timeout=SHUTDOWN_TIMEOUT_SECONDS,
        )
        if context is not None:
            self.ssl_adapter = tls.DeferringAdapter(context)
        self._stop_reader, self._stop_writer = socket.socketpair()
        self._stop_writer.setblocking(False)

    def prepare(self) -> None:
        """Bind, and watch connections in our own way."""
        super().prepare()
        self._connections._selector.close()
        self._connections = _ConnectionManager(self)

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Cheroot's own messages, into our log; those about clients that went away only for debugging."""
        about_clients = level <= logging.INFO or isinstance(sys.exc_info()[1], OSError)
        _log.log(logging.DEBUG if about_clients else level, msg, exc_info=traceback)

    @contextlib.contextmanager
    def stopping_on(self, numbers: Iterable[int]) -> Iterator[None]:
        """Let these signals ask for the end, also when it does not serve yet. Only the main thread can set that.

        The interpreter itself sends the signal's number, in whatever thread it comes. A handler in Python would run in
        the main thread only, when that gets round to it: while it waits for the end, that may be never.
        """
        signal.set_wakeup_fd(self._stop_writer.fileno(), warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, _do_nothing)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)  # the descriptor may become another file's

    def request_stop(self) -> None:
        """Ask for the end, from any thread."""
        with contextlib.suppress(BlockingIOError):  # so often asked for already that nothing more goes in
            self._stop_writer.send(b"\0")

    def wait_for_stop(self) -> int:
        """Wait until the end is asked for; returns the signal's number, or 0."""
        return self._stop_reader.recv(1)[0]


def _do_nothing(signum: int, frame: FrameType | None) -> None:
    pass


def listen(server: Server) -> tuple[str, int]:
    """Bind the address; returns the real one, which port 0 has left open. Raises OSError."""
    server.prepare()
    host, port = server.bind_addr[:2]
    return str(host), int(port)


def serve_until_stopped(server: Server) -> None:
    """Serve until `request_stop`; requests in flight finish first.

    Raises `Failed` when the server ends by itself, so that whoever watches the process starts it again.
    """
    accepting = threading.Thread(target=_accept, args=(server,), name="accept")
    accepting.start()
    signum = server.wait_for_stop()
    if signum:
        _log.info("stopping on %s", signal.Signals(signum).name)
    failure = server.interrupt
    server.stop()
    accepting.join()
    if failure is not None:
        raise Failed(f"the server has failed: {failure!r}")


def _accept(server: Server) -> None:
    try:
        server.serve()
    except BaseException:
        _log.exception("the server has failed")
    finally:
        server.request_stop()
