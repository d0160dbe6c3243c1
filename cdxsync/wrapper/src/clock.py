"""This machine's clock against the server's: a wrong one makes certificates and tokens look wrong."""

from __future__ import annotations

import contextlib
import http.client
import os
import ssl
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.api import DATE_CODES
from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.quota import shown_time, span
from cdxsync.wrapper.src.server import Server

if TYPE_CHECKING:
    from email.message import Message

# From here on certificates and tokens are judged wrong by it.
CLOCK_BROKEN_SECONDS = 86400.0
CLOCK_OFF_SECONDS = 60.0
SET_CLOCK = "set the clock and keep it right: sudo timedatectl set-ntp true"


def clock_ahead(headers: Message) -> float | None:
    """By how many seconds this clock is ahead of the one that an answer tells; None without one."""
    import email.utils

    with contextlib.suppress(KeyError, TypeError, ValueError, IndexError, OverflowError):
        return time.time() - email.utils.parsedate_to_datetime(headers["Date"]).timestamp()
    return None


def clock_ahead_unverified(server: Server) -> float | None:
    """The same of a server whose certificate this clock finds wrong. It gets neither the key nor anything else."""
    import copy

    stranger = copy.copy(server)
    stranger.trust_anyone()
    with contextlib.suppress(OSError, SyncError, http.client.HTTPException):
        connection = stranger.connect()
        try:
            connection.request("GET", server.path + "/versions")
            return clock_ahead(connection.getresponse().headers)
        finally:
            connection.close()
    return None


def clock_text(ahead: float) -> str:
    """A difference for people; empty when there is none."""
    if abs(ahead) <= CLOCK_OFF_SECONDS:
        return ""
    if abs(ahead) < CLOCK_BROKEN_SECONDS:
        return "this machine's clock is %d seconds off the server's" % ahead
    now = time.time()
    way = "ahead of" if ahead > 0 else "behind"
    told = (shown_time(now), span(abs(ahead)), way, shown_time(now - ahead))
    return "this machine's clock says %s, which is %s %s the server's %s" % told


def clock_before(path: str) -> str:
    """That a file is from the future, by this clock; empty when it is not."""
    with contextlib.suppress(OSError):
        made = os.stat(path).st_mtime
        if made - time.time() > CLOCK_BROKEN_SECONDS:
            return "this machine's clock says %s, and %s is from %s" % (shown_time(time.time()), path, shown_time(made))
    return ""


def blames_date(error: ssl.SSLError) -> bool:
    """Whether a certificate is refused for its dates."""
    return getattr(error, "verify_code", None) in DATE_CODES
