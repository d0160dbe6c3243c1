"""The background thread of a server that deletes what has had its time."""

import logging
import threading

from cdxsync.domain import clock, retention
from cdxsync.settings import Settings
from cdxsync.store import database

INTERVAL_SECONDS = 3600.0
_log = logging.getLogger("cdxsync.server")


class Housekeeping:
    """Prunes when it starts and then every hour, until it is stopped. Several servers may do it at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the batch that is under way."""
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            try:
                deleted = {name: count for name, count in retention.prune(self._settings, clock.now()).items() if count}
                if deleted:
                    _log.info("pruned %s", ", ".join(f"{count} of {name}" for name, count in deleted.items()))
            except Exception:
                _log.exception("pruning failed; it is tried again in an hour")
            if self._stop.wait(INTERVAL_SECONDS):
                database.close_database()
                return
