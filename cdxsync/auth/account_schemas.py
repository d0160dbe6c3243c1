"""What answers say of accounts other than the fleet's, and the body by which an admin takes one's login."""

from collections.abc import Mapping
from typing import Any, cast, get_args

from msgspec import Struct

from cdxsync.base.errors import Invalid
from cdxsync.base.schema import Digest, Moment
from cdxsync.hosts.schemas import HostBrief, LoginRule


class AccountChange(Struct, frozen=True, kw_only=True):
    """The accounts of the document that was replaced, and of the one that is canonical now, in words."""

    before: str
    now: str


class LoginOffered(Struct, frozen=True, kw_only=True):
    """A login of another account than the fleet's, which a host has and admins may take."""

    host_id: int
    fqdn: str
    account: str
    """In words."""
    digest: Digest
    first_seen_at: Moment
    seen_at: Moment
    accepted: LoginRule


class LoginAccepted(Struct, frozen=True, kw_only=True):
    """A host after an admin has said what becomes of its logins of other accounts."""

    host: HostBrief
    offer: LoginOffered | None
    """What it has offered; once accepted, it is taken when the host calls."""


class AcceptBody(Struct, frozen=True, kw_only=True):
    """What becomes of logins of other accounts of a host."""

    rule: LoginRule = "once"

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "AcceptBody":
        """The body `given`. Raises `Invalid`."""
        rule = given.get("rule")
        if rule is None:
            return cls()
        if rule not in get_args(LoginRule):
            raise Invalid({"rule": [f"must be one of {', '.join(get_args(LoginRule))}"]})
        return cls(rule=cast(LoginRule, rule))
