"""TCP ports of loopback for servers that are about to start."""

import contextlib
import itertools
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

_FIRST = 10240
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _own_ports() -> Iterator[int]:
    """Ports below those that the kernel gives to clients, in turns; each process of a test run has others."""
    last = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 0
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = range(_FIRST + number, last, processes)
    if len(ports) < 1000:
        return iter(())
    begin = secrets.randbelow(len(ports))
    return itertools.cycle([*ports[begin:], *ports[:begin]])


_ports = _own_ports()


def free_port() -> int:
    """A port that nothing listens on, and that neither a client nor another test is given before the server has it."""
    for port in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
