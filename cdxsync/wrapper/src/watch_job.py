"""What the background sync is to schedulers: what they start, and how their programs and files are used."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.files import find_program, listed_home, replace_file, sha256_of, user_home

if TYPE_CHECKING:
    from typing import Tuple

    # Exit code, standard output, standard error.
    Done = Tuple[int, bytes, str]

# Codex refreshes an access token that has 5 minutes to go, and the server has another one 10 minutes before its end.
EVERY_MINUTES = 4
# Hosts must not call all at once. Both together, and what a timer may be late, stay below 5 minutes.
SPREAD_SECONDS = 40
STANDARD_FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")
PROGRAM_SECONDS = 20


class Job:
    """What is started: this file, for one home, and the name under which schedulers know it."""

    def __init__(self, home: str) -> None:
        self.home = os.path.abspath(home)
        self.program = os.path.abspath(__file__)
        # By the password database: crontab and systemd know the user by that, whatever $HOME says.
        usual = os.path.join(listed_home() or user_home(), ".codex")
        self.name = "cdx-watch"
        if os.path.realpath(home) != os.path.realpath(usual):
            self.name += "-" + sha256_of(os.path.realpath(home).encode("utf-8", "surrogateescape"))[:8]
        # Schedulers have a short PATH; the Python of this file may lie elsewhere.
        python = find_program("python3", os.environ.get("PATH", os.defpath))
        folders = [os.path.dirname(os.path.abspath(python))] if python and not changed_by_others(python) else []
        self.path = os.pathsep.join(dict.fromkeys([*folders, *STANDARD_FOLDERS]))
        self.needs_path = bool(folders) and folders[0] not in ("/usr/bin", "/bin")

    def check(self) -> None:
        """Raise SyncError unless the paths can stand in units and crontabs, and are root's where root installs it."""
        for path in (self.program, self.home):
            if re.search("[\x00-\x1f\x7f\ud800-\udfff]", path):
                raise SyncError("%r has characters that no scheduler takes; use another folder" % path)
            changeable = changed_by_others(path)
            if changeable:
                raise SyncError(
                    "root would work with %s, while others can change %s. Install it as the user whose it is"
                    % (path, changeable)
                )


def changed_by_others(path: str) -> str:
    """For root: the path, or the folder above it, that another user can change; an empty text without one.

    What root starts every few minutes must not be another's.
    """
    path = os.path.realpath(path)
    while os.geteuid() == 0:
        status = os.stat(path)
        if status.st_uid != 0 or status.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            return path
        if path == os.path.dirname(path):
            break
        path = os.path.dirname(path)
    return ""


def call_program(command: list[str], data: bytes = b"", env: dict[str, str] | None = None) -> Done:
    """Run a scheduler's program with messages in English; an exit code of 127 when it is not there."""
    import subprocess

    try:
        done = subprocess.run(
            command,
            input=data,
            capture_output=True,
            timeout=PROGRAM_SECONDS,
            env=dict(os.environ if env is None else env, LC_ALL="C"),
        )
    except (OSError, subprocess.SubprocessError) as error:
        return 127, b"", "%s: %s" % (command[0], error)
    return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace").strip()


def check_done(done: Done, what: str) -> None:
    """Raise SyncError when a scheduler's program has failed."""
    if done[0] != 0:
        text = (done[2] or done[1].decode("utf-8", "replace")).strip().replace("\n", "; ")
        raise SyncError("%s: %s" % (what, text or "exit code %d" % done[0]))


def write_entry(path: str, data: bytes) -> bool:
    """Make a scheduler's file hold `data`; returns whether it was changed. Raises SyncError."""
    try:
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if file.read() == data:
                return False
        os.makedirs(os.path.dirname(path), exist_ok=True)
        replace_file(path, data, 0o644)
    except OSError as error:
        raise SyncError("cannot write %s: %s" % (path, error.strerror)) from None
    return True


def any_below(limit: int) -> int:
    """Any number from 0 on below `limit`."""
    return int.from_bytes(os.urandom(4), "big") % limit
