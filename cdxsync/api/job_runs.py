"""Running a background job for a request: it asks for a run, and waits a while for that to end. No request calls
anybody outside itself.
"""

import threading
import time

from cdxsync.background import definitions, status
from cdxsync.base.settings import Settings
from cdxsync.jobs import lease, schedule

WAIT_SECONDS = 25.0
MAX_WAITING = 4
"""Requests that may wait at a time; the others answer at once, so that hosts always find a free thread."""
_LOOK_SECONDS = 0.1


class JobRuns:
    """The runs that the requests of one server wait for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._waiting = threading.Semaphore(MAX_WAITING)

    def run(self, name: str, *, actor: str) -> bool:
        """Have a job run; returns whether it has ended. Raises `NotFound`, or `Unavailable` when it is switched off."""
        spec = schedule.runnable(definitions.specs(self._settings), name)
        runs = lease.request(spec, actor=actor)
        if not self._waiting.acquire(blocking=False):
            return False
        try:
            until = time.monotonic() + WAIT_SECONDS
            while time.monotonic() < until:
                if lease.finished_since(name, runs):
                    return True
                if status.describe_job(self._settings, name)["state"] == schedule.State.HELD:
                    return False
                time.sleep(_LOOK_SECONDS)
            return False
        finally:
            self._waiting.release()
