"""Throttling: failed authentication by address, calls by host, and audit rows about both.

The counts are in a small SQLite file beside the database, which all processes of a server share. It is not durable and
need not be: after a crash counting starts at zero. Calls of known hosts are counted in memory and added to the file in
groups, as they are many.
"""

import contextlib
import ipaddress
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from cdxsync.base.sqlite import EndOfThread, use_wal
from cdxsync.security.addresses import Address

MAX_PENDING = 50
"""Calls of a host that a process counts on its own; at most a twentieth of the limit. A single process is exact."""
_MAX_WINDOWS = 20_000
_BUSY_TIMEOUT_SECONDS = 5.0
AUDIT_ROWS_PER_MINUTE = 60
"""About refused calls of callers that are not known, from all sources together."""
AUDIT_ROWS_OF_ONE = 10
"""About refused calls of one host or admin, or of one source that is none; for each reason it is one a minute."""
_LEFT_OUT = "left out/"
_LEFT_OUT_SECONDS = 86400
OTHERS = "others"

_log = logging.getLogger("cdxsync.security")


class _FileStorage(Storage):
    """Counters of `limits` in an SQLite file, shared by processes; each thread has its own connection."""

    STORAGE_SCHEME = ["cdxsync+file"]  # noqa: RUF012 - as the base class has it

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._local = threading.local()

    @property
    def base_exceptions(self) -> type[Exception]:
        """What its operations may raise."""
        return sqlite3.Error

    @property
    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._open()
            self._local.connection, self._local.end = connection, EndOfThread(connection)
        return connection

    def _open(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600, exist_ok=True)
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            use_wal(connection, _BUSY_TIMEOUT_SECONDS)
            connection.execute("PRAGMA synchronous = off")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS counters"
                " (name TEXT PRIMARY KEY, amount INTEGER NOT NULL, expires REAL NOT NULL) WITHOUT ROWID"
            )
            connection.execute("CREATE INDEX IF NOT EXISTS counters_expires ON counters (expires)")
        except BaseException:
            connection.close()
            raise
        return connection

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add to a counter, which starts at zero when it has expired; returns it."""
        now = time.time()
        row = self._connection.execute(
            "INSERT INTO counters VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET"
            # A counter that expires much later than a new one would was made before the clock was set back.
            " amount = CASE WHEN expires <= ?4 OR expires > ?3 + 5"
            " THEN excluded.amount ELSE amount + excluded.amount END,"
            " expires = CASE WHEN expires <= ?4 OR expires > ?3 + 5 THEN excluded.expires ELSE expires END"
            " RETURNING amount",
            (key, amount, now + expiry, now),
        ).fetchone()
        if row[0] == amount:
            self._connection.execute("DELETE FROM counters WHERE expires <= ?", (now,))
        return int(row[0])

    def _read(self, key: str) -> tuple[int, float]:
        now = time.time()
        row = self._connection.execute("SELECT amount, expires FROM counters WHERE name = ?", (key,)).fetchone()
        return (row[0], row[1]) if row is not None and row[1] > now else (0, now)

    def get(self, key: str) -> int:
        """A counter, 0 when it has expired."""
        return self._read(key)[0]

    def get_expiry(self, key: str) -> float:
        """When a counter expires, in seconds since the epoch."""
        return self._read(key)[1]

    def check(self) -> bool:
        """Whether the file can be used."""
        with contextlib.suppress(sqlite3.Error):
            return bool(self._connection.execute("SELECT 1").fetchone())
        return False

    def reset(self) -> int:
        """Delete all counters; returns how many there were."""
        return self._connection.execute("DELETE FROM counters").rowcount

    def take(self, prefix: str) -> dict[str, int]:
        """Delete the counters whose names begin so; returns them without that."""
        rows = self._connection.execute(
            "DELETE FROM counters WHERE substr(name, 1, ?) = ? RETURNING name, amount", (len(prefix), prefix)
        ).fetchall()
        return {str(name).removeprefix(prefix): int(amount) for name, amount in rows}

    def clear(self, key: str) -> None:
        """Delete a counter."""
        self._connection.execute("DELETE FROM counters WHERE name = ?", (key,))


def source_of(address: Address) -> str:
    """What counts as one source: an IPv4 address, or the /64 in which an IPv6 client chooses its address freely."""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


@dataclass
class _Window:
    """The calls of one host in its present minute, which ends at `until` of the monotonic clock."""

    until: float
    known: int
    """As last read from the file, those of this process included."""
    pending: int = 0
    """Those since."""


class _Calls:
    """Counts the calls of hosts."""

    def __init__(self, storage: _FileStorage, item: RateLimitItem) -> None:
        self._storage = storage
        self._item = item
        self._step = min(MAX_PENDING, max(1, item.amount // 20))
        self._windows: dict[str, _Window] = {}
        self._lock = threading.Lock()

    def hit(self, caller: str) -> float | None:
        """Count a call; seconds to wait when there were too many. Raises sqlite3.Error."""
        with self._lock:
            window = self._windows.get(caller)
            if window is not None and time.monotonic() < window.until:
                window.pending += 1
                if window.pending < self._step and window.known + window.pending <= self._item.amount:
                    return None
                pending, window.pending = window.pending, 0
            else:
                pending = 1
        key = self._item.key_for("called", caller)
        known = self._storage.incr(key, self._item.get_expiry(), pending)
        left = min(float(self._item.get_expiry()), self._storage.get_expiry(key) - time.time())
        with self._lock:
            if len(self._windows) >= _MAX_WINDOWS:
                self._windows.clear()
            self._windows[caller] = _Window(time.monotonic() + left, known)
        return left if known > self._item.amount else None


class Throttle:
    """The limits of one server; a limit of 0 is off.

    When the file cannot be used, nothing is throttled, and the log says so: hosts must keep getting their credentials.
    """

    def __init__(self, path: Path, *, failures_per_minute: int, calls_per_minute: int) -> None:
        storage = self._storage = _FileStorage(path)
        self._limiter = FixedWindowRateLimiter(storage)
        self._failures = RateLimitItemPerMinute(failures_per_minute) if failures_per_minute else None
        self._calls = _Calls(storage, RateLimitItemPerMinute(calls_per_minute)) if calls_per_minute else None
        self._audit_each = RateLimitItemPerMinute(1)
        self._audit_one = RateLimitItemPerMinute(AUDIT_ROWS_OF_ONE)
        self._audit_all = RateLimitItemPerMinute(AUDIT_ROWS_PER_MINUTE)

    def failed(self, address: Address) -> int | None:
        """Count a failed authentication; seconds to wait when this source had too many."""
        return self._hit(self._failures, "failed", source_of(address))

    def guessed(self, admin: str, address: Address) -> None:
        """Count a wrong admin key that came with an admin's certificate."""
        self._hit(self._failures, "guessed", admin, source_of(address))

    def guesses_left(self, admin: str, address: Address) -> int | None:
        """None while an admin key of this certificate and source may be looked at; else seconds to wait."""
        return self._wait_unless(self._limiter.test, self._failures, "guessed", admin, source_of(address))

    def called(self, host_id: int, refused_from: Address | None = None) -> int | None:
        """Count a call of a host; seconds to wait when there were too many.

        Calls that its address rule refuses count by their source, `refused_from`: they take nothing from the host.
        """
        if self._calls is None:
            return None
        caller = str(host_id) if refused_from is None else f"{host_id} {source_of(refused_from)}"
        try:
            wait = self._calls.hit(caller)
        except sqlite3.Error as error:
            _log.error("throttling is off: %s", error)
            return None
        return None if wait is None else max(1, round(wait))

    def may_audit(self, reason: str, source: str, caller: str = "") -> bool:
        """Whether an audit row about a refused call may be written; those without one are counted (`left_out`).

        One a minute for each reason, source and known caller. A `caller` that is known, so a host or an admin, has rows
        of its own: no flood of others, nor of calls from elsewhere, takes the first one of each minute from it.
        """
        who = f"{caller} from {source}" if caller else source
        if self._hit(self._audit_each, "audit", reason, source, caller) is not None:
            self._leave_out(who)
        elif self._hit(self._audit_one, "audit of", caller or source) is not None:
            self._leave_out(caller or source)
        elif not caller and self._hit(self._audit_all, "audit") is not None:
            self._leave_out(OTHERS)
        else:
            return True
        return False

    def _leave_out(self, who: str) -> None:
        try:
            self._storage.incr(_LEFT_OUT + who, _LEFT_OUT_SECONDS)
        except sqlite3.Error as error:
            _log.error("refused calls are not counted: %s", error)

    def left_out(self) -> dict[str, int]:
        """The refused calls without an audit row since the last time that this was asked, by who called."""
        try:
            return self._storage.take(_LEFT_OUT)
        except sqlite3.Error as error:
            _log.error("refused calls are not counted: %s", error)
            return {}

    def _hit(self, item: RateLimitItem | None, *identifiers: str) -> int | None:
        return self._wait_unless(self._limiter.hit, item, *identifiers)

    def _wait_unless(self, passes: Callable[..., bool], item: RateLimitItem | None, *identifiers: str) -> int | None:
        """None where `passes`, a method of the limiter, lets pass; else how many seconds there are to wait."""
        if item is None:
            return None
        try:
            if passes(item, *identifiers):
                return None
            stats: Any = self._limiter.get_window_stats(item, *identifiers)
        except sqlite3.Error as error:
            _log.error("throttling is off: %s", error)
            return None
        seconds: float = stats.reset_time - time.time()
        return max(1, round(seconds))
