"""Threads, where the system gives any."""

from __future__ import annotations

import threading

from cdxsync.wrapper.src.messages import debug


def started(thread: threading.Thread) -> bool:
    """Start a thread; returns whether it runs. A limit on processes or memory may leave us with none."""
    try:
        thread.start()
    except RuntimeError as error:
        debug("%s: doing without" % error)
        return False
    return True
