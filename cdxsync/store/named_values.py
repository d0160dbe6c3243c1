"""Named values of the whole fleet, in the table `versions`."""

from datetime import UTC, datetime

from cdxsync.store.tables import Version


def get(name: str) -> str | None:
    """The value of `name`, or None."""
    row = Version.get_or_none(Version.name == name)
    return None if row is None else str(row.version)


def get_dated(*names: str) -> dict[str, tuple[str, str]]:
    """The values of `names`, each with when it was put; those that are not there are left out."""
    rows = Version.select().where(Version.name.in_(names))
    return {row.name: (str(row.version), str(row.updated_at)) for row in rows}


def put(name: str, value: str) -> None:
    """Set `name`, within the caller's write transaction."""
    changes = {"version": value, "updated_at": datetime.now(UTC).isoformat(timespec="seconds")}
    if not Version.update(changes).where(Version.name == name).execute():
        Version.insert(name=name, **changes).execute()


def drop(name: str) -> None:
    """Forget `name`, within the caller's write transaction."""
    Version.delete().where(Version.name == name).execute()
