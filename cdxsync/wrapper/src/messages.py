"""What cdx tells its user, on standard error."""

from __future__ import annotations

import contextlib
import os
import sys


def say(text: str) -> None:
    """Tell the user something, on stderr: stdout belongs to Codex."""
    with contextlib.suppress(OSError):  # the terminal may be gone
        sys.stderr.write("cdx: %s\n" % text)
        sys.stderr.flush()


def debug(text: str) -> None:
    """Tell what is done, when asked to."""
    if os.environ.get("CODEX_DEBUG", "0") not in ("", "0"):
        say(text)
