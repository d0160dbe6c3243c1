"""The liveness probe of a database server that owes an answer: it is asked through another connection.

A statement may take as long as it takes: a check of a large database, a migration, a wait for others. The system's
limits on connections end those whose network loses all, but not those to a server that was stopped or hangs: its
machine goes on to acknowledge what it is sent.
"""

import threading
import time
from collections.abc import Callable

PATIENCE_SECONDS = 5.0
"""How long to wait for an answer before the server is asked, and between two times."""
CONNECT_SECONDS = 5
"""How long connecting may take."""
SILENT = "the server does not answer any more"
_FRESH_SECONDS = 2.0


class LivenessProbe:
    """Asks with `ask`, one thread for all that wait."""

    def __init__(self, ask: Callable[[], bool]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._known_until = 0.0
        self._is_there = True

    def is_there(self) -> bool:
        """Whether the server takes connections now, or did a moment ago."""
        with self._lock:
            if time.monotonic() >= self._known_until:
                self._is_there = self._ask()
                self._known_until = time.monotonic() + _FRESH_SECONDS
            return self._is_there
