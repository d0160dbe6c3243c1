"""Where audit rows are sent: appended to a file, a line of JSON each, or to syslog."""

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from cdxsync.base.settings import Settings

TIMEOUT_SECONDS = 5.0
_PRIORITY = 86
"""Facility authpriv (10), severity info (6)."""


class Sink(Protocol):
    """A place for audit rows. Whoever sends tries again what failed, so a row may arrive twice."""

    name: str

    def send(self, rows: Iterable[dict[str, Any]]) -> None:
        """Send rows, in order. Raises `OSError`."""

    def close(self) -> None:
        """Close what is open."""


def of(settings: Settings) -> list[Sink]:
    """The sinks of the settings."""
    found: list[Sink] = []
    if settings.audit_file is not None:
        found.append(FileSink(settings.audit_file))
    if settings.audit_syslog:
        found.append(SyslogSink(settings.audit_syslog))
    return found


def _encode(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")


class FileSink:
    """A file, 0600, opened for each batch: whoever rotates it need not tell us. On disk before it counts as sent."""

    def __init__(self, path: Path) -> None:
        self.name = f"file {path}"
        self._path = path

    def send(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append a line for each row."""
        text = b"".join(_encode(row) + b"\n" for row in rows)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        descriptor = os.open(self._path, flags, 0o600)
        try:
            end = os.lseek(descriptor, 0, os.SEEK_END)
            if end and os.pread(descriptor, 1, end - 1) != b"\n":  # the disk was full in the middle of a line
                text = b"\n" + text
            while text:
                text = text[os.write(descriptor, text) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Nothing is open."""


class SyslogSink:
    """A socket of this machine, by its path, or TCP to `HOST:PORT` (RFC 5424 in frames of RFC 6587)."""

    def __init__(self, target: str) -> None:
        self.name = f"syslog {target}"
        self._target = target
        self._socket: socket.socket | None = None
        self._is_local = target.startswith("/")

    def send(self, rows: Iterable[dict[str, Any]]) -> None:
        """Send a message for each row."""
        try:
            connection = self._connected()
            for row in rows:
                self._send_one(connection, row)
        except OSError:
            self.close()
            raise

    def _connected(self) -> socket.socket:
        if self._socket is not None and not self._is_closed(self._socket):
            return self._socket
        self.close()
        if not self._is_local:
            host, _, port = self._target.rpartition(":")
            self._socket = socket.create_connection((host.strip("[]"), int(port)), TIMEOUT_SECONDS)
            return self._socket
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            connection = socket.socket(socket.AF_UNIX, kind)
            connection.settimeout(TIMEOUT_SECONDS)
            try:
                connection.connect(self._target)
            except OSError as error:
                connection.close()
                if error.errno == errno.EPROTOTYPE and kind is socket.SOCK_DGRAM:
                    continue
                raise
            self._socket = connection
            break
        assert self._socket is not None, "the last kind connects or raises"
        return self._socket

    def _is_closed(self, connection: socket.socket) -> bool:
        """Whether the other side has closed: what is sent then is lost without an error."""
        if connection.type is socket.SOCK_DGRAM:
            return False
        try:
            return connection.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _send_one(self, connection: socket.socket, row: dict[str, Any]) -> None:
        try:
            connection.sendall(self._message(connection, row))
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            connection.sendall(self._message(connection, row | {"details": "too long for this socket"}))

    def _message(self, connection: socket.socket, row: dict[str, Any]) -> bytes:
        text = _encode(row)
        if self._is_local:
            end = b"\n" if connection.type is socket.SOCK_STREAM else b""
            return f"<{_PRIORITY}>cdxsync[{os.getpid()}]: ".encode() + text + end
        head = f"<{_PRIORITY}>1 {row['created_at']} {socket.gethostname()} cdxsync {os.getpid()} audit - ".encode()
        return str(len(head) + len(text)).encode() + b" " + head + text

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None
