"""Named values of the whole fleet, in the table `versions`."""

from datetime import UTC, datetime

from cdxsync.store.tables import Version


def get(name: str) -> str | None:
    """The value of `name`, or None."""
    row = Version.get_or_none(Version.name == name)
    return None if row is None else str(row.version)


def get_dated(name: str) -> tuple[str, str] | None:
    """The value of `name` and when it was put, or None."""
    row = Version.get_or_none(Version.name == name)
    return None if row is None else (str(row.version), str(row.updated_at))


def put(name: str, value: str) -> None:
    """Set `name`, within the caller's write transaction."""
    changes = {"version": value, "updated_at": datetime.now(UTC).isoformat(timespec="seconds")}
    if not Version.update(changes).where(Version.name == name).execute():
        Version.insert(name=name, **changes).execute()


def drop(name: str) -> None:
    """Forget `name`, within the caller's write transaction."""
    Version.delete().where(Version.name == name).execute()
