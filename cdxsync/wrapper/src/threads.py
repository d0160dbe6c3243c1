"""Threads, where the system gives any."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.messages import debug

if TYPE_CHECKING:
    from typing import Callable


def started(thread: threading.Thread) -> bool:
    """Start a thread; returns whether it runs. A limit on processes or memory may leave us with none."""
    try:
        thread.start()
    except RuntimeError as error:
        debug("%s: doing without" % error)
        return False
    return True


def beside(work: Callable[[], object]) -> threading.Thread | None:
    """Do something in a thread, which is returned; where there are none, at once."""
    thread = threading.Thread(target=work, daemon=True)
    if started(thread):
        return thread
    work()
    return None
