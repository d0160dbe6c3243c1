"""What a host may store for the whole fleet: auth documents and prompts. All may, until an admin says otherwise."""

from cdxsync.base.errors import Refused
from cdxsync.store.tables import Host

COLUMNS = {"store_auth": "allow_store_auth", "store_prompts": "allow_store_prompts"}
"""The permits, by their names in requests, with their columns."""
_THINGS = {"store_auth": "auth.json", "store_prompts": "prompts"}
_CODES = {"store_auth": "store_not_permitted", "store_prompts": "prompts_not_permitted"}


def refusal(host: Host, permit: str) -> Refused | None:
    """Why `host` may not do what `permit` (a name of `COLUMNS`) allows; None when it may."""
    if getattr(host, COLUMNS[permit]):
        return None
    return Refused(
        f"This host may not store {_THINGS[permit]}; an admin allows it with:"
        f" cdxsync hosts permit {host.fqdn} --{permit.replace('_', '-')} on",
        code=_CODES[permit],
    )
