"""Signals: those that end cdx itself, and those that are meant for Codex."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.threads import started

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Where the program of a witness may be. Not on PATH: the working folder may be on that.
CAT = ("/bin/cat", "/usr/bin/cat")
# The kernel may still be telling the other processes of the group.
GROUP_SECONDS = 0.002
RENEWAL_SECONDS = 1.0


class Ended(KeyboardInterrupt):
    """A signal ends cdx; what was begun is tidied up on the way."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def end_tidily() -> None:
    """From now on the first signal raises Ended, and those after it change nothing. Ignored ones stay ignored."""
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, raise_ended)


def raise_ended(number: int, _frame: FrameType | None) -> NoReturn:
    """The handler of `end_tidily`."""
    for other in ENDING:
        if signal.getsignal(other) != signal.SIG_IGN:
            # Not by the system's means: Python complains of one that it has taken already.
            signal.signal(other, changes_nothing)
    raise Ended(number)


def changes_nothing(_number: int, _frame: FrameType | None) -> None:
    """The handler of a signal that comes too late."""


def end_at_once() -> None:
    """There is nothing left to tidy up. Raises Ended for a signal that has come before."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def for_another_program() -> None:
    """Undo what Python ignores for itself, before this process becomes another program."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def die_by(number: int) -> NoReturn:
    """End by a signal, so that the shell sees it, and leave no core dump."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os._exit(128 + number)


def in_foreground() -> bool:
    """Whether this process group has the terminal, whose keys then send signals to Codex directly."""
    try:
        with open("/dev/tty", "rb") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def has_terminal() -> bool:
    """Whether there is a controlling terminal, and it has not hung up."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


class Witness:
    """A process in our group that holds back each signal it gets, where /proc shows it.

    What it has got went to the whole group, or to each of its processes: Codex has it, too. It ends with us. It is
    started by a thread, so as to hold up neither Codex nor what it prints.
    """

    def __init__(self) -> None:
        self.pid: int | None = None
        self.hold: int | None = None
        self.lock = threading.Lock()
        self.wanted = threading.Event()
        self.ready = threading.Event()
        self.started = self.over = False
        # What an earlier one has got, and we have not heard of yet.
        self.known: set[int] = set()

    def start(self) -> None:
        """Begin. Where there can be none, `saw` does not know."""
        program = next((path for path in CAT if os.access(path, os.X_OK)), None)
        if program and sys.platform.startswith("linux"):
            self.started = started(threading.Thread(target=self._work, args=(program,), daemon=True))

    def _work(self, program: str) -> None:
        null = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)]
        all_held = signal.valid_signals()
        while not self.over:
            self.wanted.clear()
            pid = None
            with contextlib.suppress(OSError):
                told, hold = os.pipe()
                try:
                    actions = [(os.POSIX_SPAWN_DUP2, told, 0), *null]
                    pid = os.posix_spawn(program, ["cat"], {}, file_actions=actions, setsigmask=all_held)
                finally:
                    os.close(told)
                    with self.lock:
                        self.pid, self.hold = pid, hold
            self.ready.set()
            self.wanted.wait()

    def saw(self, number: int) -> bool | None:
        """Whether it has got this signal, too, since it was asked the last time; None where that is not known."""
        if not self.started:
            return None
        time.sleep(GROUP_SECONDS)
        self.ready.wait(RENEWAL_SECONDS)
        got = pending(self.pid)
        if got is None:
            return None
        before = number in self.known
        self.known.discard(number)
        if number in got:
            self._renew(number)
        return before or number in got

    def _renew(self, number: int) -> None:
        with self.lock:
            pid, hold = self.pid, self.hold
            self.pid = self.hold = None
            self.ready.clear()
        self.wanted.set()
        self.ready.wait(RENEWAL_SECONDS)
        # The new one gets what comes from now on; what the old one has besides, we shall be told of.
        self.known |= (pending(pid) or set()) - {number}
        end_witness(pid, hold)

    def finish(self) -> None:
        """End it."""
        self.over = True
        self.wanted.set()
        end_witness(self.pid, self.hold)
        self.pid = self.hold = None


def end_witness(pid: int | None, hold: int | None) -> None:
    """End a witness, by its process and our end of the pipe."""
    if hold is not None:
        os.close(hold)
    if pid is not None:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def pending(pid: int | None) -> set[int] | None:
    """The signals that a process has got and holds back; None where that cannot be seen."""
    with contextlib.suppress(OSError, ValueError), open("/proc/%d/status" % (pid or 0), "rb") as file:
        for line in file:
            if line.startswith(b"ShdPnd:"):
                bits = int(line.split()[1], 16)
                return {number for number in range(1, 65) if bits >> (number - 1) & 1}
    return None


class Relay:
    """Hands signals on to Codex, unless it has them already."""

    def __init__(self) -> None:
        self.child: int | None = None
        # Signals that came before Codex had a number, and while another was looked into.
        self.early: list[int] = []
        self.more: list[int] = []
        self.busy = False
        self.witness = Witness()
        # A terminal that hangs up tells its session's leader alone; that one tells the others, or its end does.
        self.told_by_leader = in_foreground() and os.getsid(0) != os.getpid()

    def take(self, *names: str) -> None:
        """Outlive these signals. Those ignored from the start stay ignored, for Codex too."""
        for name in names:
            number = getattr(signal, name)
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._came)

    def started(self, child: int) -> None:
        """Codex runs as process `child`."""
        self.child = child
        for number in self.early:
            self.send(number)
        self.witness.start()

    def ended(self) -> None:
        """Codex has ended, and its number may soon be another's."""
        self.child = None
        self.witness.finish()

    def send(self, number: int) -> None:
        """Send a signal to Codex, or keep it until there is one."""
        if self.child is None:
            self.early.append(number)
            return
        with contextlib.suppress(OSError):
            os.kill(self.child, number)

    def _came(self, number: int, _frame: FrameType | None) -> None:
        self.more.append(number)
        if self.busy:
            return
        self.busy = True
        while self.more:
            first = self.more.pop(0)
            if not self._has(first):
                self.send(first)
            else:
                self.more = [number for number in self.more if number != first]
        self.busy = False

    def _has(self, number: int) -> bool:
        """Whether Codex has got this signal by itself, as far as that can be known."""
        if self.child is None:
            return False
        seen = self.witness.saw(number)
        if seen is not None:
            return seen
        # What the terminal sends goes to the whole process group.
        if number in (signal.SIGINT, signal.SIGQUIT):
            return in_foreground()
        return number == signal.SIGHUP and self.told_by_leader and not has_terminal()
