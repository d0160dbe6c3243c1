"""Logins of other accounts than the fleet's stay on their hosts, and admins may take them (`docs/protocol.md 4.9`).

The server keeps which account a host has offered, never the document: what an admin accepts, the host stores again.
"""

from collections.abc import Iterable
from typing import Literal

from cdxsync.auth import canonical
from cdxsync.auth.account import Account
from cdxsync.auth.account_schemas import LoginAccepted, LoginOffered
from cdxsync.auth.documents import NO_DATE, names_of
from cdxsync.base import clock
from cdxsync.base.errors import Conflict, Invalid
from cdxsync.hosts import registry
from cdxsync.hosts.schemas import HostBrief, LoginRule, login_rule
from cdxsync.store import audit, rights
from cdxsync.store.database import write
from cdxsync.store.tables import Host, LoginOffer

NO_DOCUMENT = names_of({"last_refresh": NO_DATE, "auths": {}})
"""The digests that a host may claim which has no document (`docs/protocol.md 3.5`)."""
ASK: Literal["ask"] = "ask"
ONCE: Literal["once"] = "once"
ALWAYS: Literal["always"] = "always"
NEVER: Literal["never"] = "never"


def of(host_id: int) -> LoginOffer | None:
    """What a host has offered last, or None; also where others have written that."""
    found: LoginOffer | None = LoginOffer.get_or_none(LoginOffer.host == host_id)
    return found if found is not None and rights.is_good(found) else None


def taken(host: Host, account: Account, names: Iterable[str]) -> LoginRule | None:
    """By which rule the login of another account is taken that a host stores now; None when it is not."""
    if host.other_account == ALWAYS:
        return ALWAYS
    if host.other_account != ONCE:
        return None
    offer = of(host.id)
    if offer is None:
        return None
    known = account.fingerprint == offer.account_sha256 or not set(names).isdisjoint(offer.digests.split())
    return ONCE if known else None


def is_wanted(host: Host, digest: str, pointed: int) -> bool:
    """Whether a host that is behind, and holds the document `digest`, is to store it: an admin has accepted it."""
    if host.other_account == ALWAYS:
        return digest not in NO_DOCUMENT and not canonical.was_replaced(pointed, digest=digest)
    offer = of(host.id) if host.other_account == ONCE else None
    return offer is not None and digest in offer.digests.split()


def refusal(host: Host, account: Account) -> Invalid:
    """What a host is told whose login is of another account than the fleet's."""
    text = (
        f"is a login of another account ({account.label}) than the fleet's; an admin takes it with:"
        f" cdxsync auth accept {host.fqdn}"
    )
    return Invalid({"auth": [text]}, code="other_account")


def note(host: Host, account: Account, digest: str, names: Iterable[str]) -> bool:
    """Keep what a host offers, within a write transaction; whether account or digest are news."""
    stamp = clock.stamp(clock.now())
    before, known = of(host.id), LoginOffer.select().where(LoginOffer.host == host.id).exists()
    label = account.label[:255]
    kept = {"account": label, "account_sha256": account.fingerprint, "digest": digest, "seen_at": stamp}
    kept["digests"] = " ".join(sorted(set(names)))
    if not known:
        rights.insert(LoginOffer, host=host.id, first_seen_at=stamp, **kept)
        return True
    if before is None:
        rights.update(LoginOffer, host.id, first_seen_at=stamp, **kept)
        return True
    news = (before.account_sha256, before.digest) != (account.fingerprint, digest)
    if before.account_sha256 != account.fingerprint:
        kept["first_seen_at"] = stamp
    rights.update(LoginOffer, host.id, **kept)
    return news


def settle(host: Host, rule: LoginRule | None) -> None:
    """Forget what a host has offered, within the write transaction that makes its login the fleet's."""
    LoginOffer.delete().where(LoginOffer.host == host.id).execute()
    if rule == ONCE:
        rights.update(Host, host.id, other_account=None)
        host.other_account = None


def forget_account(account: Account) -> None:
    """Forget the offers of an account that is the fleet's by now, within a write transaction."""
    LoginOffer.delete().where(LoginOffer.account_sha256 == account.fingerprint).execute()


def standing() -> list[LoginOffered]:
    """What admins may want to take: the offers of hosts that hold another document than the fleet's, by host."""
    pointed = canonical.pointed_payload()
    other = Host.auth_digest.is_null() | (Host.auth_digest != (pointed.sha256 if pointed is not None else ""))
    rows = LoginOffer.select(LoginOffer, Host).join(Host).where(other).order_by(Host.fqdn)
    return [_shown(row, row.host) for row in rows if rights.is_good(row)]


def standing_of(host: Host) -> LoginOffered | None:
    """The offer of one host among them, or None."""
    pointed, offer = canonical.pointed_payload(), of(host.id)
    if offer is None or (pointed is not None and host.auth_digest == pointed.sha256):
        return None
    return _shown(offer, host)


def _shown(row: LoginOffer, host: Host) -> LoginOffered:
    return LoginOffered(
        host_id=host.id,
        fqdn=host.fqdn,
        account=row.account,
        digest=row.digest,
        first_seen_at=row.first_seen_at,
        seen_at=row.seen_at,
        accepted=login_rule(host),
    )


def accept(host: Host, rule: LoginRule, *, actor: str) -> LoginAccepted:
    """Say what becomes of logins of other accounts of a host; `once` is for the one that it has offered.

    Raises `Conflict` when it has offered none, `NotFound` when the host has been deleted meanwhile.
    """

    def work() -> LoginAccepted:
        offer = of(host.id)
        if rule == ONCE and offer is None:
            raise Conflict(
                f"{host.fqdn} has offered no login of another account. To take every one that comes:"
                f" cdxsync auth accept {host.fqdn} --always",
                code="login_not_offered",
            )
        rights.update(Host, host.id, other_account=None if rule == ASK else rule)
        changed = registry.by_id(host.id)
        account = offer.account if offer is not None else None
        audit.record("admin.auth.accept", actor=actor, host=changed, fqdn=changed.fqdn, accepted=rule, account=account)
        return LoginAccepted(host=HostBrief.of(changed), offer=standing_of(changed))

    return write(work)
