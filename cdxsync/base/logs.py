"""Standard error of a server: one queue, which one thread empties.

Whoever reads it may be slow, or hang for good: a full pipe makes a write wait, and with it every thread that wants to
log. So only the thread of this module waits for the reader. What does not fit into the queue is left out,
counted, and told when the reader goes on.

    with log_lines.queued():      # around a server: sys.stderr, and with it the log, goes through the queue
        ...
    log_lines.put(line)           # a line that may wait a moment for others, as those of the access log
"""

import contextlib
import io
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Iterator

from cdxsync.base import metrics

GATHER_SECONDS = 0.05
"""How long lines of `put` are gathered: single writes would make requests wait for each other."""
MAX_WAITING = 20_000
"""Limit of lines that wait for the reader of standard error; further lines are dropped and counted."""
DRAIN_SECONDS = 2.0
"""How long a process that ends waits for the reader of standard error."""
_PIECE_BYTES = 4096  # what a pipe accepts in one piece, so that processes do not mix their lines


class _Queue:
    """The lines of one process on their way to standard error, in order."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start empty, after a fork: the parent has the thread, and writes what waits."""
        self._lines: deque[bytes | threading.Event] = deque()
        self._left_out = 0
        self._counting, self._beginning = threading.Lock(), threading.Lock()
        self._there, self._hurry = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, line: bytes, *, at_once: bool = False) -> None:
        """Add a line, or several; never waits. `at_once`: without gathering others."""
        if len(self._lines) >= MAX_WAITING:
            self._leave_out(line.count(b"\n"))
            return
        self._add(line, at_once)

    def drain(self, seconds: float) -> bool:
        """Wait, at most so long, until all lines of now are written; returns whether they are."""
        if self._thread is None:
            return True
        done = threading.Event()
        self._add(done, True)
        return done.wait(seconds)

    def _add(self, item: bytes | threading.Event, at_once: bool) -> None:
        self._lines.append(item)
        if at_once:
            self._hurry.set()
        if not self._there.is_set():
            self._there.set()
            if self._thread is None:
                self._begin()

    def _begin(self) -> None:
        with self._beginning:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="log lines", daemon=True)
                self._thread.start()

    def _leave_out(self, lines: int) -> None:
        with self._counting:
            self._left_out += lines
        metrics.log_lines_left_out.inc(amount=lines)

    def _serve(self) -> None:
        while True:
            self._there.wait()
            self._hurry.wait(GATHER_SECONDS)
            self._hurry.clear()
            self._there.clear()
            self._write_all()

    def _write_all(self) -> None:
        lines: list[bytes] = []
        for _ in range(len(self._lines)):
            item = self._lines.popleft()
            if isinstance(item, bytes):
                lines.append(item)
                continue
            self._write(lines)
            lines = []
            item.set()
        self._write(lines)

    def _write(self, lines: list[bytes]) -> None:
        for piece in _pieces(lines):
            try:
                _write_whole(piece)
            except OSError:  # the reader has gone, or the disk is full; requests go on
                self._leave_out(piece.count(b"\n"))
        with self._counting:
            left_out, self._left_out = self._left_out, 0
        if left_out:
            try:
                _write_whole(b"log: %d lines dropped: standard error was not read fast enough\n" % left_out)
            except OSError:
                with self._counting:
                    self._left_out += left_out


def _write_whole(piece: bytes) -> None:
    descriptor = sys.stderr.fileno()
    while piece:
        try:
            piece = piece[os.write(descriptor, piece) :]
        except BlockingIOError:  # a program that shares standard error may have made it so
            select.select([], [descriptor], [])


def _pieces(lines: list[bytes]) -> Iterator[bytes]:
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > _PIECE_BYTES:
            yield piece
            piece = b""
        piece += line
    if piece:
        yield piece


class _ToQueue(io.RawIOBase):
    """Standard error whose writes go into the queue, at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: object) -> int:
        line = bytes(data)  # type: ignore[call-overload]
        _queue.put(line, at_once=True)
        return len(line)


_queue = _Queue()
os.register_at_fork(after_in_child=_queue.reset)
put = _queue.put


def drain() -> None:
    """Write what is still queued, when a process ends; what is not read within `DRAIN_SECONDS` is lost.

    After that standard error leads nowhere: later writes would wait for ever.
    """
    if _queue.drain(DRAIN_SECONDS):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stderr.fileno())
    os.close(nowhere)


@contextlib.contextmanager
def queued() -> Iterator[None]:
    """Send all writes to `sys.stderr` through the queue; at the end the rest is written, or dropped."""
    real = sys.stderr
    raw = _ToQueue(real.fileno())
    sys.stderr = io.TextIOWrapper(raw, real.encoding, errors="backslashreplace", line_buffering=True)
    try:
        yield
    finally:
        sys.stderr.flush()
        drain()
        sys.stderr = real
