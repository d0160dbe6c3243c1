"""When the server first saw a document that is dated ahead of its clock (`docs/protocol.md 3.6`).

Dates are of hosts' clocks. A document from a clock that is ahead would stay the newest until that time has come, over
logins that are made meanwhile. So it counts as of its first sight. Others count as of their date, and need no row.
"""

from collections.abc import Iterable

from peewee import fn

from cdxsync.base.clock import Instant
from cdxsync.store.tables import DocumentSight, Host

MAX_PER_HOST = 60
"""Rows that one host may cause; then its oldest go."""
KEEP_DAYS = 400


def rank_of(date: Instant, names: Iterable[str], at: Instant, host: Host | None) -> Instant:
    """The rank of a document of this date, as of now (`at`), within a write transaction: the date, or its first sight.

    `names` are digests of it or of its tokens. One that is ahead of the clock is remembered by each of them.
    """
    wanted = sorted(set(names))
    rows = DocumentSight.select(DocumentSight.sha256, DocumentSight.seen_us).where(DocumentSight.sha256.in_(wanted))
    known = {row.sha256: Instant(int(row.seen_us)) for row in rows}
    if date > at:
        seen = min([at, *known.values()])
        for name in wanted:
            if name not in known:
                _remember(name, date, seen, host)
        if known:
            later = DocumentSight.sha256.in_(list(known)) & (DocumentSight.dated_us < date.microseconds)
            DocumentSight.update(dated_us=date.microseconds).where(later).execute()
        if host is not None and len(known) < len(wanted):
            _drop_oldest(host)
    return min([date, at, *known.values()])


def _remember(name: str, date: Instant, seen: Instant, host: Host | None) -> None:
    DocumentSight.insert(
        sha256=name,
        host=host.id if host is not None else None,
        dated_us=date.microseconds,
        seen_us=seen.microseconds,
    ).execute()


def _drop_oldest(host: Host) -> None:
    mine = DocumentSight.host == host.id
    surplus = int(DocumentSight.select(fn.COUNT(DocumentSight.id)).where(mine).scalar() or 0) - MAX_PER_HOST
    if surplus > 0:
        oldest = DocumentSight.select(DocumentSight.id).where(mine).order_by(DocumentSight.id).limit(surplus)
        DocumentSight.delete().where(DocumentSight.id.in_([row.id for row in oldest])).execute()
