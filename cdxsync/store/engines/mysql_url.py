"""The URL of a MySQL or MariaDB database, and connecting to it."""

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql
from pymysql.constants import CLIENT

from cdxsync.base.errors import SettingError
from cdxsync.store.engines.base import (
    BUSY_TIMEOUT_SECONDS,
    IN_CLEAR,
    UNNAMED,
    UNVERIFIED,
    Exposure,
    leaves_machine,
)
from cdxsync.store.engines.liveness import CONNECT_SECONDS, PATIENCE_SECONDS, SILENT
from cdxsync.store.engines.pool import is_silent

FORM = "mysql://USER:PASSWORD@HOST:PORT/NAME?ssl_mode=VERIFY_IDENTITY"
_REMEDY = "add ssl_mode=VERIFY_IDENTITY to database_url, and ssl_ca=FILE for a CA of your own"
_STALL_SECONDS = 30
"""How long an answer may pause once it has begun, and how long sending may block."""
_GONE = (2002, 2003, 2006, 2013)
_SSL_MODES = ("DISABLED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
_OPTIONS = ("ssl_mode", "ssl_ca", "ssl_cert", "ssl_key", "unix_socket")
_SESSION = (
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
    # For a table whose definition others change; the server's default is a day, or a year.
    f"SET SESSION lock_wait_timeout = {int(BUSY_TIMEOUT_SECONDS)}",
)
_KEEPALIVE = (
    # Detects a vanished server within half a minute.
    ("SO_KEEPALIVE", socket.SOL_SOCKET, 1),
    ("TCP_KEEPIDLE", socket.IPPROTO_TCP, 10),
    ("TCP_KEEPINTVL", socket.IPPROTO_TCP, 5),
    ("TCP_KEEPCNT", socket.IPPROTO_TCP, 3),
    ("TCP_USER_TIMEOUT", socket.IPPROTO_TCP, 15000),
    ("TCP_NODELAY", socket.IPPROTO_TCP, 1),
)


class Connection(pymysql.connections.Connection):
    """PyMySQL's, with `execute`; `used_at` is when it last was (monotonic).

    It gives up on a server that is silent and not `is_there`, and while connecting on a silent one.
    """

    used_at = 0.0
    is_there: Callable[[], bool] | None = None

    def is_silent(self) -> bool:
        """Whether nothing unexpected arrived: the end of the connection, or a server's last message."""
        return self.open and is_silent(self._sock.fileno())

    def execute(self, sql: str, parameters: Any = None) -> Any:
        """Run a statement; returns the cursor."""
        cursor = self.cursor()
        cursor.execute(sql, parameters or None)
        self.used_at = time.monotonic()
        return cursor

    @property
    def peer(self) -> str:
        """The address of the server; "" when it is a socket of this machine."""
        peer = self._sock.getpeername()
        return str(peer[0]) if isinstance(peer, tuple) else ""

    def _request_authentication(self) -> None:
        """Show who we are. PyMySQL before 1.2 goes on in clear when TLS is wanted and the server offers none."""
        if self.ssl and not self.server_capabilities & CLIENT.SSL:
            self._force_close()
            raise pymysql.OperationalError(2026, "TLS is wanted, and the server offers none")
        super()._request_authentication()

    def _execute_command(self, command: int, sql: Any) -> None:
        """Send a command and wait until its answer begins."""
        super()._execute_command(command, sql)
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        while not poll.poll(PATIENCE_SECONDS * 1000):
            if self.is_there is None or not self.is_there():
                self._force_close()
                raise pymysql.OperationalError(2013, SILENT)


@dataclass(frozen=True)
class Parameters:
    """Place of the database, and user."""

    user: str
    password: str = field(repr=False)
    host: str
    port: int
    database: str
    unix_socket: str = ""
    tls: ssl.SSLContext | None = None
    tls_is_chosen: bool = False

    @property
    def shown(self) -> str:
        """The URL without password and options."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mysql://{self.user}@{self.unix_socket or f'{host}:{self.port}'}/{self.database}"

    def connect(self, client_flag: int = 0, **more: Any) -> Connection:
        """A new connection that commits each statement, unless it begins a transaction. Raises PyMySQL's errors."""
        connection = Connection(
            user=self.user,
            password=self.password.encode(),  # of a text PyMySQL takes Latin-1
            host=self.host,
            port=self.port,
            database=self.database,
            unix_socket=self.unix_socket or None,
            ssl=self.tls,
            ssl_disabled=self.tls is None,
            charset="utf8mb4",
            autocommit=True,
            client_flag=CLIENT.FOUND_ROWS | client_flag,  # an UPDATE counts the rows that it finds, as other engines do
            connect_timeout=CONNECT_SECONDS,
            read_timeout=CONNECT_SECONDS,  # a stopped server accepts the connection, and then says nothing
            write_timeout=_STALL_SECONDS,
            program_name="cdxsync",
            defer_connect=True,
            **more,
        )
        connection.connect(None if self.unix_socket else self._socket())
        for statement in _SESSION:
            connection.execute(statement)
        connection._read_timeout = _STALL_SECONDS
        connection.is_there = self.takes_connections
        return connection

    def exposure(self, connection: Connection) -> Exposure | None:
        """How a connection can be read or altered on its way (`Engine.exposure`)."""
        if not leaves_machine(connection.peer) or (self.tls is not None and self.tls.check_hostname):
            return None
        if self.tls is None:
            return Exposure(IN_CLEAR, _REMEDY, "ssl_mode=DISABLED")
        verified = self.tls.verify_mode is not ssl.CERT_NONE
        return Exposure(UNNAMED if verified else UNVERIFIED, _REMEDY, "its ssl_mode")

    def takes_connections(self) -> bool:
        """Whether the server answers a new connection, be it with a refusal."""
        try:
            self.connect().close()
        except pymysql.Error as error:
            return error.args[0] not in _GONE if error.args else True
        return True

    def _socket(self) -> socket.socket:
        try:
            found = socket.create_connection((self.host, self.port), CONNECT_SECONDS)
        except OSError as error:
            raise pymysql.OperationalError(2003, f"cannot connect to {self.host}:{self.port}: {error}") from None
        for name, level, value in _KEEPALIVE:
            with contextlib.suppress(AttributeError, OSError):  # a system without it
                found.setsockopt(level, getattr(socket, name), value)
        return found


def read(url: str, name_of_it: str = "database_url") -> Parameters:
    """The parameters of a URL. Raises `SettingError` without anything of it that may be secret."""
    try:
        return _read(url)
    except ValueError as error:
        raise SettingError(f"{name_of_it}: {error}") from None


def _read(url: str) -> Parameters:
    try:
        parts = urlsplit(url)
        port = parts.port or 3306
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError(f"not a URL; write {FORM}, with %-codes for special characters") from None
    if parts.scheme not in ("mysql", "mariadb"):
        raise ValueError(f"not a URL of MySQL; write {FORM}")
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise ValueError(f"no option {unknown[0]!r}; use {', '.join(_OPTIONS)}")
    name = unquote(parts.path.removeprefix("/"))
    if not name or "/" in name:
        raise ValueError(f"the name of the database is missing; write {FORM}")
    if parts.fragment or not (parts.hostname or options.get("unix_socket")):
        raise ValueError(f"the host is missing; write {FORM}, with %-codes for special characters")
    return Parameters(
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        host=parts.hostname or "localhost",
        port=port,
        database=name,
        unix_socket=options.get("unix_socket", ""),
        tls=_tls(options),
        tls_is_chosen=any(name.startswith("ssl_") for name in options),
    )


def _tls(options: dict[str, str]) -> ssl.SSLContext | None:
    files = {name: value for name, value in options.items() if name in ("ssl_ca", "ssl_cert", "ssl_key")}
    mode = options.get("ssl_mode", "VERIFY_IDENTITY" if files else "DISABLED").upper()
    if mode not in _SSL_MODES:
        raise ValueError(f"ssl_mode must be one of {', '.join(_SSL_MODES)}")
    if mode == "DISABLED":
        return None
    try:
        context = ssl.create_default_context(cafile=files.get("ssl_ca"))
        if "ssl_cert" in files:
            context.load_cert_chain(files["ssl_cert"], files.get("ssl_key"))
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"a file of ssl_ca, ssl_cert, ssl_key cannot be used: {error}") from None
    context.check_hostname = mode == "VERIFY_IDENTITY"
    if mode == "REQUIRED":
        context.verify_mode = ssl.CERT_NONE
    return context
