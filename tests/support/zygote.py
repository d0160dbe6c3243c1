"""A process that has imported all of cdxsync and forks a child for each start of it: the far end of `forkserver`.

A child is what `python -m cdxsync` would be, but for the time that its imports take: it has its own arguments,
environment, directory and streams, runs `cdxsync.__main__`, and the interpreter ends it. Before the fork nothing is
done but imports, and one key: there is no thread, no database and no random state that children could share.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sqlite3
import sys
import termios
import threading
import time
from pathlib import Path
from typing import Any

LOADED_LATE = (
    "cryptography.hazmat.backends.openssl.backend",
    "encodings.ascii",
    "json.decoder",
    "nacl.secret",
    "prometheus_client.multiprocess",
    "rich.bar",
    "rich.box",
    "rich.console",
    "rich.pager",
    "rich.progress",
    "rich.table",
    "rich.text",
    "shutil",
    "tempfile",
    "typer._adapters",
    "typer._click._textwrap",
    "typer._click.decorators",
    "zoneinfo",
)
"""What commands import when they run."""
HELD = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}


def load() -> None:
    """Import what a command might."""
    package = importlib.import_module("cdxsync")
    for module in pkgutil.walk_packages(package.__path__, "cdxsync."):
        if module.name != "cdxsync.__main__":
            importlib.import_module(module.name)
    for name in LOADED_LATE:
        with contextlib.suppress(ModuleNotFoundError):  # other versions of a library may have none
            importlib.import_module(name)
    share_first_key(importlib.import_module("cdxsync.security.signing"))
    tasks = Path("/proc/self/task")
    assert not tasks.is_dir() or len(list(tasks.iterdir())) == 1, "a fork takes one thread along only"


def share_first_key(signing: Any) -> None:
    """Give all homes the same first signing key: to find one takes longer than all else that `init` does.

    Keys that are added later are made each time.
    """
    content = signing.first()
    signing.first = lambda: content


def wait_for_request(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork until the other end closes the socket. Returns in the children alone: their request, and their streams."""
    reports: dict[int, socket.socket] = {}
    ended, ending = socket.socketpair()
    ended.setblocking(False)
    ending.setblocking(False)
    signal.set_wakeup_fd(ending.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(ended, selectors.EVENT_READ)
    while True:
        ready = [key.fileobj for key, _ in selector.select()]
        if ended in ready:
            ended.recv(4096)
            _report_ends(reports)
        if control not in ready:
            continue
        message, descriptors, _, _ = socket.recv_fds(control, 1, 4)
        if not message:
            os._exit(0)
        report = socket.socket(fileno=descriptors[0])
        request = json.loads(report.makefile("rb").readline())
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        if not (pid := os.fork()):
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            selector.close()
            for held in (control, ended, ending, report, *reports.values()):
                held.close()
            return request, descriptors[1:]
        reports[pid] = report
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for descriptor in descriptors[1:]:
            os.close(descriptor)
        _send(report, pid)


def _report_ends(reports: dict[int, socket.socket]) -> None:
    while reports:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        report = reports.pop(pid)
        _send(report, os.waitstatus_to_exitcode(status))
        report.close()


def _send(report: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # who started it may not want to know
        report.sendall(b"%d\n" % number)


def become(request: dict[str, Any], streams: list[int]) -> None:
    """Be a process that has just been started."""
    for descriptor, stream in enumerate(streams):
        os.dup2(stream, descriptor)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if request["on_terminal"]:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(request["directory"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.argv = ["-m", *request["arguments"]]
    sys.orig_argv = [sys.executable, "-m", "cdxsync", *request["arguments"]]
    sys.path[0] = request["directory"]
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        stream_of_program = _stream(getattr(sys, name), descriptor, mode)
        setattr(sys, name, stream_of_program)
        setattr(sys, f"__{name}__", stream_of_program)


def _stream(like: io.TextIOWrapper, descriptor: int, mode: str) -> io.TextIOWrapper:
    """A standard stream, as the interpreter opens it."""
    is_direct = mode == "w" and like.write_through  # PYTHONUNBUFFERED
    raw = open(descriptor, f"{mode}b", buffering=0 if is_direct else -1, closefd=False)  # noqa: SIM115
    lines = mode == "w" and not is_direct and (raw.isatty() or descriptor == 2)
    wrapped = io.TextIOWrapper(
        raw, like.encoding, like.errors, newline="\n", line_buffering=lines, write_through=is_direct
    )
    wrapped.mode = mode  # type: ignore[misc]
    return wrapped


def end(status: int) -> None:
    """End as the interpreter would, but leave to the kernel the memory of what was imported, which takes most of it.

    Where that is not all, this returns, and the interpreter ends the process.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        # These are the objects that were made since the fork.
        for made in gc.get_objects():
            if isinstance(made, sqlite3.Connection):
                made.close()
            elif isinstance(made, io.IOBase) and not made.closed:
                made.flush()
    except Exception:
        return
    os._exit(status & 0xFF)


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())
    load()
    gc.collect()
    gc.freeze()
    become(*wait_for_request(socket.socket(fileno=int(sys.argv[1]))))
    try:
        runpy.run_module("cdxsync", run_name="__main__", alter_sys=True)
    except SystemExit as exit:
        if isinstance(exit.code, int):
            end(exit.code)
        raise
