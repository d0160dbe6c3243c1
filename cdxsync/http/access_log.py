"""The access log: a line on standard error for each request. Nothing in it is secret, and no query is in it."""

import contextlib
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote

import msgspec

from cdxsync.domain import clock

GATHER_SECONDS = 0.05
"""How long lines are gathered, as each write of its own would make requests wait for each other."""
MAX_WAITING = 20_000
"""Lines that wait for who reads standard error; more are left out, and their number is told."""
_PIECE_BYTES = 4096  # what a pipe takes as one, so that processes do not mix their lines
_MAX_PATH = 200
_LEFT_OUT = "…"
_SECRET = re.compile(r"(?:cdx_)?[0-9A-Fa-f]{64}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def public_path(path: str) -> str:
    """A path for logs: without installers' tokens, which are secrets while they live, and what looks like a key."""
    return f"/install/{_LEFT_OUT}" if path.startswith("/install/") else _SECRET.sub(_LEFT_OUT, path)[:_MAX_PATH]


@lru_cache(maxsize=1024)
def _quoted_path(path: str) -> str:
    return quote(public_path(path), safe="/:@").replace(quote(_LEFT_OUT), _LEFT_OUT)


@lru_cache(maxsize=1024)
def _quoted_actor(actor: str) -> str:
    return quote(actor, safe=":/=#@,")


class _Sink:
    """Lines on their way to standard error, of one process."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._left_out = 0
        self._there = threading.Event()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, line: bytes) -> None:
        """Add a line; waits for nobody."""
        if len(self._lines) >= MAX_WAITING:
            self._left_out += 1
            return
        self._lines.append(line)
        if not self._there.is_set():
            self._there.set()
            if self._thread is None:
                self._begin()

    def _begin(self) -> None:
        with self._writing:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="access log", daemon=True)
                self._thread.start()

    def _serve(self) -> None:
        while True:
            self._there.wait()
            time.sleep(GATHER_SECONDS)
            self.flush()

    def flush(self) -> None:
        """Write what there is."""
        with self._writing:
            self._there.clear()
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            left_out, self._left_out = self._left_out, 0
            if left_out:
                lines.append(b"access log: %d lines were left out, as nobody took them\n" % left_out)
            with contextlib.suppress(OSError):  # nobody reads it; requests go on
                for piece in _pieces(lines):
                    os.write(sys.stderr.fileno(), piece)


def _pieces(lines: list[bytes]) -> Iterator[bytes]:
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > _PIECE_BYTES:
            yield piece
            piece = b""
        piece += line
    if piece:
        yield piece


_sink = _Sink()
flush = _sink.flush
"""Write what is still on its way, when the process ends."""


class Entry(msgspec.Struct):
    """What is told of a request. `bytes` are those of the answer's body; `actor` is None for who has proved nothing."""

    time: str
    request_id: str
    client: str
    actor: str | None
    method: str
    path: str
    status: int
    bytes: int
    duration_ms: float


class AccessLog:
    """Off, `plain` (time, client, actor or -, method, path, status, bytes, milliseconds, id) or `json` (an `Entry`)."""

    def __init__(self, form: str) -> None:
        self.is_on = form != "off"
        self._as_json = form == "json"

    def write(
        self,
        *,
        request_id: str,
        client: str,
        actor: str | None,
        method: str,
        path: str,
        status: int,
        size: int,
        seconds: float,
    ) -> None:
        """Add a line."""
        if not self.is_on:
            return
        at, took = clock.now().isoformat(timespec="milliseconds"), round(seconds * 1000, 2)
        if self._as_json:
            entry = Entry(at, request_id, client, actor, method, public_path(path), status, size, took)
            _sink.put(msgspec.json.encode(entry) + b"\n")
            return
        # Quoted, a path or a subject has no blank or line end, so the fields stay apart.
        who = _quoted_actor(actor) if actor else "-"
        line = f"{at} {client} {who} {method} {_quoted_path(path)} {status} {size} {took}ms {request_id}\n"
        _sink.put(line.encode())
