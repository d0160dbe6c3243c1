"""Starts cdx without compiling it each time.

The compiled code is kept in the user's cache folder.

It runs at every start, so it imports little, and nothing of the other modules. The host's key and the other baked
constants are not part of the code that is kept.
"""

import hashlib
import marshal
import os
import stat
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType

# (file, key, code) of what was compiled in this run and is worth keeping.
NOT_KEPT: "list[tuple[str, bytes, CodeType]]" = []
# What a plain run does without, as (line of the file, text); the joined file has it.
LATER: "tuple[int, str]" = (0, "")


def compiled_folder() -> str:
    """The folder of compiled code below the user's own cache folder, or an empty text where there is none.

    Under sudo, $HOME and $XDG_CACHE_HOME may be another user's: nothing is read or written there.
    """
    for name, below in (("XDG_CACHE_HOME", ""), ("HOME", ".cache")):
        folder = os.environ.get(name, "")
        if os.path.isabs(folder) and owned(folder):
            return os.path.join(folder, below, "cdx")
    import pwd

    try:
        home = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return ""
    return os.path.join(home, ".cache", "cdx") if owned(home) else ""


def owned(folder: str) -> bool:
    """Whether a folder belongs to the user who runs this."""
    try:
        return os.stat(folder).st_uid == os.geteuid()
    except OSError:
        return False


def compiled_key(body: str, line: int) -> bytes:
    """What the compiled code depends on, as 32 bytes: text, place of the file, and Python."""
    python = repr((sys.version, sys.implementation.cache_tag, sys.flags.optimize, __file__, line))
    return hashlib.sha256((python + "\n" + body).encode("utf-8", "surrogatepass")).digest()


def private_folder(path: str) -> bool:
    """Whether a path is a folder of this user in which no other can write."""
    status = os.lstat(path)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def read_compiled(path: str, key: bytes) -> "CodeType | None":
    """The code in a file that only this user can have written, and wrote for this key; None for any other file."""
    try:
        if not private_folder(os.path.dirname(path)):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if (
                not stat.S_ISREG(status.st_mode)
                or status.st_uid != os.geteuid()
                or status.st_mode & 0o077
                or status.st_nlink != 1
            ):
                return None
            data = os.read(descriptor, status.st_size)
        finally:
            os.close(descriptor)
        # A file that is torn, or was renamed, has another digest or key.
        if data[:32] != key or hashlib.sha256(data[64:]).digest() != data[32:64]:
            return None
        code: CodeType = marshal.loads(data[64:])  # noqa: S302
    except (OSError, EOFError, ValueError, TypeError):
        return None
    return code


def load(body: str, line: int) -> "CodeType":
    """The code of `body`, which begins in this line of the file."""
    folder = compiled_folder()
    key = compiled_key(body, line)
    path = os.path.join(folder, key.hex() + ".code")
    code = read_compiled(path, key) if folder else None
    if code is None:
        import __future__

        # The empty lines give tracebacks the lines of the file.
        text = "\n" * (line - 1) + body
        code = compile(text, __file__, "exec", __future__.annotations.compiler_flag, True)
        # Python itself was told to read no environment.
        unwanted = sys.dont_write_bytecode or os.environ.get("PYTHONDONTWRITEBYTECODE")
        if folder and not unwanted:
            NOT_KEPT.append((path, key, code))
    return code


def later() -> None:
    """Make what a plain run does without a part of this program, unless it is."""
    global LATER
    line, text = LATER
    LATER = (0, "")
    if text:
        exec(load(text, line), globals())  # noqa: S102
