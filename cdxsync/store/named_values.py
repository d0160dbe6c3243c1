"""Named values of the whole fleet, in the table `versions`."""

from datetime import UTC, datetime

from cdxsync.store import database
from cdxsync.store.queries import Prepared
from cdxsync.store.tables import Version

_VALUE = Prepared(lambda name: Version.select(Version.version).where(Version.name == name))
_DATED = Prepared(lambda name: Version.select(Version.version, Version.updated_at).where(Version.name == name))


def get(name: str) -> str | None:
    """The value of `name`, or None."""
    row = _VALUE.row(name=name)
    return None if row is None else str(row[0])


def get_dated(*names: str) -> dict[str, tuple[str, str]]:
    """The values of `names`, each with the time of its last change; missing ones are left out."""
    found = {name: _DATED.row(name=name) for name in names}
    return {name: (str(row[0]), str(row[1])) for name, row in found.items() if row is not None}


def put(name: str, value: str) -> None:
    """Set `name`, within the caller's write transaction."""
    changes = {"version": value, "updated_at": datetime.now(UTC).isoformat(timespec="seconds")}
    if not Version.update(changes).where(Version.name == name).execute():
        Version.insert(name=name, **changes).execute()
    database.outdate()


def drop(name: str) -> None:
    """Delete `name`, within the caller's write transaction."""
    Version.delete().where(Version.name == name).execute()
    database.outdate()
