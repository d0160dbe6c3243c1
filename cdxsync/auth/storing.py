"""A document that a host or an admin stores: whose login it is, when it counts as made, and whether it becomes
canonical (`docs/protocol.md 4.3, 4.9`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from cdxsync.auth import canonical, documents, grants, history, offers, sights, sync
from cdxsync.auth.account import Account, differs, static_kind
from cdxsync.auth.account_schemas import AccountChange
from cdxsync.auth.documents import AuthDocument
from cdxsync.auth.outcome import Outcome, record
from cdxsync.auth.sync import StoreStatus
from cdxsync.base import clock
from cdxsync.base.clock import Instant
from cdxsync.base.errors import Invalid
from cdxsync.base.settings import Settings
from cdxsync.hosts import registry
from cdxsync.hosts.schemas import LoginRule
from cdxsync.store import audit
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Host

BROUGHT = "login"
"""What a host says of a document that comes from a login which a person has just made."""
_DATE = "auth.last_refresh"


@dataclass(frozen=True)
class Given:
    """A document as it came: valid but for its date, perhaps.

    With a `problem` of its date, `document` has the present instead.
    """

    document: AuthDocument
    sent: Mapping[str, Any] = field(repr=False)
    at: Instant
    problem: Invalid | None = None
    brought: bool = False

    @property
    def digest(self) -> str:
        """The digest by which it is known, also without a date."""
        if self.problem is None:
            return self.document.digest
        return documents.digest_of({key: value for key, value in self.sent.items() if key != "last_refresh"})

    @property
    def names(self) -> frozenset[str]:
        """All digests by which its host may name it."""
        return self.document.digests | documents.names_of(self.sent)

    def remember(self, host: Host | None) -> AuthDocument:
        """The document with its rank, within a write transaction: a first sight is remembered if it is dated ahead."""
        names = {*self.document.digests, self.document.credential}
        rank = sights.rank_of(self.document.instant, names, self.at, host)
        return replace(self.document, rank=rank)

    def remember_ahead(self, host: Host) -> None:
        """Remember the first sight of a document that is dated too far ahead to be taken."""
        try:
            date = clock.parse_rfc3339(str(self.sent.get("last_refresh")))
        except ValueError:
            return
        if date > self.at:
            sights.rank_of(date, {*self.names, self.document.credential}, self.at, host)


def read(settings: Settings, value: object, at: datetime, *, brought: object = None) -> Given:
    """What a host or an admin wants to store. Raises `Invalid` with all that is wrong, but for the date alone."""
    errors = {"brought": ["must be login, or absent"]} if brought not in (None, BROUGHT) else {}
    moment, is_login = Instant.of(at), brought == BROUGHT
    problem: Invalid | None = None
    try:
        document = documents.canonicalise(value, at=at, token_min_length=settings.token_min_length)
    except Invalid as error:
        if errors:
            raise Invalid({**error.errors, **errors}) from None
        if not isinstance(value, dict) or error.errors.keys() != {_DATE}:
            raise
        problem = error
        document = documents.canonicalise(
            documents.dated(value, moment), at=at, token_min_length=settings.token_min_length
        )
    if errors:
        raise Invalid(errors)
    return Given(document, value if isinstance(value, dict) else {}, moment, problem, brought=is_login)


def by_host(fleet: Fleet, given: Given, host: Host, grant: str | None) -> Outcome | Invalid:
    """Store what a host brings, within a write transaction. Returns why it is refused: the call counts all the same."""
    payload_id, document = canonical.current(fleet) or (None, None)
    account = given.document.account
    fleets = document.account if document is not None else None
    rule: LoginRule | None = None
    if account is not None and differs(account, fleets):
        rule = offers.taken(host, account, given.names)
        if rule is None:
            return _offered(given, host, account, Outcome("refused", payload_id, document))
    if given.problem is not None and rule is None and not given.brought:
        given.remember_ahead(host)
        return given.problem
    more: dict[str, Any] = {"client_version": host.client_version}
    stored_at: datetime | None = None
    if given.brought or rule is not None:
        more |= {"brought": BROUGHT} if given.brought else {"accepted": rule}
        incoming = given.document
        status = sync.decide_login(incoming, document, replaced=_was_replaced(payload_id, given, rule))
        if status is StoreStatus.UPDATED:
            incoming, stored_at = _as_newest(fleet, given)
    else:
        incoming, status = _ranked(given, host, payload_id, document)
    if status is StoreStatus.UPDATED:
        payload_id = canonical.replace(fleet, incoming, source="host", host=host, at=stored_at)
        document = incoming
        if rule is not None and account is not None and fleets is not None:
            offers.settle(host, rule)
            offers.forget_account(account)
            more |= {"account": account.label, "account_before": fleets.label}
    outcome = Outcome(status, payload_id, document, grant)
    record("auth.store", outcome, given.document, actor=audit.host_actor(host), host=host, more=more)
    return outcome


def _offered(given: Given, host: Host, account: Account, outcome: Outcome) -> Invalid:
    """Keep what a host offers that is of another account; the login itself stays there."""
    if offers.note(host, account, given.digest, given.names):
        more = {"client_version": host.client_version, "reason": "another account", "account": account.label}
        if given.brought:
            more["brought"] = BROUGHT
        record("auth.store", outcome, given.document, actor=audit.host_actor(host), host=host, more=more)
    registry.note_digest(host, given.digest, refresh=True)
    if host.auth_digest != given.digest:
        held = {"last_refresh": given.document.last_refresh, "auth_digest": given.digest}
        Host.update(held).where(Host.id == host.id).execute()
    return offers.refusal(host, account)


def _ranked(
    given: Given, host: Host | None, payload_id: int | None, document: AuthDocument | None
) -> tuple[AuthDocument, StoreStatus]:
    """The document with its rank, and what becomes of it. What is not newer by its date needs no rank."""
    incoming, status = given.document, sync.decide_store(given.document, document)
    if status is not StoreStatus.UPDATED:
        return incoming, status
    incoming = given.remember(host)
    status = sync.decide_store(incoming, document)
    if status is StoreStatus.UPDATED and document is not None and payload_id is not None:
        replaced = incoming.credential != document.credential and canonical.was_replaced(
            payload_id, digest=incoming.digest, credential=incoming.credential
        )
        status = StoreStatus.OUTDATED if replaced else status
    return incoming, status


def _was_replaced(payload_id: int | None, given: Given, rule: LoginRule | None) -> bool:
    """Whether a login was the fleet's once. What an admin has accepted, and a key given again, may come back."""
    incoming = given.document
    if payload_id is None or rule == offers.ONCE or (given.brought and static_kind(incoming.content)):
        return False
    return canonical.was_replaced(payload_id, digest=incoming.digest, credential=incoming.credential)


def _as_newest(fleet: Fleet, given: Given) -> tuple[AuthDocument, datetime]:
    """The document as the newest of all, and when it counts as stored: as it is where its date is the latest."""
    at = clock.now()
    if given.problem is None and given.document.instant > history.latest_taken():
        return replace(given.document, rank=Instant.of(at)), at
    return history.as_newest(fleet, given.document.content, at)


def by_admin(
    fleet: Fleet, given: Given, *, host: Host | None, actor: str, force: bool, undated: bool
) -> tuple[Outcome, AuthDocument]:
    """Store what an admin uploads, within a write transaction; with the document as it was stored.

    Newest wins here too, unless forced: then a document that is not newer gets the present as its date, because hosts
    with a later one would send that back. So does one that is `undated`.
    """
    payload_id, document = canonical.current(fleet) or (None, None)
    incoming, status = given.document, sync.decide_store(given.document, document)
    if undated and document is not None:
        status = sync.decide_login(incoming, document, replaced=False)
        if status is StoreStatus.UPDATED:
            incoming = history.redated(fleet, incoming)
        else:
            incoming, status = document, StoreStatus.UNCHANGED
    elif status is StoreStatus.UPDATED:
        incoming = given.remember(None)
        status = sync.decide_store(incoming, document)
    if force and status is StoreStatus.OUTDATED:
        incoming, status = history.redated(fleet, incoming), StoreStatus.UPDATED
    change: AccountChange | None = None
    more: dict[str, Any] = {"client_version": host.client_version if host is not None else None}
    if force:
        more["forced"] = True
    if status is StoreStatus.UPDATED:
        change = _change(document, incoming)
        payload_id = canonical.replace(fleet, incoming, source="admin", host=host)
        document = incoming
        if change is not None:
            more |= {"account": change.now, "account_before": change.before}
    outcome = Outcome(status, payload_id, document, account_change=change)
    record("auth.store", outcome, incoming, actor=actor, host=host, more=more)
    return outcome, incoming


def _change(before: AuthDocument | None, now: AuthDocument) -> AccountChange | None:
    """Which account the fleet gets in place of which, where those differ; offers of it are settled."""
    old, new = before.account if before is not None else None, now.account
    if old is None or new is None or not differs(old, new):
        return None
    offers.forget_account(new)
    return AccountChange(before=old.label, now=new.label)


def refuse_grant(document: AuthDocument) -> None:
    """Raise `Invalid` for a document with a grant in it, which is no login."""
    if grants.in_document(document.content) is not None:
        raise Invalid(grants.FIELD_PROBLEM)
