"""Whose a home is: none is made where another user has files, or could put some in place of ours.

Whoever owns a folder, or may rename in one of those above it, decides what stands in it, whatever its mode says later.
"""

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from cdxsync.base.errors import Conflict
from cdxsync.base.users import name_of

_ROOT = 0
_MOST_NAMED = 3
_OWN_DIRECTORY = "Give another --home"


def check_place(home: Path) -> None:
    """Raise `Conflict` when another user owns the folder `home`, or could replace it."""
    owner = home.stat().st_uid
    if owner not in _trusted():
        name = name_of(owner)
        raise Conflict(
            f"{home} belongs to the user {name}, who could replace what is made there. {_OWN_DIRECTORY}, or run"
            f" this as that user: sudo -u {shlex.quote(name)} cdxsync …",
            code="home_not_own",
        )
    for folder, reason in _replaceable(home.absolute()):
        raise Conflict(
            f"{folder} {reason}, so that others could put another home in place of {home}. {_OWN_DIRECTORY}",
            code="home_not_own",
        )


def check_content(home: Path) -> None:
    """Raise `Conflict` when something in `home` belongs to another user, or can be written by all."""
    strange = list(_strange(home))
    if strange:
        names = ", ".join(strange[:_MOST_NAMED]) + (" and more" if len(strange) > _MOST_NAMED else "")
        raise Conflict(
            f"{home} has files that other users own or can write: {names}. Remove them, or give another --home",
            code="home_not_own",
        )


def _strange(home: Path) -> Iterator[str]:
    trusted = _trusted()
    for folder, names, files in os.walk(home):
        for name in sorted(names + files):
            path = Path(folder) / name
            found = path.lstat()
            if found.st_uid not in trusted or (not stat.S_ISLNK(found.st_mode) and found.st_mode & stat.S_IWOTH):
                yield str(path.relative_to(home))


def _replaceable(home: Path) -> Iterator[tuple[Path, str]]:
    """The folders above it, and the links that lead to it, which others may change; each with the reason."""
    trusted = _trusted()
    for path in dict.fromkeys((home, *home.parents, *home.resolve().parents)):
        found = path.lstat()
        if found.st_uid not in trusted and not _is_unmapped(found.st_uid):
            yield path, f"belongs to the user {name_of(found.st_uid)}"
        elif (
            path != home
            and stat.S_ISDIR(found.st_mode)
            and found.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH
        ):
            yield path, "can be written by all users"


def _trusted() -> set[int]:
    return {_ROOT, os.geteuid()}


def _is_unmapped(uid: int) -> bool:
    """Whether it cannot be told whose this is: in a user namespace all users outside it look alike, root too."""
    try:
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
        mapped = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return False
    return uid == overflow and mapped != ["0", "0", "4294967295"]
