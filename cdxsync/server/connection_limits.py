"""Limits of connections: how many a process admits, in all and from each source."""

import logging
import resource
import threading
import time
from collections.abc import Iterable

from cdxsync.base import metrics
from cdxsync.base.settings import Settings
from cdxsync.security import addresses
from cdxsync.security.addresses import Network
from cdxsync.security.throttle import source_of

_SPARE_DESCRIPTORS = 256
"""Beside connections: the database, logs, calls to services outside."""
_LOG_AGAIN_SECONDS = 60.0
_log = logging.getLogger("cdxsync.server")


class ConnectionLimits:
    """Counts the connections of one process by source, an IPv4 address or an IPv6 /64. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_source: dict[str, int] = {}
        self._logged: dict[str, float] = {}
        self.total = 0
        self.set_limits(0, 0, ())

    def set_limits(self, in_all: int, per_source: int, exempt: Iterable[Network]) -> None:
        """Change the limits; 0 is none. Sources in the networks `exempt` count for the limit in all only."""
        self._in_all, self._per_source, self._exempt = in_all, per_source, tuple(exempt)

    def admit(self, peer: str) -> tuple[str, str]:
        """Count a connection of the address `peer`.

        Returns its source, for `release`, and the limit that it exceeds: "total", "ip", or "" for none.
        """
        try:
            address = addresses.parse(peer)
            source, exempt = source_of(address), addresses.is_trusted(address, self._exempt)
        except ValueError:
            source, exempt = peer, False
        with self._lock:
            count = self._by_source[source] = self._by_source.get(source, 0) + 1
            self.total += 1
            if self._per_source and count > self._per_source and not exempt:
                return source, "ip"
            return source, "total" if self._in_all and self.total > self._in_all else ""

    def release(self, source: str) -> None:
        """Count a connection of `source` less: it has been closed."""
        with self._lock:
            self.total -= 1
            self._by_source[source] -= 1
            if not self._by_source[source]:
                del self._by_source[source]

    def report_refusal(self, limit: str, source: str) -> None:
        """Count a connection that was closed because of the limit, and log that once a minute."""
        metrics.connections_refused.inc(limit)
        if time.monotonic() - self._logged.get(limit, -_LOG_AGAIN_SECONDS) < _LOG_AGAIN_SECONDS:
            return
        self._logged[limit] = time.monotonic()
        if limit == "ip":
            setting = f"max_connections_per_ip = {self._per_source}"
        else:
            setting = f"max_connections = {self._in_all}"
        _log.warning("closing connections of %s: limit reached (%s)", source, setting)


def apply(limits: ConnectionLimits, settings: Settings) -> None:
    """Set the limits of the settings; lower ones when the system does not let this process open enough files."""
    wanted = settings.max_connections + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError):  # a sandbox that does not let it
            most = soft
    in_all = settings.max_connections
    if most < wanted:
        in_all = max(16, most - _SPARE_DESCRIPTORS)
        _log.warning(
            "the system allows %d open files: max_connections is %d, not %d", most, in_all, settings.max_connections
        )
    limits.set_limits(in_all, settings.max_connections_per_ip, settings.trusted_proxies)
