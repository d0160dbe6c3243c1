"""What expires is wiped when it expires, by each running server itself: no job has to come round for it.

The keys in unused installers expire. They are wiped from the rows, and from what the database's files keep of them.
"""

from cdxsync.base import clock
from cdxsync.hosts import installers
from cdxsync.store.database import current
from cdxsync.store.fleet import Fleet


class Expiring:
    """The looks of one process."""

    def __init__(self) -> None:
        self._must_scrub = True

    def look(self, fleet: Fleet) -> None:
        """Wipe what has expired by now, within the scope of the fleet's database."""
        if installers.wipe_expired(clock.now()):
            self._must_scrub = True
        if self._must_scrub:
            database = current()
            self._must_scrub = not database.engine.scrub(database.peewee)
