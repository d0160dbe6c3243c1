"""Commands on a terminal of their own, with a size and someone who types."""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from pathlib import Path

import pyte

from tests.support import forkserver
from tests.support.fleet import Fleet

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(
    fleet: Fleet, arguments: list[str], typed: bytes = b"", *, columns: int = 80, env: dict[str, str] | None = None
) -> tuple[str, int]:
    """Run a command on a terminal; returns all that it shows, and its exit code."""
    descriptor, side = pty.openpty()
    set_size(descriptor, columns, 24)
    environment = fleet.env | {"TERM": "xterm-256color"} | (env or {})
    process = forkserver.start_on_terminal(side, "--home", str(fleet.home), *arguments, env=environment)
    os.close(side)
    os.write(descriptor, typed)
    shown = b""
    try:
        while data := os.read(descriptor, 4096):
            shown += data
    except OSError:
        pass
    status = process.wait(60)
    os.close(descriptor)
    return shown.decode().replace("\r\n", "\n"), status


def spawn(command: list[str], env: dict[str, str], columns: int = 80, lines: int = 24) -> tuple[int, int]:
    """Start a program with a terminal of its own, of which it is the foreground job.

    Returns its process, and our end of the terminal. A fork would do as well, were there no threads here.
    """
    descriptor, side = pty.openpty()
    set_size(descriptor, columns, lines)
    streams = [(os.POSIX_SPAWN_DUP2, side, stream) for stream in (0, 1, 2)]
    try:
        return os.posix_spawnp("setsid", ["setsid", "--ctty", *command], env, file_actions=streams), descriptor
    finally:
        os.close(side)


def plain(text: str) -> str:
    """What is left without colours and cursor movements."""
    return ESCAPES.sub("", text)


def width(text: str) -> int:
    """The longest line, in columns."""
    return max(len(line) for line in plain(text).splitlines())


def write_list(path: Path, *names: str) -> Path:
    """A list of hosts for `hosts register --file`."""
    path.write_text("\n".join(names) + "\n")
    return path


class _Answering(pyte.Screen):
    """A screen that answers what a program asks of it, as where its cursor stands."""

    descriptor = -1

    def write_process_input(self, data: str) -> None:
        os.write(self.descriptor, data.encode())


class Screen:
    """A program on a terminal that is emulated: what stands on its screen at last, and someone who types."""

    def __init__(self, command: list[str], env: dict[str, str], columns: int = 80, lines: int = 24) -> None:
        self.screen = _Answering(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        # Where these are set, as xdist does, they count instead of the window.
        env = {key: value for key, value in env.items() if key not in ("COLUMNS", "LINES")}
        self.pid, self.descriptor = spawn(command, env | {"TERM": "xterm-256color"}, columns, lines)
        self.screen.descriptor = self.descriptor

    def wait_for(self, *texts: str, absent: str | None = None) -> list[str]:
        """Follow the screen until it shows all `texts`, and not `absent`; returns its lines."""
        deadline = time.monotonic() + 60
        while True:
            shown = [line.rstrip() for line in self.screen.display]
            whole = "\n".join(shown)
            if all(text in whole for text in texts) and (absent is None or absent not in whole):
                return shown
            assert select.select([self.descriptor], [], [], max(0, deadline - time.monotonic()))[0], whole
            self._feed(os.read(self.descriptor, 65536))

    def _feed(self, data: bytes) -> None:
        self.raw += data
        self.stream.feed(data)

    def resize(self, columns: int, lines: int) -> None:
        """Give the window another size."""
        self.screen.resize(lines, columns)
        set_size(self.descriptor, columns, lines)

    def type(self, text: bytes) -> None:
        """Type on the keyboard."""
        os.write(self.descriptor, text)

    def wait_until_stopped(self) -> None:
        """Follow the screen until the process is stopped, as by Ctrl-Z."""
        deadline = time.monotonic() + 60
        while not os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)[0]:
            assert time.monotonic() < deadline, "it was not stopped"
            self._read_for(0.05)
        while self._read_for(0):
            pass

    def _read_for(self, seconds: float) -> bool:
        ready = bool(select.select([self.descriptor], [], [], seconds)[0])
        if ready:
            self._feed(os.read(self.descriptor, 65536))
        return ready

    def end(self) -> int:
        """Read to the end; returns the exit code."""
        try:
            while data := os.read(self.descriptor, 65536):
                self._feed(data)
        except OSError:  # the other side was closed
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(status)

    def hang_up(self) -> int:
        """Close the terminal, as with its window; returns the exit code, or minus the number of the signal."""
        os.close(self.descriptor)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


class Watched(Screen):
    """`cdxsync` on such a terminal."""

    def __init__(self, fleet: Fleet, *arguments: str, columns: int = 80, lines: int = 24) -> None:
        command = [sys.executable, "-m", "cdxsync", "--home", str(fleet.home), *arguments]
        super().__init__(command, fleet.env, columns, lines)


def set_size(descriptor: int, columns: int, lines: int) -> None:
    """The size of a terminal's window."""
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
