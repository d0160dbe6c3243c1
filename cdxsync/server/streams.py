"""The bytes from and to a client as buffered files, over a plain socket as well as over TLS.

The sockets do not block. Reading waits for the client, within a time limit. Writing never waits: what a client does not
take stays in the writer until the selector reports that it can go on.
"""

import errno
import io
import select
import socket
import ssl
import threading
import time
from typing import Any

from cdxsync.server.cheroot_internals import READ_TIMED_OUT, BytesReader, BytesWriter

_SEND_BYTES = 64 * 1024
_LEAST_BYTES_PER_SECOND = 8192


class _Tally:
    """How many threads are within a `with` block of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def __enter__(self) -> None:
        with self._lock:
            self.count += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self.count -= 1


_slow_clients = _Tally()


def slow_clients() -> int:
    """How many threads of the process wait for a client that sends a body slowly."""
    return _slow_clients.count


def ready_before(sock: socket.socket, events: int, end: float) -> bool:
    """Wait for `events` (of `select.poll`) until `time.monotonic()` is `end`; whether one has come."""
    poll = select.poll()
    poll.register(sock.fileno(), events)
    return bool(poll.poll(max(0.0, end - time.monotonic()) * 1000))


class _SocketIO(socket.SocketIO):
    """A socket that does not block as a file, in which a client that went away always looks the same.

    Cheroot tells errors apart by their number, and those of TLS count from 1 again: it would log each as unknown.
    """

    patience = 0.0
    """How many seconds reading waits for a client that sends nothing."""
    deadline = 0.0
    """Until when (`time.monotonic()`) it waits. What comes puts that off: who sends fast enough may send long."""

    def readinto(self, buffer: Any) -> int:
        while True:
            try:
                count = super().readinto(buffer)
            except ssl.SSLWantReadError:
                count = None
            except OSError as error:
                raise ConnectionResetError(errno.ECONNRESET, str(error)) from error
            if count is not None:
                self.deadline = min(self.deadline + count / _LEAST_BYTES_PER_SECOND, time.monotonic() + self.patience)
                return count
            with _slow_clients:
                ready = ready_before(self._sock, select.POLLIN, self.deadline)  # type: ignore[attr-defined]
            if not ready:
                raise TimeoutError(READ_TIMED_OUT)

    def write(self, data: Any) -> int | None:
        try:
            return super().write(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return None
        except OSError as error:
            raise ConnectionResetError(errno.ECONNRESET, str(error)) from error


class Reader(BytesReader):
    """The bytes of a client, buffered."""

    def __init__(self, sock: Any, bufsize: int) -> None:
        self._socket_file = _SocketIO(sock, "rb")
        super().__init__(self._socket_file, bufsize)

    def be_patient(self, seconds: float) -> None:
        """Let reading wait `seconds` from now, a little longer for what has come, and then raise TimeoutError."""
        self._socket_file.patience = seconds
        self._socket_file.deadline = time.monotonic() + seconds


class Writer(BytesWriter):
    """The bytes to a client, buffered: writing and flushing send what the client takes at once."""

    held = False
    """Whether what is written waits for the next write or flush: headers and body in one packet cost half."""

    def __init__(self, sock: Any, bufsize: int) -> None:
        super().__init__(_SocketIO(sock, "wb"), bufsize)

    def has_unsent(self) -> bool:
        """Whether the client has not taken everything."""
        return bool(self.unsent)

    def discard(self) -> None:
        """Forget what could not be sent; else it would be tried again when this is collected."""
        del self.unsent[:]

    def send(self) -> None:
        """Send what the client takes at once, unless it is held."""
        if self.held:
            return
        unsent = self.unsent
        while unsent:
            try:
                sent = self.raw.write(bytes(unsent[:_SEND_BYTES]))
            except OSError:
                self.discard()
                raise
            if sent is None:
                return
            del unsent[:sent]


def make_file(sock: Any, mode: str = "r", bufsize: int = io.DEFAULT_BUFFER_SIZE) -> Reader | Writer:
    """Buffered reading or writing over `sock`."""
    return Reader(sock, bufsize) if "r" in mode else Writer(sock, bufsize)
