"""TCP ports of loopback for servers that are about to start."""

import contextlib
import secrets
import socket
from pathlib import Path

_FIRST = 10240
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port that nothing listens on, and that no client is given before the server has it.

    The kernel gives clients ports of a range of its own: this one is below. Two processes that ask at the same time are
    unlikely to be given the same.
    """
    last = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 0
    while last - _FIRST > 1000:
        port = _FIRST + secrets.randbelow(last - _FIRST)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
