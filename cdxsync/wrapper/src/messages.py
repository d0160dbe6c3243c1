"""What cdx tells its user: messages on standard error, and the output of its own commands."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO


def say(text: str) -> None:
    """Print a message for the user on stderr: stdout belongs to Codex."""
    tell("cdx: %s\n" % text)


def tell(text: str) -> None:
    """Write on stderr as it is. It may be closed, full, or a terminal that is gone."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


def show(text: str) -> None:
    """Write the output of a command of cdx's own on stdout; what went wrong is found by `shown`."""
    if sys.stdout is not None:
        encoding = sys.stdout.encoding
        with contextlib.suppress(OSError):
            sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def shown() -> bool:
    """Whether all that was written on stdout has come through; says what hinders, unless its reader has had enough."""
    hindered = flushed(sys.stdout)
    if hindered is None or isinstance(hindered, BrokenPipeError):
        flushed(sys.stderr)
        return True
    say("the output cannot be written: %s" % hindered.strerror)
    flushed(sys.stderr)
    return False


def flushed(stream: TextIO | None) -> OSError | None:
    """What hinders a stream from being written. What is left of it is not tried again when Python ends."""
    if stream is None:
        return None
    try:
        stream.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return error
    return None


def debug(text: str) -> None:
    """Print what is done, when asked to."""
    if os.environ.get("CODEX_DEBUG", "0") not in ("", "0"):
        say(text)
