"""How many connections a process holds, from each address and in all, and whether there is room for one more."""

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
_SAY_AGAIN_SECONDS = 60.0
_log = logging.getLogger("cdxsync.server")


class Census:
    """The connections of one process, by source: an IPv4 address, or an IPv6 /64. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_source: dict[str, int] = {}
        self._said: dict[str, float] = {}
        self.total = 0
        self.set_limits(0, 0, ())

    def set_limits(self, in_all: int, per_source: int, exempt: Iterable[Network]) -> None:
        """Change the limits, 0 is none; sources in the networks `exempt` count in all only."""
        self._in_all, self._per_source, self._exempt = in_all, per_source, tuple(exempt)

    def take_in(self, peer: str) -> tuple[str, str]:
        """Count a connection of the address `peer`.

        Returns its source, for `leave`, and the limit that it is above: "total", "ip", or "" for none.
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

    def leave(self, source: str) -> None:
        """Count a connection out again."""
        with self._lock:
            self.total -= 1
            self._by_source[source] -= 1
            if not self._by_source[source]:
                del self._by_source[source]

    def refused(self, limit: str, source: str) -> None:
        """Tell of a connection that was closed for the limit: count it, and log it once a minute."""
        metrics.connections_refused.inc(limit)
        if time.monotonic() - self._said.get(limit, -_SAY_AGAIN_SECONDS) < _SAY_AGAIN_SECONDS:
            return
        self._said[limit] = time.monotonic()
        if limit == "ip":
            setting = f"max_connections_per_ip = {self._per_source}"
        else:
            setting = f"max_connections = {self._in_all}"
        _log.warning("closing connections of %s: the limit is reached (%s)", source, setting)


def apply(census: Census, settings: Settings) -> None:
    """Set the limits as the settings have them, as far as the system lets this process open descriptors."""
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
    census.set_limits(in_all, settings.max_connections_per_ip, settings.trusted_proxies)
