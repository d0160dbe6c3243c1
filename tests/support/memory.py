"""Where files lie that no loss of power threatens: tests end processes, and need not wait for a disk.

To have temporary folders elsewhere, set PYTEST_DEBUG_TEMPROOT or use `--basetemp`.
"""

import os
from pathlib import Path

_PLACE = Path("/dev/shm")
_LEAST_BYTES = 1 << 30


def folder() -> Path | None:
    """A folder in memory with space for what tests write, which may be programs too; None when there is none."""
    if not os.access(_PLACE, os.W_OK):
        return None
    found = os.statvfs(_PLACE)
    return _PLACE if found.f_bavail * found.f_frsize > _LEAST_BYTES and not found.f_flag & os.ST_NOEXEC else None
