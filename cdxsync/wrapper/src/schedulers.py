"""What can start the background sync: systemd, launchd or cron, whichever is there."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import sys
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.files import find_program, known_user, remove, user_home
from cdxsync.wrapper.src.watch_job import (
    EVERY_MINUTES,
    SPREAD_SECONDS,
    Job,
    any_below,
    call_program,
    check_done,
    write_entry,
)

if TYPE_CHECKING:
    from typing import Any

    from cdxsync.wrapper.src.watch_job import Done

NO_CRONTAB = "there is no crontab"


class Systemd:
    """A timer of the user's manager, or of the system's for root."""

    by = "systemd"

    def __init__(self, job: Job, system: bool) -> None:
        self.job = job
        self.system = system
        self.folder = "/etc/systemd/system" if system else os.path.join(user_home(), ".config/systemd/user")
        self.timer = job.name + ".timer"
        self.service = job.name + ".service"
        self.entry = os.path.join(self.folder, self.timer)

    def describe(self) -> str:
        """In words."""
        return "the systemd %s timer %s" % ("system" if self.system else "user", self.timer)

    def control(self, *arguments: str) -> Done:
        """Run systemctl."""
        env = dict(os.environ)
        if not self.system:
            # Not there after su and sudo, or another user's.
            own = "/run/user/%d" % os.geteuid()
            given = env.get("XDG_RUNTIME_DIR", "")
            if not (os.path.isdir(given) and os.stat(given).st_uid == os.geteuid()) and os.path.isdir(own):
                env["XDG_RUNTIME_DIR"] = own
                env.pop("DBUS_SESSION_BUS_ADDRESS", None)
        return call_program(["systemctl", "--system" if self.system else "--user", "--no-pager", *arguments], env=env)

    def unavailable(self) -> str:
        """Why it cannot be used here, or an empty text."""
        if self.system and os.geteuid() != 0:
            return "only root may use the system's timers"
        code, _, error = self.control("show", "--property=Version")
        kind = "systemd" if self.system else "systemd user manager"
        return "" if code == 0 else "no %s can be reached (%s)" % (kind, error.replace("\n", "; ") or code)

    def units(self) -> dict[str, str]:
        """The unit files by name."""
        what = "Keeps Codex's login, prompts and usage in step with the fleet"
        service = [
            "# Made by cdx --watch install; cdx --watch remove takes it away.",
            "[Unit]",
            "Description=%s" % what,
            "",
            "[Service]",
            "Type=oneshot",
            "Environment=%s" % unit_word("CODEX_HOME=" + self.job.home),
            "Environment=%s" % unit_word("PATH=" + self.job.path),
            *self.start(),
            "Nice=10",
        ]
        timer = [
            service[0],
            "[Unit]",
            "Description=%s" % what,
            "",
            "[Timer]",
            "OnCalendar=*:0/%d" % EVERY_MINUTES,
            "RandomizedDelaySec=%d" % SPREAD_SECONDS,
            "AccuracySec=10",
            "",
            "[Install]",
            "WantedBy=timers.target",
        ]
        return {self.service: "\n".join(service) + "\n", self.timer: "\n".join(timer) + "\n"}

    def start(self) -> list[str]:
        """The lines that name the program: systemd takes no quotes and no backslash in a program's path."""
        program = self.job.program
        if not re.search(r"""["'\\]""", program):
            return ["ExecStart=%s --watch run" % unit_word(program)]
        named = "Environment=%s" % unit_word("CDX_PROGRAM=" + program)
        return [named, "ExecStart=/bin/sh -c 'exec \"$$CDX_PROGRAM\" --watch run'"]

    def install(self) -> None:
        """Write the units, and start the timer. Raises SyncError."""
        changed = [
            write_entry(os.path.join(self.folder, name), text.encode("utf-8")) for name, text in self.units().items()
        ]
        if any(changed):
            check_done(self.control("daemon-reload"), "systemd does not read its units again")
        check_done(self.control("enable", self.timer), "systemd does not enable %s" % self.timer)
        check_done(
            self.control("restart" if any(changed) else "start", self.timer), "systemd does not start %s" % self.timer
        )

    def remove(self) -> bool:
        """Take it away; returns whether it was there. Raises SyncError."""
        paths = [os.path.join(self.folder, name) for name in (self.timer, self.service)]
        wanted = os.path.join(self.folder, "timers.target.wants", self.timer)
        if not any(os.path.lexists(path) for path in [*paths, wanted]):
            return False
        # Where the manager is away, what is left on the disk counts.
        self.control("disable", "--now", self.timer)
        problems = [problem for problem in map(remove, [*paths, wanted]) if problem]
        self.control("daemon-reload")
        if problems:
            raise SyncError("cannot remove %s: %s" % (self.entry, problems[0]))
        return True

    def problem(self) -> str:
        """What is wrong with what was installed, or an empty text."""
        if not os.path.exists(self.entry):
            return "%s is not there any more" % self.entry
        code, out, error = self.control("is-active", self.timer)
        if code == 0:
            return ""
        return "%s is not active (%s)" % (self.timer, error or out.decode("utf-8", "replace").strip() or code)

    def hint(self) -> str:
        """When it does not run though all is well, or an empty text."""
        user = pwd.getpwuid(os.geteuid()).pw_name if known_user() else str(os.geteuid())
        if self.system or os.path.exists("/var/lib/systemd/linger/" + user):
            return ""
        return "it stops when %s has no session any more. To let it go on: loginctl enable-linger %s" % (user, user)


def unit_word(text: str) -> str:
    """A word of a unit file: quoted, with nothing in it that systemd reads as more than itself."""
    return '"%s"' % text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")


class Launchd:
    """An agent of the user, or a daemon of the system for root."""

    by = "launchd"

    def __init__(self, job: Job) -> None:
        self.job = job
        self.system = os.geteuid() == 0
        folder = "/Library/LaunchDaemons" if self.system else os.path.join(user_home(), "Library/LaunchAgents")
        self.entry = os.path.join(folder, job.name + ".plist")

    def describe(self) -> str:
        """In words."""
        return "the launchd %s %s" % ("daemon" if self.system else "agent", self.job.name)

    def domains(self) -> list[str]:
        """Where it may be loaded: over SSH there is no session on the screen."""
        return ["system"] if self.system else ["gui/%d" % os.geteuid(), "user/%d" % os.geteuid()]

    def unavailable(self) -> str:
        """Why it cannot be used here, or an empty text."""
        return "" if find_program("launchctl", os.environ.get("PATH", os.defpath)) else "there is no launchd"

    def description(self) -> bytes:
        """The property list."""
        import plistlib

        value = {
            "Label": self.job.name,
            "ProgramArguments": [self.job.program, "--watch", "run"],
            "EnvironmentVariables": {"CODEX_HOME": self.job.home, "PATH": self.job.path},
            "StartInterval": EVERY_MINUTES * 60,
            "RunAtLoad": True,
            "ProcessType": "Background",
        }
        return plistlib.dumps(value)

    def install(self) -> None:
        """Write the property list and load it. Raises SyncError."""
        if not write_entry(self.entry, self.description()) and not self.problem():
            return
        self._unload()
        for domain in self.domains():
            done = call_program(["launchctl", "bootstrap", domain, self.entry])
            if done[0] == 0:
                return
        check_done(call_program(["launchctl", "load", "-w", self.entry]), "launchd does not load %s" % self.entry)

    def _unload(self) -> None:
        for domain in self.domains():
            call_program(["launchctl", "bootout", "%s/%s" % (domain, self.job.name)])

    def remove(self) -> bool:
        """Take it away; returns whether it was there. Raises SyncError."""
        if not os.path.lexists(self.entry):
            return False
        self._unload()
        problem = remove(self.entry)
        if problem:
            raise SyncError("cannot remove %s: %s" % (self.entry, problem))
        return True

    def problem(self) -> str:
        """What is wrong with what was installed, or an empty text."""
        if not os.path.exists(self.entry):
            return "%s is not there any more" % self.entry
        for domain in self.domains():
            if call_program(["launchctl", "print", "%s/%s" % (domain, self.job.name)])[0] == 0:
                return ""
        return "launchd has not loaded %s" % self.entry

    def hint(self) -> str:
        """When it does not run though all is well, or an empty text."""
        return "" if self.system else "it runs while you are logged in"


class Cron:
    """A line in the user's crontab."""

    by = "cron"
    entry = "the crontab"

    def __init__(self, job: Job) -> None:
        self.job = job
        self.mark = ("# " + job.name).encode("ascii")

    def describe(self) -> str:
        """In words."""
        return "a line of the crontab"

    def unavailable(self) -> str:
        """Why it cannot be used here, or an empty text."""
        try:
            self.lines()
        except SyncError as error:
            return str(error)
        return ""

    def lines(self) -> list[bytes]:
        """The user's crontab, with line ends. Raises SyncError when it cannot be read: then it must not be written."""
        code, out, error = call_program(["crontab", "-l"])
        if code == 127:
            raise SyncError(NO_CRONTAB)
        # Whoever has none yet gets an error.
        if code != 0 and not re.search("no crontab for|no such file", error, re.IGNORECASE):
            raise SyncError("crontab -l fails (%s)" % (error or code))
        return (out if code == 0 else b"").splitlines(keepends=True)

    def is_own(self, line: bytes) -> bool:
        """Whether a line is that of this home's sync."""
        return line.rstrip().endswith(b" " + self.mark) and not line.lstrip().startswith(b"#")

    def line(self) -> bytes:
        """The line to install: each host at another minute and second."""
        words = ["CODEX_HOME=" + cron_word(self.job.home)]
        if self.job.needs_path:
            words.append("PATH=" + cron_word(self.job.path))
        words += [cron_word(self.job.program), "--watch run --after %d" % any_below(SPREAD_SECONDS)]
        minute = "%d-59/%d" % (any_below(EVERY_MINUTES), EVERY_MINUTES)
        text = "%s * * * * %s >/dev/null 2>&1 %s\n" % (minute, " ".join(words), self.mark.decode())
        if len(text) > 990:
            raise SyncError("the paths are too long for a line of the crontab")
        return text.encode("utf-8")

    def same(self, line: bytes, other: bytes) -> bool:
        """Whether two lines start the same, at whatever minute and second."""
        times = re.compile(rb"^\d+-59/|--after \d+")
        return times.sub(b"", line.strip()) == times.sub(b"", other.strip())

    def install(self) -> None:
        """Put the line in, once; one that does the same stays as it is. Raises SyncError."""
        lines, new = self.lines(), self.line()
        own = [line for line in lines if self.is_own(line)]
        if len(own) == 1 and self.same(own[0], new):
            return
        self._write([line for line in lines if not self.is_own(line)], new)

    def _write(self, lines: list[bytes], more: bytes = b"") -> None:
        text = b"".join(lines)
        if text and not text.endswith(b"\n"):
            text += b"\n"
        if text or more:
            check_done(call_program(["crontab", "-"], text + more), "crontab does not take the line")
        else:
            check_done(call_program(["crontab", "-r"]), "crontab does not remove the line")

    def remove(self) -> bool:
        """Take the line away; returns whether it was there. Raises SyncError."""
        try:
            lines = self.lines()
        except SyncError:
            return False
        kept = [line for line in lines if not self.is_own(line)]
        if len(kept) == len(lines):
            return False
        self._write(kept)
        return True

    def problem(self) -> str:
        """What is wrong with what was installed, or an empty text."""
        try:
            return "" if any(self.is_own(line) for line in self.lines()) else "its line is not in the crontab any more"
        except SyncError as error:
            return str(error)

    def hint(self) -> str:
        """When it does not run though all is well, or an empty text."""
        names = set()
        with contextlib.suppress(OSError):
            for number in os.listdir("/proc"):
                if number.isdigit():
                    with contextlib.suppress(OSError), open("/proc/%s/comm" % number, encoding="utf-8") as file:
                        names.add(file.read().strip())
        if not names or names & {"cron", "crond", "fcron", "busybox", "systemd-cron"}:
            return ""
        return "no cron daemon runs here: nothing starts it until there is one"


def cron_word(text: str) -> str:
    """A word for the shell that cron starts. A per cent sign must not stand in a crontab, and not all crons let it be
    escaped."""
    return ("'%s'" % text.replace("'", "'\"'\"'")).replace("%", "'\"$(printf '\\045')\"'")


class Other:
    """Something that cdx does not know, and that a person sets up, such as a second process of a container."""

    by = "other"
    entry = ""

    def __init__(self, job: Job) -> None:
        self.job = job

    def describe(self) -> str:
        """In words."""
        return "what you start it with"

    def install(self) -> None:
        """Nothing."""

    def hint(self) -> str:
        """What is left to do."""
        return "have this started every %d minutes: CODEX_HOME=%s %s --watch run" % (
            EVERY_MINUTES,
            cron_word(self.job.home),
            cron_word(self.job.program),
        )


def all_schedulers(job: Job) -> list[Systemd | Launchd | Cron]:
    """Those that cdx knows, the one that is preferred first."""
    systemd = [Systemd(job, system=True)] if os.geteuid() == 0 else []
    return [Launchd(job), *systemd, Systemd(job, system=False), Cron(job)]


def noted_scheduler(job: Job, note: dict[str, Any]) -> Systemd | Launchd | Cron | None:
    """The scheduler that a note of the background sync names; None where it is none of this machine's."""
    return next((one for one in all_schedulers(job) if one.describe() == note.get("what")), None)


def choose_scheduler(job: Job, wanted: str) -> Systemd | Launchd | Cron | Other:
    """The first scheduler that can be used; `wanted` names one, or is empty. Raises SyncError."""
    if wanted == Other.by:
        return Other(job)
    reasons = []
    for scheduler in all_schedulers(job):
        if wanted in ("", scheduler.by):
            reason = scheduler.unavailable()
            if not reason:
                return scheduler
            if scheduler.by != Launchd.by or wanted or sys.platform == "darwin":
                reasons.append(reason)
    unknown = "%s is none of systemd, launchd, cron and other" % wanted
    raise SyncError("nothing can start it here: %s" % (", ".join(reasons) or unknown))
