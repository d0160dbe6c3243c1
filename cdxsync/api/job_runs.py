"""Running a background job for a request: it asks the servers for a run, and waits a while for that to end.

No request calls a service outside.
"""

import threading

from cdxsync.api import access
from cdxsync.background import on_request
from cdxsync.base.settings import Settings

WAIT_SECONDS = 25.0
MAX_WAITING = 4
"""Requests that may wait at a time; the others answer at once, so that hosts always find a free thread."""


class JobRuns:
    """The runs that the requests of one server wait for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._waiting = threading.Semaphore(MAX_WAITING)

    def run(self, name: str) -> bool:
        """Have a job run for the caller of this request: an `on_request.Run`."""
        runs = on_request.ask_servers(self._settings, name, actor=access.actor())
        if not self._waiting.acquire(blocking=False):
            return False
        try:
            return on_request.wait_for_end(self._settings, name, runs, WAIT_SECONDS)
        finally:
            self._waiting.release()
