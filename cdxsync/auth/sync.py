"""The rule of `POST /auth`: a host's document beside the canonical one (`docs/protocol.md 4.2 and 4.3`)."""

from collections.abc import Set
from enum import StrEnum

from cdxsync.auth.documents import AuthDocument
from cdxsync.base.clock import Instant


class RetrieveStatus(StrEnum):
    """Answers to `retrieve`, and what the host should do."""

    VALID = "valid"
    """Keep its file."""
    UPLOAD_REQUIRED = "upload_required"
    """Store its document, which is newer."""
    OUTDATED = "outdated"
    """Replace its file by the canonical document."""
    MISSING = "missing"
    """Store its document; the fleet has none."""


class StoreStatus(StrEnum):
    """Answers to `store`."""

    UPDATED = "updated"
    """The document is the canonical one now."""
    UNCHANGED = "unchanged"
    """It was already."""
    OUTDATED = "outdated"
    """It was not accepted; the canonical one is returned."""


def decide_retrieve(
    instant: Instant, digest: str, canonical: AuthDocument | None, *, rank: Instant | None = None
) -> RetrieveStatus:
    """Compare what a host says it has (`instant`, `digest`) with the canonical document.

    `rank` is its place in the order of documents; without it, its date. A rank is never later than the date, so what
    is not newer by its date needs none.
    """
    if canonical is None:
        return RetrieveStatus.MISSING
    if digest in canonical.digests:
        return RetrieveStatus.VALID
    if instant != canonical.instant and (instant if rank is None else rank) > canonical.rank:
        return RetrieveStatus.UPLOAD_REQUIRED
    return RetrieveStatus.OUTDATED


def decide_store(incoming: AuthDocument, canonical: AuthDocument | None, *, force: bool = False) -> StoreStatus:
    """Newest wins: a document of a strictly later rank replaces the canonical one.

    Of two documents with the same date the first acknowledged one stays. A second one with other content is `outdated`,
    as `retrieve` says too, and not `unchanged`: its sender must learn that it was not accepted. `force` (admins only)
    accepts any document that differs.
    """
    if canonical is None:
        return StoreStatus.UPDATED
    same_date = incoming.instant == canonical.instant
    if same_date and incoming.same_content(canonical):
        return StoreStatus.UNCHANGED
    if force or (not same_date and incoming.rank > canonical.rank):
        return StoreStatus.UPDATED
    return StoreStatus.OUTDATED


def decide_login(incoming: AuthDocument, canonical: AuthDocument | None, *, replaced: bool) -> StoreStatus:
    """A login that a person has just made is newer than all that is known, whatever its date.

    Unless it is the canonical login already, or was it once and has been `replaced`: then it is sent again.
    """
    if canonical is None:
        return StoreStatus.UPDATED
    if incoming.instant == canonical.instant and incoming.same_content(canonical):
        return StoreStatus.UNCHANGED
    if replaced or incoming.credential == canonical.credential:
        return StoreStatus.OUTDATED
    return StoreStatus.UPDATED


HOLDS_CANONICAL: Set[str] = {RetrieveStatus.VALID, StoreStatus.UPDATED, StoreStatus.UNCHANGED}
"""Answers after which the host holds the canonical document."""

RETURNS_DOCUMENT: Set[str] = {RetrieveStatus.OUTDATED, StoreStatus.UPDATED, StoreStatus.OUTDATED}
"""Answers that carry the canonical document and the host's summary (`docs/protocol.md 4.4`)."""

ASKS_TO_STORE: Set[str] = {RetrieveStatus.MISSING, RetrieveStatus.UPLOAD_REQUIRED}
"""Answers with `action: store`."""
