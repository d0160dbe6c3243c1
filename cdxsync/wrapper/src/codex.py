"""Finds Codex, and runs it on our own terminal and file descriptors."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.files import child_environment, find_program, own_folder, read_json, user_home, write_json
from cdxsync.wrapper.src.loops import started_by_us
from cdxsync.wrapper.src.signals import Relay, die_by
from cdxsync.wrapper.src.taps import Taps

if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Callable, NoReturn

# Where Codex may be when PATH does not say; cron, for one, has a short PATH. Relative ones lie in the user's home.
MAX_PRINTED = 1 << 20
USUAL_PLACES = ("/usr/local/bin", "/opt/codex/bin", ".local/bin", "/opt/homebrew/bin")
FOR_CODEX = ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")


def find_codex(remembered: str | None = None, but: str = "") -> str | None:
    """The real Codex: the first on PATH or in the usual places that is not this file, nor the program `but`."""
    own = os.path.realpath(__file__)
    home = user_home()
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    directories += [os.path.join(home, place) for place in USUAL_PLACES] + [os.path.dirname(own)]
    if remembered:
        directories.append(os.path.dirname(remembered))
    for directory in directories:
        found = find_program("codex", directory)
        if found and os.path.realpath(found) not in (own, os.path.realpath(but or own)):
            return os.path.abspath(found)
    return None


class Build:
    """The build of Codex that is installed, with what is remembered of it until the program changes."""

    def __init__(self, home: str) -> None:
        self.notes_path = os.path.join(own_folder(home), "state.json")
        state = read_json(self.notes_path)
        self.program = find_codex(state.get("program") if isinstance(state.get("program"), str) else None)
        self.notes: dict[str, Any] = {}
        if self.program:
            key = program_key(self.program)
            self.notes = state if state.get("codex") == key else {"codex": key}

    @property
    def version(self) -> str:
        """Its version, asked once: that takes time. Empty when it does not say."""
        if not self.program:
            return ""
        if not isinstance(self.notes.get("codex_version"), str):
            self.notes.update(codex_version=version_of(self.program), program=self.program)
            write_json(self.notes_path, self.notes)
        return str(self.notes["codex_version"])

    def takes(self, option: str, *command: str) -> bool:
        """Whether its help, or that of one of its commands, has an option; asked once, as its version is."""
        known = self.notes.get("takes")
        known = known if isinstance(known, dict) else {}
        name = " ".join((*command, option))
        if self.program and not isinstance(known.get(name), bool):
            printed = output_of(self.program, *command, "--help")
            known = dict(known, **{name: bool(re.search(r"^[ \t]+%s(?![\w-])" % re.escape(option), printed, re.M))})
            if printed:
                self.remember(takes=known)
        return known.get(name) is True

    def remember(self, **facts: object) -> None:
        """Keep what was learned of it."""
        if self.program and any(self.notes.get(name) != value for name, value in facts.items()):
            self.notes.update(facts)
            write_json(self.notes_path, self.notes)


def program_key(program: str) -> list[Any]:
    """What changes when a program is replaced."""
    status = os.stat(os.path.realpath(program))
    return [os.path.realpath(program), status.st_mtime_ns, status.st_size]


def version_of(program: str) -> str:
    """The version that a program reports, or an empty text."""
    match = re.search(r"(?<!\d)\d{1,9}\.\d\S{0,60}", output_of(program, "--version"))
    return match.group(0) if match else ""


def output_of(program: str, *arguments: str) -> str:
    """What a program prints about itself; empty when it cannot be started, or takes too long."""
    return printed_by(program, *arguments)[0]


def complaint_of(program: str) -> str:
    """The last line of what a program says when it is asked for its version and does not tell it."""
    lines = printed_by(program, "--version")[1].strip().splitlines()
    return lines[-1][:300] if lines else ""


def printed_by(program: str, *arguments: str) -> tuple[str, str]:
    """What a program prints, and its messages; empty when it cannot be started, or takes too long."""
    import subprocess

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            env=program_environment(child_environment(), program, list(arguments)),
        )
        said, complained = done.stdout[:MAX_PRINTED], done.stderr[-MAX_PRINTED:]
        return said.decode("utf-8", "replace"), complained.decode("utf-8", "replace")
    return "", ""


def program_environment(env: dict[str, str], program: str, arguments: list[str]) -> dict[str, str]:
    """The environment for a program that is to be Codex.

    It finds its interpreter there, which npm puts beside it: cron has a short PATH.
    """
    env = started_by_us(env, program, arguments)
    path = env.get("PATH", os.defpath)
    folder = os.path.dirname(program)
    if os.access(os.path.join(folder, "node"), os.X_OK) and not find_program("node", path):
        env = dict(env, PATH=path + os.pathsep + folder)
    return env


class Codex:
    """A run of Codex in our own process group, on our own terminal and file descriptors."""

    def __init__(self, program: str, arguments: list[str], taps: Taps, environment: dict[str, str]) -> None:
        self.command = ["codex", *arguments]
        self.program = program
        self.environment = program_environment(environment, program, arguments)
        self.taps = taps
        self.relay = Relay()

    def _resized(self, number: int, _frame: FrameType | None) -> None:
        if self.taps.resize():
            # The terminal's own signal may have come before the size was passed on.
            self.relay.send(number)

    def _take_signals(self) -> None:
        self.relay.take(*FOR_CODEX)
        # Whether Ctrl-Z stops the job is for Codex to decide; we follow it (see below).
        if signal.getsignal(signal.SIGTSTP) != signal.SIG_IGN:
            signal.signal(signal.SIGTSTP, lambda _number, _frame: None)
        if self.taps.all:
            signal.signal(signal.SIGWINCH, self._resized)

    def run(self, started: Callable[[int], None]) -> int:
        """Run to the end; returns the wait status. `started` is called with the process's number."""
        self._take_signals()
        told, telling = os.pipe()
        os.set_blocking(telling, False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(telling, warn_on_full_buffer=False)
        ends = [(self.taps.child_end(descriptor), descriptor) for descriptor in (1, 2)]
        # What Python ignores for itself is not ignored for Codex.
        child = os.posix_spawn(
            self.program,
            self.command,
            self.environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, end, descriptor) for end, descriptor in ends if end is not None],
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
        self.relay.started(child)
        self.taps.start()
        started(child)
        status = self._wait(child, told)
        self.taps.finish()
        return status

    def _wait(self, child: int, told: int) -> int:
        """Follow Codex to its end. Each signal writes into `told`: one that comes just before we wait is not lost."""
        while True:
            found, status = os.waitpid(child, os.WUNTRACED | os.WNOHANG)
            if not found:
                os.read(told, 512)
            elif os.WIFSTOPPED(status):
                os.kill(os.getpid(), signal.SIGSTOP)
                os.kill(child, signal.SIGCONT)
            else:
                self.relay.ended()
                return status


def leave(status: int) -> NoReturn:
    """End as Codex has ended: with its exit code, or by the same signal."""
    if os.WIFSIGNALED(status):
        die_by(os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))
