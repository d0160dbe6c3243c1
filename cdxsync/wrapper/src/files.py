"""Places of files, and files that are replaced in one step."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pwd
import stat
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.messages import debug

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, Tuple

    # Inode, size in bytes, and time of the last change in nanoseconds.
    Identity = Tuple[int, int, int]

# A file gives these when it cannot be replaced, but may be written into.
NOT_REPLACEABLE = (errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV)
# What Python may set LC_CTYPE to.
COERCED = ("C.UTF-8", "C.utf8", "UTF-8")


def user_home() -> str:
    """The user's home: $HOME, unless it is unset or, under sudo or cron, somebody else's."""
    home = os.environ.get("HOME", "")
    if not os.path.isabs(home) or not os.path.isdir(home):
        return listed_home() or home or "/"
    invoker = os.environ.get("SUDO_UID", "")
    foreign = os.geteuid() != 0 and not os.access(home, os.W_OK | os.X_OK)
    if foreign or (os.geteuid() == 0 and invoker not in ("", "0") and str(os.stat(home).st_uid) == invoker):
        return listed_home() or home
    return home


def listed_home() -> str:
    """The user's home as the password database has it, which may ask other machines; empty without an entry."""
    return pwd.getpwuid(os.geteuid()).pw_dir if known_user() else ""


def known_user() -> bool:
    """Whether the user has an entry in the password database."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return True


def codex_home_path() -> str:
    """The folder of auth.json, which may not be there."""
    return os.environ.get("CODEX_HOME") or os.path.join(user_home(), ".codex")


def codex_home() -> str:
    """The folder of auth.json, made when it is missing."""
    home = codex_home_path()
    try:
        os.makedirs(home, mode=0o700, exist_ok=True)
    except OSError as error:
        raise SyncError("cannot create %s: %s" % (home, error.strerror)) from None
    return home


def own_folder(home: str, *names: str) -> str:
    """A folder for cdx's own notes, below `home`, private to its owner."""
    path = os.path.join(home, ".cdx", *names)
    with contextlib.suppress(OSError):
        os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def child_environment() -> dict[str, str]:
    """The environment for Codex: without the host's key, which is none of its business.

    Where $HOME is not the user's, Codex is told which folder was synced.
    """
    env = {name: value for name, value in os.environ.items() if name not in ("", "CODEX_SYNC_API_KEY")}
    if env.get("LC_CTYPE") in COERCED and not env.get("LC_ALL"):
        undo_coercion(env)
    home = user_home()
    if not env.get("CODEX_HOME") and env.get("HOME") != home:
        env["CODEX_HOME"] = os.path.join(home, ".codex")
    return env


def undo_coercion(env: dict[str, str]) -> None:
    """Give LC_CTYPE the value that the user has set, if any: in the C locale Python sets it for itself."""
    with contextlib.suppress(OSError), open("/proc/self/environ", "rb") as file:
        given = [entry for entry in file.read().split(b"\0") if entry.startswith(b"LC_CTYPE=")]
        env.pop("LC_CTYPE")
        if given:
            env["LC_CTYPE"] = os.fsdecode(given[0][len(b"LC_CTYPE=") :])


def identity_of(status: os.stat_result) -> Identity:
    """What changes when a file is written or replaced."""
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def file_identity(path: str) -> Identity | None:
    """`identity_of` a file, or None without one."""
    try:
        return identity_of(os.stat(path))
    except OSError:
        return None


def keep_owner(descriptor: int, path: str) -> None:
    """Give a new file to the owner of the one that it replaces: root may work in a user's home, as by sudo."""
    with contextlib.suppress(OSError):
        owner = os.lstat(path)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def replace_file(
    path: str, data: bytes, mode: int = 0o600, unless: Callable[[], bool] | None = None, durably: bool = True
) -> Identity | None:
    """Replace `path` by bytes in one step, private from the first byte; a reader sees the old file or the new one.

    `unless` is called just before; when it returns true, nothing is replaced. `durably`: also after a power cut.
    Returns the new file's identity, or None when it was not replaced. Raises OSError, also for what is no file.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(errno.EINVAL, "it is no file")
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, ".%s.%s" % (name[:200], os.urandom(8).hex()))
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if os.geteuid() == 0:
                keep_owner(file.fileno(), path)
            file.write(data)
            file.flush()
            if mode != 0o600:
                os.fchmod(file.fileno(), mode)
            if durably:
                os.fsync(file.fileno())
            identity = identity_of(os.fstat(file.fileno()))
        if unless is not None and unless():
            os.unlink(temporary)
            return None
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if durably:
        with contextlib.suppress(OSError):
            handle = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    return identity


def read_regular(path: str) -> tuple[bytes, os.stat_result]:
    """The content of a file, and what the system says of it. Raises OSError, also for what is no file, as a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(), status
    finally:
        os.close(descriptor)


def put_file(path: str, data: bytes, unless: Callable[[], bool] | None = None) -> Identity | None:
    """As `replace_file`, for a private file. What can only be written into, as a mount, is written into."""
    try:
        return replace_file(path, data, unless=unless)
    except OSError as error:
        if error.errno not in NOT_REPLACEABLE:
            raise
        try:
            return overwrite_file(path, data, unless)
        except OSError as second:
            # Of a mount the second says more.
            raise second if error.errno == errno.EBUSY else error from None


def overwrite_file(path: str, data: bytes, unless: Callable[[], bool] | None) -> Identity | None:
    """Write into a file that is there, made private before. Raises OSError; the old content stays then."""
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
        old = file.read()
        if unless is not None and unless():
            return None
        try:
            write_all(descriptor, data)
        except OSError:
            with contextlib.suppress(OSError):
                write_all(descriptor, old)
            raise
        return identity_of(os.fstat(descriptor))


def write_all(descriptor: int, data: bytes) -> None:
    """Make bytes the whole content of an open file, durably."""
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], written)
    os.ftruncate(descriptor, len(data))
    os.fsync(descriptor)


def read_json(path: str) -> dict[str, Any]:
    """The JSON object in a file of our own; empty when there is none."""
    with contextlib.suppress(OSError, ValueError):
        value = json.loads(read_regular(path)[0].decode("utf-8"))
        if isinstance(value, dict):
            return value
    return {}


def write_json(path: str, value: object) -> None:
    """Replace a file of our own, of which an old one does no harm. What cannot be kept is done without."""
    try:
        replace_file(path, json.dumps(value).encode(), durably=False)
    except OSError as error:
        debug("%s: %s" % (path, error.strerror))


@contextlib.contextmanager
def locked(path: str, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file, or a folder; yields whether it is held. Where those cannot be locked, it does not wait."""
    descriptor = None
    held = True
    try:
        descriptor = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held = False
    except OSError as error:
        debug("%s: %s" % (path, error.strerror))
    try:
        yield held
    finally:
        if descriptor is not None:
            os.close(descriptor)


def paths_in(folder: str, ending: str) -> list[str]:
    """The files in a folder whose names end so, by name; none where it cannot be read."""
    with contextlib.suppress(OSError):
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(ending)]
    return []


def find_program(name: str, folders: str) -> str | None:
    """The first program of this name in folders that are separated as on PATH."""
    for folder in folders.split(os.pathsep):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def sha256_of(data: bytes) -> str:
    """SHA-256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: str) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def take_away(path: str) -> OSError | None:
    """Remove a file with a secret, or empty it where that cannot be, as with a mount. Returns what hinders.

    Where it is a link to a file, that goes: the link alone would leave the secret on the disk.
    """
    real = os.path.realpath(path)
    try:
        os.unlink(real if os.path.isfile(real) else path)
    except FileNotFoundError:
        return None
    except OSError as error:
        try:
            if not os.path.isfile(real):
                return error
            overwrite_file(real, b"{}\n", None)
        except OSError:
            return error
    return None


def remove(path: str) -> str | None:
    """Remove a file or folder; returns what hinders, or None."""
    import shutil

    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror or str(error)
    return None
