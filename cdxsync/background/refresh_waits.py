"""Having the job `refresh` run for a host that asks, and waiting a while for what comes of it.

The host's call holds neither a transaction nor a connection to the database meanwhile.
"""

import threading
import time

from cdxsync.auth import canonical, rotation
from cdxsync.background import definitions
from cdxsync.base import clock
from cdxsync.base.settings import Settings
from cdxsync.jobs import lease, schedule
from cdxsync.jobs.schedule import State
from cdxsync.store import database
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet

WAIT_SECONDS = 25.0
RETRY_SECONDS = 5
_LOOK_SECONDS = 0.1


class RefreshWaits:
    """The refreshes that calls of one server process wait for; at most half of its threads, so that others are free."""

    def __init__(self, settings: Settings) -> None:
        self._waiting = threading.Semaphore(max(1, settings.threads // 2))

    def wait(self, fleet: Fleet, cause: str, payload_id: int) -> None:
        """Ask for a run, and wait until the fleet has another document than `payload_id`, or no run is to come.

        Returns at once when too many wait already.
        """
        spec = schedule.named(definitions.specs(fleet.settings), rotation.JOB)

        def ask() -> int:
            row = lease.row_of(rotation.JOB)
            # A run for another cause, as for a new document, would leave a refused token as it is.
            if row.wanted is None or (cause == rotation.REFUSED and row.wanted != schedule.MANUAL):
                lease.mark(rotation.JOB, cause)
            return row.runs

        runs = write(ask)
        if not self._waiting.acquire(blocking=False):
            return
        try:
            until = time.monotonic() + WAIT_SECONDS
            while time.monotonic() < until and not _is_over(spec, runs, payload_id):
                database.current().release()
                time.sleep(_LOOK_SECONDS)
        finally:
            self._waiting.release()


def _is_over(spec: schedule.Spec, runs: int, payload_id: int) -> bool:
    found = canonical.pointed_payload()
    if found is None or found.id != payload_id:
        return True
    row = lease.row_of(spec.name)
    state = schedule.state_of(spec, row, clock.now())
    if state is State.RUNNING:
        return False
    return state in (State.HELD, State.OFF) or (row.runs > runs and row.wanted is None)


def retry_after() -> int:
    """Seconds after which a host may ask again: when the provider may be asked, or soon."""
    row, at = lease.row_of(rotation.JOB), clock.now()
    if not schedule.is_ahead(row.not_before, at):
        return RETRY_SECONDS
    return max(RETRY_SECONDS, round((clock.read_stamp(str(row.not_before)) - at).total_seconds()))
