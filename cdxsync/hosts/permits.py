"""What a host may store for the whole fleet: auth documents and prompts. All may, until an admin says otherwise."""

from collections.abc import Mapping
from typing import Any

from cdxsync.base.errors import Invalid, Refused
from cdxsync.base.settings import read_bool
from cdxsync.store.tables import Host

COLUMNS = {"store_auth": "allow_store_auth", "store_prompts": "allow_store_prompts"}
"""The permits, by their names in requests, with their columns."""
_THINGS = {"store_auth": "auth.json", "store_prompts": "prompts"}
_CODES = {"store_auth": "store_not_permitted", "store_prompts": "prompts_not_permitted"}


def shown(host: Host) -> dict[str, bool]:
    """The permits as reports of hosts have them."""
    return {column: bool(getattr(host, column)) for column in COLUMNS.values()}


def read_changes(given: Mapping[str, Any]) -> dict[str, bool]:
    """The columns to set, of `store_auth` and `store_prompts`; one that is absent or None stays as it is.

    Raises `Invalid` with all wrong fields, also when neither is given.
    """
    changes: dict[str, bool] = {}
    errors: dict[str, list[str]] = {}
    for name, column in COLUMNS.items():
        value = given.get(name)
        if value is None:
            continue
        try:
            changes[column] = read_bool(str(value) if value in (0, 1) else value)
        except ValueError:
            errors[name] = ["must be true or false (on or off)"]
    if not changes and not errors:
        errors = {name: ["one of store_auth and store_prompts is required: true or false"] for name in COLUMNS}
    if errors:
        raise Invalid(errors)
    return changes


def refusal(host: Host, permit: str) -> Refused | None:
    """Why `host` may not do what `permit` (a name of `COLUMNS`) allows; None when it may."""
    if getattr(host, COLUMNS[permit]):
        return None
    return Refused(
        f"This host may not store {_THINGS[permit]}; an admin allows it with:"
        f" cdxsync hosts permit {host.fqdn} --{permit.replace('_', '-')} on",
        code=_CODES[permit],
    )
