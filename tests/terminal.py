"""Commands on a terminal of their own, with a size and someone who types."""

import fcntl
import os
import pty
import re
import struct
import termios
from pathlib import Path

import forkserver
from conftest import Fleet

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(
    fleet: Fleet, arguments: list[str], typed: bytes = b"", *, columns: int = 80, env: dict[str, str] | None = None
) -> tuple[str, int]:
    """Run a command on a terminal; returns all that it shows, and its exit code."""
    descriptor, side = pty.openpty()
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
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
