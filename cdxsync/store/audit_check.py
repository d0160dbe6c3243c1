"""Checks the audit log against its chain (`store.audit_chain`): which rows were changed, removed or added."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from peewee import fn

from cdxsync.store import audit_chain
from cdxsync.store.audit_chain import COVERED, Head, Keys
from cdxsync.store.schemas import LogProblem, LogsVerified
from cdxsync.store.sealing import UnknownKey
from cdxsync.store.tables import Host, LogEntry

LISTED = 20
"""Problems that an answer lists; the others are counted."""
_PAGE = 500


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    seq: int
    host: int | None
    host_ref: int | None
    hash: str
    mac: str | None
    created_at: str
    content: bytes


@dataclass
class _Walk:
    """How far the check has come."""

    keys: Keys
    expected: int
    """The number of the next row."""
    link: str | None
    """The hash of the row before."""
    hosts: dict[int, str]
    """When each host was registered."""
    doubted: bool = False
    """Whether the row before is not ours."""
    last_id: int = 0
    checked: int = 0
    unproven: list[_Row] = field(default_factory=list)
    """Rows under a key that is gone; a later row proves them."""
    problems: list[LogProblem] = field(default_factory=list)
    more: int = 0

    def say(
        self, kind: Any, problem: str, row: _Row | None = None, *, row_id: int | None = None, seq: int | None = None
    ) -> None:
        """Add a problem, of `row` or of what is given instead."""
        if len(self.problems) >= LISTED:
            self.more += 1
            return
        if row is not None:
            row_id, seq = row.id, row.seq
        self.problems.append(LogProblem(kind=kind, id=row_id, seq=seq, problem=problem))


def verify(keys: Keys, known: Head | None, *, newest: int | None = None) -> LogsVerified:
    """Check all rows, or only about the `newest` ones; changes nothing.

    `known` is what the witness knew before the state of the database that is read (`audit_chain.witnessed`).
    """
    begins = audit_chain.checkpoint()
    walk = _Walk(keys, 1, None, {row.id: row.created_at for row in Host.select(Host.id, Host.created_at)})
    in_chain = audit_chain.IN_CHAIN
    if begins is None:
        if known is not None or LogEntry.select(LogEntry.id).where(in_chain).exists():
            walk.say("checkpoint", "the row that says where the log begins is missing")
        else:
            return LogsVerified(ok=True, checked=0, before=_count(), since=None, problems=[], more=0)
    else:
        _check_beginning(walk, begins, whole=newest is None)
    first = begins.seq if begins is not None else 0
    if newest is not None:
        highest = LogEntry.select(fn.MAX(LogEntry.seq)).where(in_chain).scalar()
        first = max(first, int(highest or 0) - newest)
    if begins is not None and first == begins.seq:
        walk.link = begins.hash
    elif newest is not None:
        before = LogEntry.select(LogEntry.hash).where(LogEntry.seq == first).first()
        walk.link = before.hash if before is not None else None
    walk.expected = first + 1
    last_unchecked = begins.last_id if begins is not None else 0
    for _, group in groupby(_rows(first, last_unchecked), lambda row: row.seq):
        _examine(walk, list(group), known)
    _check_end(walk, known)
    if newest is None:
        _check_unsealed(walk, last_unchecked)
    return LogsVerified(
        ok=not walk.problems,
        checked=walk.checked,
        before=_count(LogEntry.id <= last_unchecked) if last_unchecked else 0,
        since=begins.created_at if begins is not None else None,
        problems=sorted(walk.problems, key=_place),
        more=walk.more,
    )


def _place(problem: LogProblem) -> tuple[bool, bool, int]:
    """First what is wrong with the beginning, then by rows, then what is wrong with the end."""
    return problem.kind != "checkpoint", problem.id is None, problem.id or 0


def _count(where: Any = None) -> int:
    query = LogEntry.select()
    return int((query if where is None else query.where(where)).count())


def _check_beginning(walk: _Walk, begins: Any, *, whole: bool) -> None:
    try:
        sound = audit_chain.is_sound(walk.keys, begins)
    except UnknownKey as error:
        walk.say("checkpoint", f"the row that says where the log begins cannot be checked: {error.message}")
        return
    if not sound:
        walk.say("checkpoint", "the row that says where the log begins was changed")
    elif whole and begins.last_id and _count(LogEntry.id <= begins.last_id) > begins.kept:
        walk.say(
            "added", f"there are more than the {begins.kept} rows up to id {begins.last_id} that were there before"
        )


def _rows(after: int, after_id: int) -> Iterator[_Row]:
    """The rows of the chain by number, a page in memory at a time."""
    columns = (LogEntry.id, LogEntry.seq, LogEntry.host, LogEntry.host_ref, LogEntry.hash, LogEntry.mac)
    query: Any = LogEntry.select(*columns, *(getattr(LogEntry, name) for name in COVERED)).where(
        audit_chain.IN_CHAIN & (LogEntry.id > after_id)
    )
    place = (after, 2**63 - 1)
    while True:
        later = (LogEntry.seq > place[0]) | ((LogEntry.seq == place[0]) & (LogEntry.id > place[1]))
        page = query.where(later).order_by(LogEntry.seq, LogEntry.id).limit(_PAGE)
        found = 0
        for row_id, seq, host, host_ref, row_hash, mac, *values in page.tuples():
            found, place = found + 1, (int(seq), int(row_id))
            content = audit_chain.content_of(int(seq), host_ref, tuple(values))
            created_at = str(values[COVERED.index("created_at")])
            yield _Row(int(row_id), int(seq), host, host_ref, row_hash or "", mac, created_at, content)
        if found < _PAGE:
            return


def _is_ours(walk: _Walk, row: _Row) -> bool | None:
    """Whether the row was written under the keyring; None when its key is gone."""
    if not row.mac:
        return False
    try:
        return audit_chain.is_ours(walk.keys, row.hash, row.content, row.mac)
    except UnknownKey:
        return None


def _examine(walk: _Walk, group: list[_Row], known: Head | None) -> None:
    """Check the rows of one number: one of them at most is right."""
    proofs = [_is_ours(walk, row) for row in group]
    fits = [row.seq == walk.expected and _follows(walk, row) for row in group]
    right = next((row for row, proof in zip(group, proofs, strict=True) if proof), None)
    if right is None:
        right = next((r for r, proof, fit in zip(group, proofs, fits, strict=True) if proof is None and fit), None)
        if right is None:
            _blame(walk, group)
            return
        walk.unproven.append(right)
    else:
        _accept(walk, right, follows=_follows(walk, right))
    for row in group:
        if row is not right:
            walk.say("added", f"row {row.id} was added: another row has its number {row.seq}", row)
    _check_place(walk, right)
    if known is not None and right.seq == known.seq and right.hash != known.hash:
        walk.say("changed", f"row {right.id} is not the one that was committed with number {right.seq}", right)
    walk.expected, walk.link, walk.last_id = right.seq + 1, right.hash, right.id
    walk.checked += 1


def _follows(walk: _Walk, row: _Row) -> bool:
    return walk.link is not None and audit_chain.hash_after(walk.link, row.content) == row.hash


def _accept(walk: _Walk, row: _Row, *, follows: bool) -> None:
    """Take a row that its MAC proves, and see whether the one before is the one that it was written after."""
    if row.seq > walk.expected:
        count = row.seq - walk.expected
        what = f"{count} rows were" if count > 1 else "a row was"
        walk.say("removed", f"{what} removed before row {row.id}", row_id=row.id, seq=walk.expected)
    elif not follows and walk.link is not None and (walk.unproven or not walk.doubted):
        wrong = walk.unproven[0] if walk.unproven else row
        walk.say(
            "changed", f"row {wrong.id} was changed, or is not the one that was here: the rows do not connect", wrong
        )
    walk.unproven.clear()
    walk.doubted = False


def _blame(walk: _Walk, group: list[_Row]) -> None:
    """None of the rows of a number is ours."""
    first, *others = group
    if first.seq == walk.expected:
        walk.say("changed", f"row {first.id} was changed", first)
        walk.expected, walk.link, walk.last_id = first.seq + 1, first.hash, max(walk.last_id, first.id)
        walk.doubted = True
    else:
        others = group
    for row in others:
        walk.say("added", f"row {row.id} was changed, or added", row)


def _check_place(walk: _Walk, row: _Row) -> None:
    """It has its host still, unless that was deleted; and its id is above that of the row before."""
    registered = walk.hosts.get(row.host_ref) if row.host_ref is not None and row.host is None else None
    taken_out = registered is not None and registered <= row.created_at
    if taken_out or row.host not in (None, row.host_ref):
        walk.say("changed", f"row {row.id} was changed: it is of host {row.host_ref}", row)
    if row.id <= walk.last_id:
        walk.say("changed", f"row {row.id} was moved: it comes after row {walk.last_id}", row)


def _check_end(walk: _Walk, known: Head | None) -> None:
    if walk.unproven:
        row = walk.unproven[0]
        walk.say("changed", f"row {row.id} is under a key that is not in the keyring, and no later row proves it", row)
    if known is not None and known.seq >= walk.expected:
        count = known.seq - walk.expected + 1
        what = f"{count} rows were" if count > 1 else "a row was"
        walk.say("removed", f"{what} removed at the end of the log", seq=walk.expected)


def _check_unsealed(walk: _Walk, last_unchecked: int) -> None:
    outside = audit_chain.OUTSIDE & (LogEntry.id > last_unchecked)
    ids = [row.id for row in LogEntry.select(LogEntry.id).where(outside).order_by(LogEntry.id).limit(LISTED)]
    for row_id in ids:
        walk.say(
            "unsealed",
            f"row {row_id} is not in the chain: an older cdxsync or a command without the keyring wrote it, or it was"
            " added",
            row_id=row_id,
        )
    if len(ids) == LISTED:
        walk.more += _count(outside) - LISTED
