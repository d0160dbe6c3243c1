"""Reads along with Codex's output, where no session file can be counted on."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.codex_command import command_of
from cdxsync.wrapper.src.printed_usage import OutputReader, event_usage, model_of, printed_usage
from cdxsync.wrapper.src.threads import started
from cdxsync.wrapper.src.versions import version_key

if TYPE_CHECKING:
    from typing import Any

# These repair a broken login, so they run whatever the server says, and nothing is changed while they run.
WITHOUT_CREDENTIALS = ("login", "logout")
# These speak a protocol on their standard streams.
WITHOUT_TAP = ("app-server", "mcp-server", "exec-server", "proto", *WITHOUT_CREDENTIALS)
# Codex writes its token counts to session files since this version.
SESSIONS_SINCE = "0.32.0"
# What is lost then is no reason to end Codex by a signal.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Tap:
    """Stands between Codex and one of our output descriptors: every byte goes through as it is, and is read along.

    A terminal is replaced by a pseudo-terminal for output alone: input, job control and signals stay those of the
    user's own terminal.
    """

    def __init__(self, descriptor: int, json_events: bool) -> None:
        self.descriptor = descriptor
        self.is_terminal = os.isatty(descriptor)
        self.reader = OutputReader(json_events)
        if self.is_terminal:
            self.source, child_end = os.openpty()
            make_raw(child_end)
        else:
            self.source, child_end = os.pipe()
        # None from when Codex has it.
        self.child_end: int | None = child_end
        if self.is_terminal:
            self.resize()
        self.thread = threading.Thread(target=self._pump, daemon=True)

    def resize(self) -> None:
        """Give the pseudo-terminal the window size of the real one."""
        import struct
        import termios

        with contextlib.suppress(OSError):
            size = fcntl.ioctl(self.descriptor, termios.TIOCGWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
            fcntl.ioctl(self.source if self.child_end is None else self.child_end, termios.TIOCSWINSZ, size)

    def start(self) -> None:
        """Codex has its end."""
        if self.child_end is not None:
            os.close(self.child_end)
            self.child_end = None

    def close(self) -> None:
        """Give it up before Codex has it."""
        self.start()
        os.close(self.source)

    def _pump(self) -> None:
        while True:
            try:
                data = os.read(self.source, 1 << 16)
            except OSError:  # the last writer to a pseudo-terminal is gone
                data = b""
            if not data:
                break
            self.reader.feed(data)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(self.descriptor, view) :]
            except OSError as error:
                if error.errno not in FULL:
                    # There is no reader any more: Codex shall notice, as it would without us.
                    break
        self.reader.close()
        os.close(self.source)

    def finish(self) -> None:
        """Codex has ended: pass on what is left. A process that Codex left behind is not waited for."""
        self.thread.join(2.0)


def make_raw(descriptor: int) -> None:
    """A terminal that passes every byte on as it is."""
    import termios

    attributes = termios.tcgetattr(descriptor)
    attributes[1] &= ~termios.OPOST
    attributes[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN)
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)


def plan_taps(arguments: list[str], version: str, known: dict[str, Any]) -> list[int]:
    """Which of descriptors 1 and 2 must be read along for this run's usage.

    `known` says of this very build of Codex whether it was seen to write token counts to session files (then there is
    no need), or to print them without (then terminals are read along too).
    """
    if command_of(arguments) in WITHOUT_TAP:
        return []
    without_file = "--ephemeral" in arguments
    if known.get("sessions") and not without_file:
        return []
    prints = (
        without_file or known.get("prints") or (bool(version) and version_key(version) < version_key(SESSIONS_SINCE))
    )
    taps = []
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            kind = os.fstat(descriptor).st_mode
            if not os.get_inheritable(descriptor):
                continue  # it is closed, and only kept from being used
            if prints or not stat.S_ISCHR(kind):
                taps.append(descriptor)
    return taps


class Taps:
    """The taps of a run: none, one or two, or one for both descriptors where they are the same file."""

    def __init__(self, descriptors: list[int], arguments: list[str]) -> None:
        events = "--json" in arguments or "--experimental-json" in arguments
        self.by_descriptor: dict[int, Tap] = {}
        for descriptor in descriptors:
            if 1 in self.by_descriptor and same_file(1, descriptor):
                self.by_descriptor[descriptor] = self.by_descriptor[1]
            else:
                tap = Tap(descriptor, events and descriptor == 1)
                # What is read along must be passed on: where there are no threads Codex has our own descriptor.
                if started(tap.thread):
                    self.by_descriptor[descriptor] = tap
                else:
                    tap.close()
        self.all = list({id(tap): tap for tap in self.by_descriptor.values()}.values())

    def child_end(self, descriptor: int) -> int | None:
        """What Codex gets as this descriptor; None is our own."""
        tap = self.by_descriptor.get(descriptor)
        return tap.child_end if tap else None

    def start(self) -> None:
        """Codex has been started."""
        for tap in self.all:
            tap.start()

    def resize(self) -> bool:
        """The window has another size; returns whether Codex cannot know of it by itself."""
        terminals = [tap for tap in self.all if tap.is_terminal]
        for tap in terminals:
            tap.resize()
        return bool(terminals)

    def finish(self) -> None:
        """Codex has ended."""
        for tap in self.all:
            tap.finish()

    def usage(self, arguments: list[str], home: str) -> list[dict[str, Any]]:
        """The entries of the usage in the output."""
        model = model_of(arguments, home)
        events = event_usage([event for tap in self.all for event in tap.reader.events])
        entries = [events] if events else printed_usage("\n".join(tap.reader.text() for tap in self.all))
        return [dict(entry, model=model) if model else entry for entry in entries]


def same_file(one: int, other: int) -> bool:
    """Whether two descriptors are the same file, pipe or terminal."""
    with contextlib.suppress(OSError):
        first, second = os.fstat(one), os.fstat(other)
        return (first.st_dev, first.st_ino, first.st_rdev) == (second.st_dev, second.st_ino, second.st_rdev)
    return False
