"""The HTTP server: the selector in which silent clients wait, the worker threads, and the orderly end."""

import contextlib
import errno
import logging
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cdxsync.base import metrics
from cdxsync.base.errors import Failed
from cdxsync.server import framing, streams, tls
from cdxsync.server.cheroot_internals import ConnectionManager, HTTPServer, WorkerPool
from cdxsync.server.connection import IDLE_TIMEOUT_SECONDS, Connection
from cdxsync.server.connection_limits import ConnectionLimits

SHUTDOWN_TIMEOUT_SECONDS = 10
MAX_GROWTH = 4
"""How many times more threads there may be while clients send slowly."""
_FORCED_SECONDS = 2.0
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_LAST_ANSWERS_SECONDS = 5.0
_CROWDED_SECONDS = 0.05
_log = logging.getLogger("cdxsync.server")


class _WaitingConnections(ConnectionManager):
    """The connections that wait for their clients. A new one goes to a worker only when its first bytes have come."""

    _crowded: OSError | None = None

    def __init__(self, server: "Server") -> None:
        super().__init__(server)
        self._changing = threading.Lock()
        self._woken, self._waker = socket.socketpair()
        # The server's, like the listening socket, so it is not among the connections that wait.
        self.watch(self._woken.fileno(), selectors.EVENT_READ, server)

    def loop(self, interval: float) -> None:
        """Accept and wait until it is to stop.

        Cheroot's own loop goes by the wall clock: set back, it would suspend all time limits.
        """
        expired_at = float("-inf")
        while not self.is_stopping:
            now = time.monotonic()
            if now - expired_at >= interval:
                self._close_expired(now)
                expired_at = now
            try:
                active = self.select(interval)
            except OSError:
                self.remove_closed_sockets()
                continue
            for descriptor, connection in active:
                if descriptor == self._woken.fileno():
                    continue  # it is to stop
                if connection is self.server:
                    self._take_new()
                else:
                    self.unwatch(descriptor)
                    self.server.process_conn(connection)

    def stop(self) -> None:
        """End the loop at once; Cheroot alone would wait for the end of the interval."""
        self.ask_to_stop()
        self._waker.send(b"\0")
        super().stop()
        self.unwatch(self._woken.fileno())
        self._waker.close()
        self._woken.close()

    def _take_new(self) -> None:
        try:
            connection = self.accept()
        except OSError as error:
            if error.errno not in _OUT_OF_DESCRIPTORS:
                raise
            self._crowded = error
            time.sleep(_CROWDED_SECONDS)  # the selector will report it again at once
            return
        if connection is None:
            return
        limits = self.server.limits
        connection.source, limit = limits.admit(connection.remote_addr)
        if limit == "total" and self._make_room():
            limit = ""
        if limit:
            limits.report_refusal(limit, connection.source)
            limits.release(connection.source)
            connection.source = None  # no handshake that failed
            connection.close()
            return
        self._wait_for(connection)

    def _make_room(self) -> bool:
        """Close the tenth of the waiting connections that has been idle longest; whether there was one."""
        waiting = self._longest_idle_first()
        if waiting:
            self.server.limits.report_refusal("total", waiting[0][1].source)
        self._close(waiting[: len(waiting) // 10 + 1])
        return bool(waiting)

    def _wait_for(self, connection: Connection) -> None:
        connection.last_used = time.monotonic()
        self.watch(connection.socket.fileno(), connection.events(), connection)

    def _close_expired(self, now: float) -> None:
        idle = now - self.server.timeout
        self._close([item for item in self.waiting() if item[1].is_late(now) or item[1].last_used < idle])
        if self._crowded is not None:
            self._shed(self._crowded)
            self._crowded = None
        self.server.tick()

    def _shed(self, error: OSError) -> None:
        """Close the tenth of the waiting connections that has been idle longest, to be able to accept again."""
        waiting = self._longest_idle_first()
        _log.warning("cannot accept a connection (%s); closing idle ones, of %d", error.strerror, len(waiting))
        self._close(waiting[: len(waiting) // 10 + 1])

    def _longest_idle_first(self) -> list[tuple[int, Any]]:
        return sorted(self.waiting(), key=lambda item: item[1].last_used)

    def _close(self, items: list[tuple[int, Any]]) -> None:
        for descriptor, connection in items:
            self.unwatch(descriptor)
            connection.close()

    def put(self, conn: Connection) -> None:
        """Take back a connection; one whose next request has been received already goes on at once.

        When the server is stopping, only one whose answer the client has not taken yet.
        """
        try:
            with self._changing:
                if self.server.ready and conn.has_more():
                    self.server.process_conn(conn)
                    return
                if self.server.ready or conn.wfile.has_unsent():
                    self._wait_for(conn)
                    return
        except (OSError, ValueError, KeyError) as error:
            # The client has gone, or the server has stopped; either way a worker must outlive it.
            _log.debug("dropping the connection of %s: %s", conn.remote_addr, error)
        conn.close()

    def close(self) -> None:
        """Close the idle connections, when the server is not ready any more."""
        with self._changing:
            self._close([item for item in self.waiting() if not item[1].wfile.has_unsent()])

    def send_last_answers(self) -> None:
        """Send what is left of answers, when the workers have ended, and close their connections."""
        end = time.monotonic() + _LAST_ANSWERS_SECONDS
        while self.waiting() and (seconds := end - time.monotonic()) > 0:
            self._close([item for item in self.select(seconds) if item[1].send_on()])
        with self._changing:
            if late := self.waiting():
                _log.warning("answers cut off, as their clients did not take them in time: %d", len(late))
            self._close(late)
            self.close_selector()


class _Workers(WorkerPool):
    """Worker threads, whose end is bounded in time."""

    def fit(self) -> None:
        """Have as many threads beside those that wait for slow clients as there were at first, within the limit.

        More would not help otherwise: silent clients hold none, and what computes or commits waits for its turn.
        """
        wanted = min(self.min + streams.slow_clients(), self.max)
        count = self.staying()
        if count < wanted and self.qsize:
            self.add(wanted - count)
        elif count > wanted and not self.qsize:
            self.shrink_to(wanted)

    def stop(self, timeout: float = SHUTDOWN_TIMEOUT_SECONDS) -> None:
        """Let requests in flight finish within `timeout` seconds, then cut them off; clients get their last answers."""
        workers = self.end_all()
        end = time.monotonic() + timeout
        for worker in workers:
            worker.join(max(0.0, end - time.monotonic()))
        for worker in workers:
            if worker.is_alive() and (connection := worker.conn) is not None:
                with contextlib.suppress(OSError):
                    connection.cut_off()
        end = time.monotonic() + _FORCED_SECONDS
        for worker in workers:
            worker.join(max(0.0, end - time.monotonic()))
        if stuck := sum(worker.is_alive() and worker.conn is not None for worker in workers):
            _log.warning("requests cut off, as they did not end in time: %d", stuck)
        self.server.manager.send_last_answers()


class Server(HTTPServer):
    """A server for `app` on `address`, or on a socket that is bound already, with TLS when a context is given."""

    ConnectionClass = Connection
    max_request_header_size = framing.MAX_HEADER_BYTES
    # Cheroot's limit of 10 counts silent connections too: ten of them would end keep-alive for all.
    keep_alive_conn_limit = None  # type: ignore[assignment]

    def __init__(
        self,
        address: tuple[str, int],
        app: Callable[..., Any],
        context: tls.ServerContext | None,
        *,
        threads: int,
        listening: socket.socket | None = None,
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
        self.requests = _Workers(self, min=threads, max=MAX_GROWTH * threads)
        self.limits = ConnectionLimits()
        self.on_tick: Callable[[], None] = _do_nothing
        self.on_refusal: Callable[[str, int, str], None] = _do_nothing
        """Called with client, status and request id of what is answered without the application."""
        self._listening = listening
        self.bind_error: OSError | None = None
        if context is not None:
            self.ssl_adapter = tls.DeferringAdapter(context)
        self._stop_reader, self._stop_writer = socket.socketpair()
        self._stop_writer.setblocking(False)

    def bind(self, family: int, type: int, proto: int = 0) -> socket.socket:
        """Bind, unless a socket was given; what fails is kept in `bind_error`."""
        if self._listening is None:
            try:
                bound: socket.socket = super().bind(family, type, proto)
            except OSError as error:
                self.bind_error = error
                raise
            return bound
        self.socket = self._listening
        self.bind_addr = self.resolve_real_bind_addr(self._listening)
        return self._listening

    def tick(self) -> None:
        """What is done about twice a second, in the thread that accepts: while it comes, the server lives."""
        self.requests.fit()
        metrics.connections_open.set(self.limits.total)
        metrics.queue_length.set(self.requests.qsize)
        metrics.threads.set(self.requests.size)
        self.on_tick()

    def make_connection_manager(self) -> ConnectionManager:
        """The connections that wait; called when the socket is bound."""
        return _WaitingConnections(self)

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Cheroot's own messages, into our log; what it deems information is about clients that went away."""
        _log.log(level if level > logging.INFO else logging.DEBUG, msg, exc_info=traceback)

    def put_conn(self, conn: Connection) -> None:
        """Take back a connection from its worker, also while the server is stopping."""
        self.manager.put(conn)

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


def _do_nothing(*arguments: object) -> None:
    pass


def listen(server: Server) -> tuple[str, int]:
    """Bind the address; returns the real one, which port 0 has left open. Raises OSError."""
    try:
        server.prepare()
    except OSError as error:
        raise server.bind_error or error from None  # Cheroot's own has no number, only a text of all that it tried
    host, port = server.bind_addr[:2]
    return str(host), int(port)


def serve_until_stopped(
    server: Server, *, on_hangup: Callable[[], None] = _do_nothing, on_stopping: Callable[[], None] = _do_nothing
) -> None:
    """Serve until `request_stop`; requests in flight finish first. `on_hangup` is called at each SIGHUP.

    Raises `Failed` when the server ends by itself, so that whoever watches the process starts it again.
    """
    accepting = threading.Thread(target=_accept, args=(server,), name="accept")
    accepting.start()
    while (signum := server.wait_for_stop()) == signal.SIGHUP:
        on_hangup()
    on_stopping()
    if signum:
        _log.info("stopping on %s", signal.Signals(signum).name)
    failure = server.interrupt
    server.stop()
    accepting.join()
    if failure is not None:
        raise Failed(f"the server failed: {failure!r}")


def _accept(server: Server) -> None:
    try:
        server.serve()
    except BaseException:
        _log.exception("the server failed")
    finally:
        server.request_stop()
