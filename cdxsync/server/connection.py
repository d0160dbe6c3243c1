"""A connection: when it takes a worker, when it waits in the selector, and how it ends.

It takes a worker only when there is work: a step of its handshake, a request, the rest of an answer that the client can
take now. In between it waits in the selector, where any number of silent clients costs no thread.
"""

import logging
import select
import selectors
import socket
import ssl
import time
from typing import Any

from cdxsync.base import metrics
from cdxsync.server import framing, streams, tls
from cdxsync.server.cheroot_internals import HTTPConnection

HANDSHAKE_TIMEOUT_SECONDS = 5.0
HEAD_TIMEOUT_SECONDS = 10.0
IDLE_TIMEOUT_SECONDS = 30
"""How long a client may send or take nothing; Cheroot wants it whole."""
_DRAIN_BYTES = 4 << 20
_DRAIN_SECONDS = 2.0
_PATIENCE_SECONDS = 0.005
_RECEIVE_BYTES = 8192
_log = logging.getLogger("cdxsync.server")


class Connection(HTTPConnection):
    """The socket of one client, which does not block."""

    RequestHandlerClass = framing.Request
    answered_early = False
    """Whether the answer came before all of the request: the client may still be sending."""
    waiting_since: float | None = None
    """Since when a handshake, a request's head or the end of the connection has been begun and not completed."""
    over = False
    """Whether the connection ends when its last answer has been sent."""
    undrained: int | None = None
    """When our side has ended: how many bytes more are read from the client's."""
    source: str | None = None
    """The source that the server's limits count it for; None when it is not counted, or not any more."""

    def __init__(self, server: Any, sock: Any, _makefile: Any = None) -> None:
        super().__init__(server, sock, streams.make_file)
        sock.setblocking(False)
        self.shaking = isinstance(sock, ssl.SSLSocket)

    def communicate(self) -> bool:
        """Go on as far as the client's bytes reach; whether the connection stays open."""
        try:
            if self.undrained is not None:
                return self._drain()
            if not self.send_on():
                return True
            if self.over:
                return self._end()
            patience = time.monotonic() + _PATIENCE_SECONDS
            while not self._request_is_there():
                # Mostly it comes at once, and a way through the selector costs more. But no queue waits for this.
                if self.server.requests.qsize > self.server.numthreads or not self._more_before(patience):
                    return True
            self.waiting_since = None
            self.over = not super().communicate()
            return not self.send_on() or not self.over or self._end()
        except OSError as error:
            _log.debug("%s: %s", self.remote_addr, error)
            return self.shaking and self._drain()

    def events(self) -> int:
        """What it waits for, as an event of `selectors`."""
        return selectors.EVENT_WRITE if self.wfile.has_unsent() else selectors.EVENT_READ

    def has_more(self) -> bool:
        """Whether it can go on without waiting: the next request has been received already."""
        if self.wfile.has_unsent() or self.waiting_since is not None:
            return False
        return self.rfile.has_data() or (isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0)

    def send_on(self) -> bool:
        """Send what the client takes at once of the answer; whether nothing is left, as after an error too."""
        try:
            self.wfile.flush()
        except OSError as error:
            _log.debug("the answer to %s was not taken: %s", self.remote_addr, error)
            self.over = True
        return not self.wfile.has_unsent()

    def _end(self) -> bool:
        return self.answered_early and self._drain()

    def _drain(self) -> bool:
        """End our side, then read on a bounded while (RFC 9112, 9.6); whether there may be more to read.

        To close a socket with unread data resets the connection, and the client would lose the answer.
        """
        try:
            if self.undrained is None:
                self.undrained, self.waiting_since = _DRAIN_BYTES, time.monotonic()
                tls.half_close(self.socket)
            while self.undrained > 0 and (data := tls.receive_raw(self.socket)):
                self.undrained -= len(data)
        except BlockingIOError:
            return True
        except OSError as error:
            _log.debug("draining %s: %s", self.remote_addr, error)
        return False

    def _request_is_there(self) -> bool:
        """Take in what has come: first of the handshake, then of a request's head. OSError when there is no hope."""
        try:
            if self.shaking:
                self.ssl_env = tls.shake_hands(self.socket, str(self.remote_addr))
                self.shaking, self.waiting_since = False, None
                metrics.handshakes.inc("resumed" if self.socket.session_reused else "ok")
            # An end, or more than a head may have, is for the parser to answer.
            while not self.rfile.holds(framing.END_OF_HEAD) and self.rfile.buffered() <= framing.MAX_HEADER_BYTES:
                data = self.socket.recv(_RECEIVE_BYTES)
                if not data:
                    break
                self.rfile.feed(data)
        except (BlockingIOError, ssl.SSLWantReadError):
            begun = self.shaking or self.rfile.has_data()
            self.waiting_since = (self.waiting_since or time.monotonic()) if begun else None
            return False
        return True

    def _more_before(self, end: float) -> bool:
        return streams.ready_before(self.socket, select.POLLIN, end)

    def take_head(self) -> bytes:
        """The head of the request, or what there is of it; the body stays, and may take its time from now."""
        received: bytes = self.rfile.unread()
        end = framing.END_OF_HEAD.search(received)
        head = received[: end.end()] if end else received
        self.rfile.skip(len(head))
        self.rfile.be_patient(IDLE_TIMEOUT_SECONDS)
        return head

    def is_late(self, now: float) -> bool:
        """Whether what has been begun takes too long."""
        limit = HANDSHAKE_TIMEOUT_SECONDS if self.shaking else HEAD_TIMEOUT_SECONDS
        limit = limit if self.undrained is None else _DRAIN_SECONDS
        return self.waiting_since is not None and now - self.waiting_since > limit

    def cut_off(self) -> None:
        """End both sides, while a worker may be writing."""
        tls.shut_down(self.socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection. Never raises: what did would take Cheroot's worker, and then the server, with it."""
        if self.source is not None:
            self.server.limits.release(self.source)
            self.source = None
            if self.shaking:
                metrics.handshakes.inc("failed")
        try:
            self.wfile.discard()
            self.wfile.close()
            if isinstance(self.socket, ssl.SSLSocket) and not self.shaking and self.undrained is None:
                tls.say_goodbye(self.socket)
            super().close()
        except OSError as error:
            _log.debug("closing the connection of %s: %s", self.remote_addr, error)
