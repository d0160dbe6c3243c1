"""Cheroot's internals behind names of our own: the only module that touches them.

Cheroot has no hooks for what this server needs (sockets that do not block, connections that wait in the selector, a
bounded end), so its classes are extended from inside. An override of a method that is gone would do nothing, silently,
and with it a check of the server would be gone. Therefore `RELIED_ON` lists each name with what is expected of it,
`setup.cfg` admits only the versions of Cheroot that the tests ran with, and a test looks for each name in the one that
is installed. (11.1.1 is not among them: on Python before 3.13 its `stop` leaves a thread that never ends.)

To take in a new version: read its changes to the names in `RELIED_ON`, run the tests of the server with it, and widen
the range in `setup.cfg`.
"""

import _pyio  # type: ignore[import-not-found]  # what Cheroot's files are made of; typeshed has no stubs
import re
from collections.abc import Iterable
from typing import Any

from cheroot import connections, makefile, server, wsgi
from cheroot.errors import FatalSSLAlert
from cheroot.server import HTTPConnection, HTTPRequest, KnownLengthRFile
from cheroot.ssl import Adapter
from cheroot.workers import threadpool

__all__ = [
    "READ_TIMED_OUT",
    "RELIED_ON",
    "Adapter",
    "BytesReader",
    "BytesWriter",
    "ChunkedBody",
    "ConnectionManager",
    "FatalSSLAlert",
    "HTTPConnection",
    "HTTPRequest",
    "HTTPServer",
    "KnownLengthRFile",
    "WorkerPool",
]

READ_TIMED_OUT = "timed out"
"""`HTTPConnection.communicate` answers an OSError whose first argument is this text with 408."""

RELIED_ON: dict[type, dict[str, str]] = {
    server.HTTPServer: {
        "ConnectionClass": "made by `_from_server_socket` of server, socket and `makefile`",
        "_connections": "the connection manager: made by `prepare`, run by `serve`, stopped and closed by `stop`",
        "bind": "called by `prepare` for each address, sets `socket`",
        "bind_addr": "the address that is listened on",
        "error_log": "called for all that Cheroot has to say",
        "interrupt": "the exception that ended a worker, and with it `serve`",
        "keep_alive_conn_limit": "None is no limit",
        "max_request_header_size": "the limit of a request's head",
        "prepare": "binds, makes the connection manager, starts the workers, sets `ready`",
        "prepare_socket": "makes a socket for an address, not bound",
        "process_conn": "queues a connection for a worker",
        "put_conn": "called by a worker with a connection that stays open; drops it when the server is not ready",
        "ready": "whether the server takes requests",
        "resolve_real_bind_addr": "the address of a bound socket",
        "ssl_adapter": "wraps accepted sockets",
    },
    connections.ConnectionManager: {
        "_from_server_socket": "accepts and wraps one connection; None when the client has gone; OSError else",
        "_remove_invalid_sockets": "closes connections whose descriptors are not open any more",
        "_run": "the loop of the thread that accepts, called by `run` alone",
        "_selector": "holds the listening socket with the server as data, and waiting connections",
        "_stop_requested": "set by `stop` alone",
        "close": "called by `HTTPServer.stop` when the loop has ended, before the workers end",
        "put": "called by `put_conn`",
        "stop": "called by `HTTPServer.stop` first, returns when the loop has ended",
    },
    connections._ThreadsafeSelector: {
        "close": "closes the selector",
        "connections": "pairs of descriptor and data",
        "register": "takes descriptor, events and data",
        "select": "pairs of descriptor and data that are ready",
        "unregister": "takes a descriptor; KeyError for one that is not there",
    },
    threadpool.ThreadPool: {
        "_clear_dead_threads": "removes ended threads from `_threads`, each with one of `_pending_shutdowns`",
        "_clear_threads": "empties `_threads`, and yields them except the calling one",
        "_pending_shutdowns": "one item for each thread that `shrink` has told to end and that has not ended",
        "_queue": "where workers take connections, and `_SHUTDOWNREQUEST` as the wish that one of them ends",
        "_spawn_worker": "called by `grow` for each new thread, returns it started",
        "_threads": "the list of the threads",
        "stop": "called by `HTTPServer.stop` last",
    },
    threadpool.WorkerThread: {
        "conn": "the connection that is worked on, or None",
    },
    server.HTTPConnection: {
        "RequestHandlerClass": "made for each request by `communicate`",
        "close": "called for each connection once, by who has it then",
        "communicate": "called by a worker: serves one request; whether the connection stays open",
        "last_used": "time of the last use, set and read by the connection manager alone",
        "remote_addr": "the client's address",
        "ssl_env": "goes into the WSGI environment of each request",
    },
    server.HTTPRequest: {
        "header_reader": "called by `read_request_headers` with file and dictionary; ValueError is answered with 400",
        "parse_request": "called by `communicate` before `respond`; sets `ready` when the head is good",
        "read_request_headers": "reads the headers and decides on the framing; False when it has answered",
        "read_request_line": "reads the request line; False when it has answered",
        "respond": "called by `communicate` when `ready`",
        "send_headers": "called once before the body, by `ensure_headers_sent` and the gateway",
        "simple_response": "called for each answer of the server itself, before the application sees a request",
        "write": "called by the gateway for each part of the body",
    },
    server.ChunkedRFile: {
        "_fetch": "called by all that reads when `buffer` is used up, until `closed`",
        "read": "called by the application; takes from `buffer`, and fetches when it is used up",
    },
    makefile.StreamReader: {
        "_read_buf": "what has been received (io.BufferedReader of _pyio)",
        "_read_pos": "how much of `_read_buf` has been read",
        "has_data": "whether `_read_buf` has more",
    },
    makefile.StreamWriter: {
        "_flush_unlocked": "called by `write` and `flush`, holding the lock of writing",
        "_write_buf": "what has not been sent (io.BufferedWriter of _pyio)",
    },
    Adapter: {
        "bind": "called with the listening socket, returns it",
        "get_environ": "what TLS adds to the WSGI environment",
        "makefile": "a file over a wrapped socket",
        "wrap": "called by `_from_server_socket`; FatalSSLAlert drops the client without a message",
    },
}
"""By class of Cheroot: the names that this server calls, sets or overrides, and what is expected of each."""


class BytesReader(makefile.StreamReader):
    """The bytes of a client, buffered, over the raw file `raw`."""

    def __init__(self, raw: Any, size: int) -> None:
        _pyio.BufferedReader.__init__(self, raw, size)  # Cheroot's own makes a raw file that blocks
        self.bytes_read = 0
        self.looked_at = 0

    def buffered(self) -> int:
        """How many bytes have been received and not read yet."""
        return len(self._read_buf) - self._read_pos

    def unread(self) -> bytes:
        """Those bytes."""
        return bytes(self._read_buf[self._read_pos :])

    def holds(self, pattern: re.Pattern[bytes]) -> bool:
        """Whether `pattern`, of up to 4 bytes, is among them. Where it has looked in vain it does not look again."""
        start = self._read_pos + max(0, self.looked_at - 3)
        found = pattern.search(self._read_buf, start) is not None
        self.looked_at = 0 if found else self.buffered()
        return found

    def skip(self, count: int) -> None:
        """Count that many of them as read."""
        self._read_pos += count
        self.looked_at = 0

    def feed(self, data: bytes) -> None:
        """Add what has been received elsewhere."""
        self._read_buf, self._read_pos = self.unread() + data, 0


class BytesWriter(makefile.StreamWriter):
    """The bytes to a client, buffered, over the raw file `raw`; `send` decides what goes out."""

    def __init__(self, raw: Any, size: int) -> None:
        _pyio.BufferedWriter.__init__(self, raw, size)
        self.bytes_written = 0

    @property
    def unsent(self) -> bytearray:
        """What has been written and not sent; `send` takes from its beginning."""
        buffer: bytearray = self._write_buf
        return buffer

    def send(self) -> None:
        """Send of `unsent` what can be sent. Called after each write, and to flush."""
        raise NotImplementedError

    def _flush_unlocked(self) -> None:
        self.send()


class ChunkedBody(server.ChunkedRFile):
    """A chunked body; `fetch` adds more of it to `buffer`, or sets `closed` at its end."""

    def fetch(self) -> None:
        """Called when the buffer is used up."""
        raise NotImplementedError

    def _fetch(self) -> None:
        self.fetch()


class ConnectionManager(connections.ConnectionManager):
    """The connections that wait for their clients; `loop` runs in the thread that accepts."""

    def loop(self, interval: float) -> None:
        """Accept connections and give those that are ready to workers, until `is_stopping`."""
        raise NotImplementedError

    def _run(self, expiration_interval: float) -> None:
        self.loop(expiration_interval)

    @property
    def is_stopping(self) -> bool:
        """Whether the loop is to end."""
        return bool(self._stop_requested)

    def ask_to_stop(self) -> None:
        """Make `is_stopping` true; `stop` does that too, and waits until the loop has ended."""
        self._stop_requested = True

    def watch(self, descriptor: int, events: int, owner: Any) -> None:
        """Let `select` report `descriptor` with its owner: a connection, or the server for what is the server's."""
        self._selector.register(descriptor, events, data=owner)

    def unwatch(self, descriptor: int) -> None:
        """Take it out. KeyError when it is not there."""
        self._selector.unregister(descriptor)

    def select(self, seconds: float) -> Iterable[tuple[int, Any]]:
        """The descriptors that are ready, with their owners. OSError when one of them has been closed."""
        ready: Iterable[tuple[int, Any]] = self._selector.select(seconds)
        return ready

    def waiting(self) -> list[tuple[int, Any]]:
        """The connections that wait, with their descriptors."""
        return [item for item in self._selector.connections if item[1] is not self.server]

    def accept(self) -> Any:
        """A new connection; None when its client has gone already. OSError when there is no room for one."""
        return self._from_server_socket(self.server.socket)

    def remove_closed_sockets(self) -> None:
        """Close the connections whose descriptors are not open any more."""
        self._remove_invalid_sockets()

    def close_selector(self) -> None:
        """Close the selector, and leave the connections alone."""
        self._selector.close()


class WorkerPool(threadpool.ThreadPool):
    """Worker threads that the end of the process does not wait for."""

    def _spawn_worker(self) -> threadpool.WorkerThread:
        worker = threadpool.WorkerThread(self.server)
        worker.daemon = True
        worker.start()
        return worker

    @property
    def size(self) -> int:
        """How many threads there are, with those that are to end."""
        return len(self._threads)

    def staying(self) -> int:
        """How many threads live and have not been told to end."""
        self._clear_dead_threads()
        return len(self._threads) - len(self._pending_shutdowns)

    def add(self, count: int) -> None:
        """Start that many more threads; unlike `grow` this waits for none of them."""
        self._threads.extend(self._spawn_worker() for _ in range(count))

    def shrink_to(self, count: int) -> None:
        """Tell as many threads to end as there are above `count`, each when it has nothing to do."""
        self.shrink(self.size - count)

    def end_all(self) -> list[threadpool.WorkerThread]:
        """Tell all threads to end after what is queued already; returns them, except the calling one."""
        for _ in self._threads:
            self._queue.put(threadpool._SHUTDOWNREQUEST)
        return list(self._clear_threads())


class HTTPServer(wsgi.Server):
    """Cheroot's WSGI server, with a connection manager of ours."""

    def make_connection_manager(self) -> ConnectionManager:
        """The connection manager; called when the socket is bound."""
        raise NotImplementedError

    @property
    def manager(self) -> ConnectionManager:
        """The connection manager of a server that is prepared."""
        manager: ConnectionManager = self._connections
        return manager

    def prepare(self) -> None:
        """Bind, and start the workers. Raises OSError."""
        super().prepare()
        self._connections._selector.close()
        self._connections = self.make_connection_manager()
