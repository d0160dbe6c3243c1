"""Keeps compiled code for the runs that follow; `boot` reads it."""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os

from cdxsync.wrapper.src.boot import NOT_KEPT, private_folder
from cdxsync.wrapper.src.files import replace_file

# Two of each start. Several versions of Python or of cdx may take turns; what is older goes.
KEPT_FILES = 12


def keep_compiled() -> None:
    """Write what this run had to compile. A run that cannot write it is none the worse."""
    while NOT_KEPT:
        path, key, code = NOT_KEPT.pop()
        folder = os.path.dirname(path)
        with contextlib.suppress(OSError, ValueError):
            os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            if private_folder(folder):
                data = marshal.dumps(code)
                replace_file(path, key + hashlib.sha256(data).digest() + data, durably=False)
                drop_oldest(folder)


def drop_oldest(folder: str) -> None:
    """Remove all but the newest files of compiled code."""
    with os.scandir(folder) as entries:
        ages = sorted((entry.stat(follow_symlinks=False).st_mtime_ns, entry.path) for entry in entries)
    for _, path in ages[:-KEPT_FILES]:
        os.unlink(path)
