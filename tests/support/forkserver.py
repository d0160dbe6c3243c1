"""Starts of `python -m cdxsync` that do not wait for its imports: a process that has them forks for each (`zygote`).

With TEST_REAL_STARTS set all starts are real ones; those that are the subject of a test, always.
"""

import atexit
import concurrent.futures
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

REAL_STARTS = "TEST_REAL_STARTS"
COMMAND = (sys.executable, "-m", "cdxsync")
READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TYPER_", "MALLOC_", "OPENSSL_")
"""Variables that count when an interpreter or a library is loaded."""


class Process:
    """A child of the fork server, with what tests use of `subprocess.Popen`."""

    def __init__(
        self,
        arguments: tuple[str, ...],
        env: dict[str, str],
        streams: dict[str, int | None],
        *,
        text: bool = False,
        on_terminal: bool = False,
    ) -> None:
        self.args = [*COMMAND, *arguments]
        self.returncode: int | None = None
        self.stdin: IO[Any] | None = None
        self.stdout: IO[Any] | None = None
        self.stderr: IO[Any] | None = None
        self._reading = threading.Lock()
        theirs = [self._open(name, streams[name], text) for name in ("stdin", "stdout", "stderr")]
        self._report, far = socket.socketpair()
        request = {
            "arguments": arguments,
            "environment": env,
            "directory": str(Path.cwd()),
            "umask": _umask(),
            "on_terminal": on_terminal,
        }
        with far:
            socket.send_fds(_zygote(), [b"x"], [far.fileno(), *theirs])
        self._report.sendall(json.dumps(request).encode() + b"\n")
        for descriptor in theirs:
            os.close(descriptor)
        self._lines = self._report.makefile("rb")
        self.pid = self._read()

    def _open(self, name: str, wanted: int | None, text: bool) -> int:
        """The child's end of a stream."""
        if wanted is None:
            return os.dup(("stdin", "stdout", "stderr").index(name))
        if wanted == subprocess.DEVNULL:
            return os.open(os.devnull, os.O_RDWR)
        if wanted != subprocess.PIPE:
            return os.dup(wanted)
        reading, writing = os.pipe()
        ours, theirs, mode = (writing, reading, "w") if name == "stdin" else (reading, writing, "r")
        setattr(self, name, open(ours, mode if text else f"{mode}b"))  # noqa: PTH123, SIM115
        return theirs

    def _read(self) -> int:
        line = self._lines.readline()
        assert line, "the fork server has ended"
        return int(line)

    def poll(self) -> int | None:
        """The exit status, None while the process runs."""
        return self._end(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status. Raises `subprocess.TimeoutExpired`."""
        status = self._end(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def _end(self, timeout: float | None) -> int | None:
        while self.returncode is None and select.select([self._report], [], [], timeout)[0]:
            with self._reading:
                if self.returncode is None:
                    self.returncode = self._read()
        return self.returncode

    def __del__(self) -> None:
        # Not before: another thread may be waiting for it.
        self._lines.close()
        self._report.close()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        """Write `input`, read all that the process writes, and wait for its end. Raises `subprocess.TimeoutExpired`."""
        with concurrent.futures.ThreadPoolExecutor(3) as threads:
            writing = threads.submit(self._write, input)
            reading = [threads.submit(stream.read) if stream else None for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            writing.result()
            read = [one and one.result() for one in reading]
        self._close()
        return read[0], read[1]

    def _write(self, content: Any) -> None:
        if self.stdin is None:
            return
        try:
            with self.stdin:
                if content:
                    self.stdin.write(content)
        except BrokenPipeError:
            pass  # it has enough

    def _close(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self.wait()


Started = Process | subprocess.Popen[Any]


def _umask() -> int:
    before = os.umask(0o077)
    os.umask(before)
    return before


@functools.cache
def _zygote() -> socket.socket:
    """The way to the fork server, which ends when this is closed."""
    near, far = socket.socketpair()
    with far:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py")), str(far.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[far.fileno()],
            env=_plain_environment(),
        )
    atexit.register(process.wait)
    atexit.register(near.close)
    return near


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CDXSYNC_")}


def _needs_real_start(env: dict[str, str]) -> bool:
    """Whether an environment would have mattered before the fork."""
    names = {name for name in env.keys() | os.environ.keys() if name.startswith(READ_AT_START)}
    return REAL_STARTS in os.environ or any(env.get(name) != os.environ.get(name) for name in names)


def start(
    *arguments: str,
    env: dict[str, str],
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    text: bool = False,
) -> Started:
    """Start `python -m cdxsync` with these arguments; streams are as for `subprocess.Popen`, but no files."""
    if _needs_real_start(env):
        return subprocess.Popen([*COMMAND, *arguments], env=env, stdin=stdin, stdout=stdout, stderr=stderr, text=text)
    return Process(arguments, env, {"stdin": stdin, "stdout": stdout, "stderr": stderr}, text=text)


def start_on_terminal(terminal: int, *arguments: str, env: dict[str, str]) -> Started:
    """Start `python -m cdxsync` with a terminal of its own, of which it is the foreground job."""
    streams: dict[str, int | None] = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
    if not _needs_real_start(env):
        return Process(arguments, env, streams, on_terminal=True)

    command = ["setsid", "--ctty", *COMMAND, *arguments]
    return subprocess.Popen(command, env=env, stdin=terminal, stdout=terminal, stderr=terminal)


def run(
    *arguments: str, env: dict[str, str], input: Any = "", text: bool = True, timeout: float = 60
) -> "subprocess.CompletedProcess[Any]":
    """Run `python -m cdxsync` to its end, with captured output. Raises `subprocess.TimeoutExpired`."""
    pipe = subprocess.PIPE
    with start(*arguments, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=text) as process:
        output, errors = process.communicate(input, timeout)
        status = process.wait()
    return subprocess.CompletedProcess(process.args, status, output, errors)
