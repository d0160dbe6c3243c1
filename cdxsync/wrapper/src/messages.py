"""What cdx tells its user, on standard error."""

from __future__ import annotations

import contextlib
import os
import sys


def say(text: str) -> None:
    """Print a message for the user on stderr: stdout belongs to Codex."""
    with contextlib.suppress(OSError):  # the terminal may be gone
        sys.stderr.write("cdx: %s\n" % text)
        sys.stderr.flush()


def debug(text: str) -> None:
    """Print what is done, when asked to."""
    if os.environ.get("CODEX_DEBUG", "0") not in ("", "0"):
        say(text)
