"""Named values of the whole fleet, in the table `versions`. Each has a MAC (`store.rights`)."""

from datetime import UTC, datetime

from cdxsync.store import database, rights
from cdxsync.store.queries import Prepared
from cdxsync.store.tables import Version

_VALUE = Prepared(lambda name: Version.select(Version.version).where(Version.name == name))
_ROW = Prepared(
    lambda name: Version.select(Version.version, Version.updated_at, Version.mac).where(Version.name == name)
)


def get(name: str) -> str | None:
    """The value of `name`, or None. Raises `RowAltered`."""
    row = _read(name)
    return None if row is None else row[0]


def get_unchecked(name: str) -> str | None:
    """The value of `name`, whoever wrote it; also in a database without MACs."""
    row = _VALUE.row(name=name)
    return None if row is None else str(row[0])


def _read(name: str) -> tuple[str, str] | None:
    row = _ROW.row(name=name)
    if row is None:
        return None
    rights.check_values(Version, {"name": name, "version": row[0], "mac": row[2]})
    return str(row[0]), str(row[1])


def get_dated(*names: str) -> dict[str, tuple[str, str]]:
    """The values of `names`, each with the time of its last change; missing ones are left out. Raises `RowAltered`."""
    found = {name: _read(name) for name in names}
    return {name: row for name, row in found.items() if row is not None}


def put(name: str, value: str) -> None:
    """Set `name`, within the caller's write transaction."""
    changes = {"version": value, "updated_at": datetime.now(UTC).isoformat(timespec="seconds")}
    if not rights.update(Version, name, **changes):
        rights.insert(Version, name=name, **changes)
    database.outdate()


def drop(name: str) -> None:
    """Delete `name`, within the caller's write transaction."""
    Version.delete().where(Version.name == name).execute()
    database.outdate()
