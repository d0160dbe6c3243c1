"""What keeps a file from being read or replaced, and what its user can do about it."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.errors import SyncError

if TYPE_CHECKING:
    from typing import Tuple

    # What is wrong, and what helps; that may be an empty text.
    Trouble = Tuple[str, str]

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (errno.EACCES, errno.EPERM)


class FileTrouble(SyncError):
    """A file cannot be used; `fix` is what helps, as far as it is known."""

    def __init__(self, doing: str, path: str, error: OSError) -> None:
        cause, self.fix = trouble(path, error)
        text = "cannot %s %s: %s" % (doing, path, cause)
        super().__init__("%s (%s)" % (text, self.fix) if self.fix else text)


class Unreadable(FileTrouble):
    """auth.json is there and cannot be read."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__("read", path, error)


class Unwritable(FileTrouble):
    """auth.json cannot be written here: what stands in it may do for a while."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__("write", path, error)


def trouble(path: str, error: OSError, folder: bool = False) -> Trouble:
    """What is wrong with a file, or a folder, that gave this error, and what helps."""
    reason = error.strerror or str(error)
    real = os.path.realpath(path)
    if error.errno == errno.EROFS:
        return "its file system is read-only", "mount it writable"
    if error.errno in FULL_DISK:
        return reason, "free some space"
    try:
        found: os.stat_result | None = os.stat(real)
    except OSError:
        found = None
    if found is not None and not folder and not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no file"
        return "it is %s" % kind, "mv %s %s.moved" % (path, path)
    if error.errno == errno.ELOOP:
        return "it is a link that leads to itself", "rm %s" % path
    if error.errno == errno.EBUSY:
        return "it is a mount of its own", "mount its folder instead"
    if error.errno not in REFUSED:
        return reason, ""
    for place in (os.path.dirname(real), real):
        hindered = hindrance(place)
        if hindered is not None:
            return hindered
    if error.errno == errno.EPERM:
        both = (real, os.path.dirname(real))
        return "%s: it, or its folder, is marked as immutable" % reason, "sudo chattr -i %s %s" % both
    return reason, ""


def hindrance(place: str) -> Trouble | None:
    """What keeps this user from a file or folder: its owner, or its mode; None when neither does."""
    folder = os.path.isdir(place)
    wanted = os.R_OK | os.W_OK | (os.X_OK if folder else 0)
    if os.access(place, wanted):
        return None
    try:
        status = os.stat(place)
    except OSError:
        # What it lies in hinders.
        parent = os.path.dirname(place)
        return hindrance(parent) if parent != place else None
    if status.st_uid != os.geteuid():
        change = "sudo chown %s%d %s" % ("-R " if folder else "", os.geteuid(), place)
        return "%s belongs to %s" % (place, owner_name(status.st_uid)), change
    needed = 0o700 if folder else 0o600
    if status.st_mode & needed != needed:
        change = "chmod u+rw%s %s" % ("x" if folder else "", place)
        return "%s has mode %04o" % (place, stat.S_IMODE(status.st_mode)), change
    return None


def write_trouble(path: str) -> Unwritable | None:
    """What keeps a file that is there from being replaced, and written into."""
    real = os.path.realpath(path)
    try:
        os.close(os.open(real, os.O_WRONLY | os.O_NONBLOCK))
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.EACCES and os.access(os.path.dirname(real), os.W_OK | os.X_OK):
            return None  # it can be replaced
        return Unwritable(path, error)
    return None


def folder_trouble(folder: str) -> Trouble:
    """What keeps this user from working in a folder, and what helps."""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return trouble(folder, OSError(errno.EROFS, os.strerror(errno.EROFS)))
    return hindrance(folder) or (os.strerror(errno.EACCES), "")


def owner_name(user: int) -> str:
    """A user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return "user %d" % user
