"""What a server of several processes is made of: forks, and listening sockets that share a port."""

import contextlib
import errno
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable

from cdxsync.base import logs
from cdxsync.base.errors import CdxsyncError, Failed
from cdxsync.base.settings import Listen
from cdxsync.server import httpd

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_ADDRESS_SECONDS = 3.0


def fork(work: Callable[[], None]) -> int:
    """Do `work` in a new process; returns its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    process = os.fork()
    if process:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return process
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it can reload; what it reads now is new
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        work()
        code = 0
    except CdxsyncError as error:
        sys.stderr.write(f"cdxsync: {error.explain()}\n")
        code = error.exit_code
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
            logs.drain()
        os._exit(code)


def find_address(address: tuple[str, int]) -> tuple[str, int]:
    """The address of the listening sockets, with a port when it has none. Raises OSError.

    Another server on it is seen here alone: sockets that share a port would share it with that one too.
    """
    end = time.monotonic() + _ADDRESS_SECONDS
    while True:
        try:
            probe = bind(address, shared=False)
            break
        except OSError as error:
            # Workers of a supervisor that was killed need a moment to see that.
            if error.errno != errno.EADDRINUSE or time.monotonic() > end:
                raise
            time.sleep(0.1)
    with probe:
        return str(address[0]), int(probe.getsockname()[1])


def bind(address: tuple[str, int], *, shared: bool = True) -> socket.socket:
    """A socket bound to the address, which others of this user may share. Raises OSError."""
    problem: OSError | None = None
    for family, kind, proto, _, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
        sock: socket.socket = httpd.Server.prepare_socket(place, family, kind, proto, True, None)
        try:
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(place)
            return sock
        except OSError as error:
            sock.close()
            problem = error
    raise problem or OSError(errno.EADDRNOTAVAIL, f"{Listen(*address)} is no address")


def cannot_listen(listen: Listen, error: OSError) -> Failed:
    """Why a server cannot listen there, and what to do."""
    advice = {
        errno.EADDRINUSE: "another server has that port: stop it, or choose one with --listen HOST:PORT",
        errno.EACCES: "ports below 1024 are for root and for services that have CAP_NET_BIND_SERVICE",
        errno.EADDRNOTAVAIL: "this machine has no such address: choose one of its own with --listen HOST:PORT",
    }.get(error.errno or 0)
    return Failed(
        f"cannot listen on {listen}: {error.strerror or error}" + (f"; {advice}" if advice else ""),
        code="listen_failed",
    )
