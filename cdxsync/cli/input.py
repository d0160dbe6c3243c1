"""Reading what a command is given: files, with - for standard input."""

import sys
from pathlib import Path


def read_bytes(file: Path) -> bytes:
    """The content of `file`, or of standard input for `-`. Raises `Failed`."""
    from cdxsync.errors import Failed

    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from None
