"""The fleet's documents: showing and listing them, comparing two, and making an old one canonical again."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import structs
from peewee import JOIN, fn

from cdxsync.auth import canonical, documents, login, offers, refresh
from cdxsync.auth.documents import AuthDocument
from cdxsync.auth.schemas import CanonicalShown, KeyChange, Payload, PayloadDiff, PayloadItem, PayloadPage, RolledBack
from cdxsync.base import clock
from cdxsync.base.clock import Instant
from cdxsync.base.errors import Conflict, NotFound
from cdxsync.store import audit
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet
from cdxsync.store.queries import newest_first
from cdxsync.store.tables import AuthPayload, Host

MAX_LIMIT = 500


def show(fleet: Fleet, *, include_body: bool, actor: str) -> CanonicalShown:
    """What the canonical document is, for admins. Raises `NotFound` when the fleet has none.

    With `include_body` its secrets too, and an audit row with the reader.
    """
    found = write(lambda: canonical.current(fleet))
    if found is None:
        raise NotFound(canonical.NONE_YET, code="canonical_missing")
    payload_id, document = found
    row = AuthPayload.get_by_id(payload_id)
    if include_body:
        write(lambda: audit.record("admin.auth.show", actor=actor, digest=document.digest))
    return CanonicalShown(
        canonical_last_refresh=document.last_refresh,
        canonical_digest=document.digest,
        account=document.account.label if document.account is not None else None,
        targets=list(document.entries),
        source=canonical.source_of(row),
        stored_at=row.created_at,
        offers=offers.standing(),
        ended=login.message_of(ended) if (ended := login.dead(document.content)) is not None else msgspec.UNSET,
        auth=msgspec.Raw(document.body) if include_body else msgspec.UNSET,
    )


def list_payloads(limit: int, before: int | None = None) -> PayloadPage:
    """The kept documents, newest first: at most `limit` of those with an id below `before`."""
    pointed = canonical.pointed_payload()
    query = AuthPayload.select(AuthPayload, Host.fqdn).join(Host, JOIN.LEFT_OUTER)
    rows, next_before = newest_first(query, AuthPayload.id, limit=limit, before=before)
    return PayloadPage(history=[_item(row, pointed) for row in rows], next_before=next_before)


def _item(row: AuthPayload, pointed: canonical.Pointed | None) -> PayloadItem:
    return PayloadItem(
        **structs.asdict(Payload.of(row)),
        source=getattr(row.source_host, "fqdn", None) or row.source,
        canonical=pointed is not None and row.id == pointed.id,
    )


def _payload(payload_id: int) -> AuthPayload:
    row = AuthPayload.get_or_none(AuthPayload.id == payload_id)
    if row is None:
        raise NotFound(f"No document {payload_id} is kept. See: cdxsync auth history", code="document_not_found")
    return row


def _pointed() -> canonical.Pointed:
    row = canonical.pointed_payload()
    if row is None:
        raise NotFound(canonical.NONE_YET, code="canonical_missing")
    return row


def _before(payload_id: int) -> AuthPayload:
    row: AuthPayload | None = (
        AuthPayload.select().where(AuthPayload.id < payload_id).order_by(AuthPayload.id.desc()).first()
    )
    if row is None:
        raise NotFound(
            f"No document from before {payload_id} is kept. See: cdxsync auth history", code="document_not_found"
        )
    return row


def diff(fleet: Fleet, from_id: int | None = None, to_id: int | None = None) -> PayloadDiff:
    """Which keys differ between two kept documents; never a value, nor anything about one.

    `to_id` is the canonical document by default, `from_id` the one stored before that of `to_id`.
    Raises `NotFound`, or `Failed` or `Invalid` when a document cannot be opened.
    """
    to = _payload(to_id) if to_id is not None else _payload(_pointed().id)
    since = _payload(from_id) if from_id is not None else _before(to.id)
    older, newer = canonical.open_payload(fleet, since), canonical.open_payload(fleet, to)
    changes = compare(older.content, newer.content)
    reordered = not changes and older.digest != newer.digest
    return PayloadDiff(since=Payload.of(since), to=Payload.of(to), changes=changes, reordered=reordered)


def compare(older: Mapping[str, Any], newer: Mapping[str, Any]) -> list[KeyChange]:
    """The keys that were added, removed or changed, by path; lists count as one value."""
    return [KeyChange(key=".".join(path), change=change) for path, change in sorted(_compare(older, newer, ()))]


def _compare(
    older: Mapping[str, Any], newer: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Literal["added", "removed", "changed"]]]:
    for key in older.keys() | newer.keys():
        here = (*path, key)
        if key not in newer:
            yield here, "removed"
        elif key not in older:
            yield here, "added"
        elif isinstance(older[key], dict) and isinstance(newer[key], dict):
            yield from _compare(older[key], newer[key], here)
        elif type(older[key]) is not type(newer[key]) or older[key] != newer[key]:
            yield here, "changed"


def candidate(fleet: Fleet, payload_id: int | None) -> AuthPayload:
    """The document that `rollback` would take, looked up only. Raises as that does."""
    pointed = _pointed()
    row = _payload(payload_id) if payload_id is not None else _unspent_before(fleet, pointed.id)
    if row.id == pointed.id:
        raise Conflict(f"Document {row.id} is the canonical one. Nothing was changed", code="document_is_canonical")
    if payload_id is not None and _is_spent(fleet, row):
        raise Conflict(
            f"The refresh token of document {row.id} was spent in a refresh; to use it again would end its login."
            " Nothing was changed. Take another one of: cdxsync auth history",
            code="document_spent",
        )
    return row


def _unspent_before(fleet: Fleet, payload_id: int) -> AuthPayload:
    """The newest document from before one, without those that a refresh has made useless."""
    before = AuthPayload.select().where(AuthPayload.id < payload_id).order_by(AuthPayload.id.desc())
    row: AuthPayload | None = next((row for row in before if not _is_spent(fleet, row)), None)
    if row is None:
        raise NotFound(
            f"No document from before {payload_id} is kept that is still good. See: cdxsync auth history",
            code="document_not_found",
        )
    return row


def _is_spent(fleet: Fleet, row: AuthPayload) -> bool:
    """Whether a server has spent, or may have spent, the refresh token of a document, and the fleet has another now."""
    same = AuthPayload.sha256 == row.sha256
    if row.credential_sha256 is not None:
        same |= AuthPayload.credential_sha256 == row.credential_sha256
    if not refresh.has_spent({copy.sha256 for copy in AuthPayload.select(AuthPayload.sha256).where(same)}):
        return False
    content, found = canonical.open_payload(fleet, row).content, canonical.current(fleet)
    return refresh.has_refresh_token(content) and (
        found is None or login.fingerprint(found[1].content) != login.fingerprint(content)
    )


def rollback(fleet: Fleet, payload_id: int | None, *, actor: str) -> RolledBack:
    """Make a kept document canonical again; None takes the newest from before the canonical one that is still good.

    One whose refresh token a server has spent is not: the provider ends a login of which a token is used twice.

    Hosts hold the replaced document, and its later date would win when they call. So a copy is stored, the same except
    for `last_refresh`, which becomes the present (`redated`), and it ranks after all that was taken before. Every host
    pulls it at its next run, and only a newer login or refresh replaces it.

    Raises `NotFound`, `Conflict`, and `Failed` or `Invalid` when the document cannot be opened.
    """

    def work() -> RolledBack:
        pointed = _pointed()
        row = candidate(fleet, payload_id)
        document = redated(fleet, canonical.open_payload(fleet, row))
        if document.account is not None:
            offers.forget_account(document.account)
        new_id = canonical.replace(fleet, document, source=f"rollback of {row.id}", host=None)
        details = {"from": pointed.id, "to": row.id, "stored_as": new_id}
        audit.record("admin.auth.rollback", actor=actor, host=None, digest=document.digest, **details)
        return RolledBack(
            since=pointed.id,
            to=row.id,
            stored_as=new_id,
            canonical_last_refresh=document.last_refresh,
            canonical_digest=document.digest,
            restored_last_refresh=row.last_refresh,
        )

    return write(work)


def redated(fleet: Fleet, document: AuthDocument) -> AuthDocument:
    """A copy of `document` with the present as its date, within a write transaction.

    It is later than every date of a document that the fleet has taken, unless one is too far ahead for that; then the
    rank alone makes the copy the newest (`canonical.replace`).
    """
    at = clock.now()
    instant = _newest(at)
    try:
        clock.check_document_date(clock.rfc3339(instant), at)
    except ValueError:
        instant = Instant.of(at)
    content = documents.dated(document.content, instant)
    return documents.canonicalise(content, at=at, token_min_length=fleet.settings.token_min_length)


def as_newest(fleet: Fleet, content: Mapping[str, Any], at: datetime) -> tuple[AuthDocument, datetime]:
    """`content` as a document that is newer than every other one, and when it counts as stored: not before its date.

    Within a write transaction. A clock that has been set back must not lose a login, nor the tokens of a refresh.
    Raises `Invalid`.
    """
    instant = _newest(at)
    stored_at = max(at, datetime.fromtimestamp(instant.microseconds / 1_000_000, UTC))
    dated = documents.dated(content, instant)
    made = documents.canonicalise(dated, at=stored_at, token_min_length=fleet.settings.token_min_length)
    return made, stored_at


def _newest(at: datetime) -> Instant:
    """A date later than those of all documents that the fleet has taken, and not before the time `at`."""
    return max(Instant.of(at), Instant(latest_taken().microseconds + 1))


def latest_taken() -> Instant:
    """The latest date of a document that the fleet has kept. What hosts say that they hold does not count."""
    return Instant(int(AuthPayload.select(fn.MAX(AuthPayload.last_refresh_us)).scalar() or 0))
