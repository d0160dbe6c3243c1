"""The chain of the audit log: who can write the database, but has not the keyring, cannot change it unnoticed.

Rows are numbered without gaps in the order of their commits (`seq`), which is one order for all writers of a database.
Each has a hash over the hash of the row before and its own content, and a MAC over both under the keyring: so a row
that was changed, moved, removed or added shows (`store.audit_check`). The MAC proves a row by itself; the hash proves
rows whose key has been retired, through any later row.

The table `log_checkpoints` says, under a MAC of its own, where the chain begins: older rows were there before the chain
was, or an admin has accepted them as they are, or they have been deleted with age. A witness in the home, outside of
the database, knows the newest row that this machine has committed: without it the newest rows could be removed. A
server that finds them missing goes on numbering after them, so that the gap stays.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from cdxsync.base.errors import CdxsyncError
from cdxsync.store import database
from cdxsync.store.database import Database, current
from cdxsync.store.queries import Prepared
from cdxsync.store.sealing import UnknownKey
from cdxsync.store.tables import LogCheckpoint, LogEntry

WITNESS_NAME = "log-head.json"
COVERED = ("actor", "action", "details", "created_at", "request_id", "ip")
"""The columns that the hash covers, beside the number and the host's id."""
NOT_IN_CHAIN: Mapping[str, Any] = {"seq": None, "host_ref": None, "hash": None, "mac": None}
_ROWS, _CHECKPOINT = "logs", "log checkpoints"
_BEGINNING = "0" * 64
_LOOK_BACK = 100
"""Rows at the end, made by others, that are passed over in search of the newest of ours."""
_HEAD = object()
_MOST = 2**62
IN_CHAIN = LogEntry.seq.is_null(False) & (LogEntry.seq <= _MOST)
"""Rows with a number. In an SQLite file it may be a text, which is above all numbers: such a row is outside."""
OUTSIDE = LogEntry.seq.is_null() | (LogEntry.seq > _MOST)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_log = logging.getLogger("cdxsync.store")
_NEWEST = Prepared(
    lambda limit: (
        LogEntry.select(
            LogEntry.seq, LogEntry.hash, LogEntry.mac, LogEntry.host_ref, *(getattr(LogEntry, name) for name in COVERED)
        )
        .where(IN_CHAIN)
        .order_by(LogEntry.seq.desc(), LogEntry.id.desc())
        .limit(limit)
    )
)


class Keys(Protocol):
    """What checks MACs: a `Keyring` or a `KeyringFile`."""

    def is_mac_of(self, message: bytes, mac: str, purpose: str) -> bool:
        """Whether `mac` is one of `message` for `purpose`. Raises `UnknownKey`."""


class Head(NamedTuple):
    """A row of the chain: its number and its hash."""

    seq: int
    hash: str


@dataclass
class _Progress:
    """What this process knows of a database."""

    known: Head | None = None
    """The newest row that was committed here, or that the witness knew at first."""
    asked: bool = False
    newest: int = 0
    """The number given out last."""
    complained: bool = False


_progress: "weakref.WeakKeyDictionary[Database, _Progress]" = weakref.WeakKeyDictionary()


def content_of(seq: int, host_ref: int | None, values: tuple[Any, ...]) -> bytes:
    """What the hash covers of a row; `values` are its columns `COVERED`."""
    return _encode([seq, host_ref, *values]).encode("utf-8", "surrogatepass")


def hash_after(previous: str, content: bytes) -> str:
    """The hash of a row, from that of the row before."""
    return hashlib.sha256(previous.encode() + b"\n" + content).hexdigest()


def is_ours(keys: Keys, row_hash: str, content: bytes, mac: str | None) -> bool:
    """Whether a row was written under the keyring with this hash and content. Raises `UnknownKey`."""
    return keys.is_mac_of(row_hash.encode() + b"\n" + content, mac or "", _ROWS)


def link(host: int | None, values: tuple[Any, ...]) -> Mapping[str, Any]:
    """The columns that put a new row, with the columns `COVERED`, at the end of the chain; within write work.

    Where there is no keyring the row stays outside of the chain, and `logs verify` says so.
    """
    here = current()
    try:
        keyring = here.keyring
        if keyring is None:
            return NOT_IN_CHAIN
        before = _head(here)
        if before is None:
            return NOT_IN_CHAIN
        seq = before.seq + 1
        content = content_of(seq, host, values)
        hashed = hash_after(before.hash, content)
        mac = keyring.mac(hashed.encode() + b"\n" + content, _ROWS)
    except CdxsyncError as error:
        _complain(_of(here), "this audit row is not in the chain: %s", error.message)
        return NOT_IN_CHAIN
    head = Head(seq, hashed)
    writer = here.writer_here()
    if writer is not None:
        writer.generation[_HEAD] = head
    _of(here).newest = seq
    database.after_commit(lambda: _committed(here, head))
    return {"seq": seq, "host_ref": host, "hash": hashed, "mac": mac}


def _of(here: Database) -> _Progress:
    return _progress.setdefault(here, _Progress())


def _complain(progress: _Progress, text: str, *values: object) -> None:
    if not progress.complained:
        progress.complained = True
        _log.error(text, *values)


def _head(here: Database) -> Head | None:
    """The row that the next one follows; None when rows are there, but none of them is ours."""
    writer = here.writer_here()
    if writer is not None and _HEAD in writer.generation:
        kept: Head = writer.generation[_HEAD]
        return kept
    progress = _of(here)
    if not progress.asked:
        progress.asked, progress.known = True, witnessed(here)
    known, found = progress.known, newest()
    if known is not None and (found is None or found.seq <= known.seq) and found != known:
        _complain(
            progress,
            "the audit log ends at row %s of its chain, but row %s was committed: rows were removed. See: cdxsync logs"
            " verify",
            found.seq if found is not None else 0,
            known.seq,
        )
        return known
    if found is None:
        if LogEntry.select(LogEntry.id).where(IN_CHAIN).exists():
            _complain(progress, "no row of the audit log is of this keyring. See: cdxsync logs verify")
            return None
        found = begin(Head(0, _BEGINNING))
    return found


def newest() -> Head | None:
    """The newest row that is ours, or where the chain begins when there is none; None without either."""
    keys = current().keyring
    if keys is None:
        return None
    for row in _NEWEST.rows(limit=_LOOK_BACK):
        seq, row_hash, mac, host_ref, *values = row
        with contextlib.suppress(UnknownKey):
            if is_ours(keys, row_hash or "", content_of(int(seq), host_ref, tuple(values)), mac):
                return Head(int(seq), str(row_hash))
    found = checkpoint()
    with contextlib.suppress(UnknownKey):
        if found is not None and is_sound(keys, found):
            return Head(found.seq, found.hash)
    return None


def checkpoint() -> LogCheckpoint | None:
    """The row that says where the chain begins."""
    found: LogCheckpoint | None = LogCheckpoint.get_or_none(LogCheckpoint.name == _ROWS)
    return found


def is_sound(keys: Keys, found: LogCheckpoint) -> bool:
    """Whether the checkpoint was written under the keyring. Raises `UnknownKey`."""
    return keys.is_mac_of(_text_of(found), found.mac, _CHECKPOINT)


def _text_of(found: LogCheckpoint) -> bytes:
    return _encode([found.seq, found.hash, found.last_id, found.kept, found.created_at]).encode()


def begin(after: Head) -> Head:
    """Let the chain begin after a row, and leave unchecked what is there now; within write work."""
    last = LogEntry.select(LogEntry.id).order_by(LogEntry.id.desc()).first()
    move_checkpoint(after, last.id if last is not None else 0, LogEntry.select().count())
    return after


def begin_anew() -> None:
    """Let the chain begin at its present end, whatever the rows before it are; within write work."""
    here = current()
    known, found = _of(here).known or witnessed(here), newest()
    heads = [head for head in (known, found) if head is not None]
    highest: Any = LogEntry.select(LogEntry.seq).order_by(LogEntry.seq.desc()).where(IN_CHAIN).first()
    if not heads and highest is not None:
        heads = [Head(highest.seq, _BEGINNING)]
    begin(max(heads, default=Head(0, _BEGINNING)))
    database.outdate()
    _of(here).complained = False


def move_checkpoint(after: Head, last_id: int, kept: int) -> None:
    """Replace the checkpoint, within write work. Raises `UnknownKey`, or `KeyringElsewhere`."""
    keyring = current().keyring
    assert keyring is not None, "only who has the keyring begins a chain"
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    row = LogCheckpoint(name=_ROWS, seq=after.seq, hash=after.hash, last_id=last_id, kept=kept, created_at=stamp)
    row.mac = keyring.mac(_text_of(row), _CHECKPOINT)
    LogCheckpoint.delete().where(LogCheckpoint.name == _ROWS).execute()
    row.save(force_insert=True)


def drop_until(seq: int, limit: int) -> int:
    """Delete rows of the chain up to a number, at most about `limit`, and let it begin after them; within write work.

    Returns how many those were. Without the keyring, or when the beginning is not ours, deletes none.
    """
    keys, begins = current().keyring, checkpoint()
    in_chain = IN_CHAIN & (LogEntry.seq <= seq)
    rows: list[Any] = list(
        LogEntry.select(LogEntry.seq, LogEntry.hash).where(in_chain).order_by(LogEntry.seq).limit(limit)
    )
    try:
        if not rows or keys is None or begins is None or not is_sound(keys, begins):
            return 0
        last = rows[-1]
        if last.seq > begins.seq:
            left = begins.kept - _count_up_to(begins.last_id, last.seq)
            move_checkpoint(Head(last.seq, last.hash or ""), begins.last_id, max(0, left))
    except CdxsyncError as error:
        _complain(_of(current()), "old audit rows are not deleted: %s", error.message)
        return 0
    return int(LogEntry.delete().where(in_chain & (LogEntry.seq <= last.seq)).execute())


def _count_up_to(last_id: int, seq: int) -> int:
    """How many rows of the chain up to a number are among those up to an id."""
    mine = (LogEntry.id <= last_id) & IN_CHAIN & (LogEntry.seq <= seq)
    return int(LogEntry.select().where(mine).count())


def reseal_checkpoint() -> None:
    """Put the checkpoint, where it is sound, under the key that is in force; within write work."""
    keys, found = current().keyring, checkpoint()
    with contextlib.suppress(UnknownKey):
        if keys is not None and found is not None and is_sound(keys, found):
            move_checkpoint(Head(found.seq, found.hash), found.last_id, found.kept)


def _committed(here: Database, head: Head) -> None:
    progress = _of(here)
    progress.known = head
    if here.witness is not None and head.seq == progress.newest:  # the last of its commit
        try:
            _note(here.witness, head)
        except OSError as error:
            _complain(progress, "%s: cannot be written: %s", here.witness, error.strerror)


def _note(path: Path, head: Head) -> None:
    """Tell the witness, unless another process has told it of a later row. No flush: a lost one is only older."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        before = _read(os.pread(descriptor, 200, 0))
        if before is None or before.seq <= head.seq:
            os.pwrite(descriptor, _encode(head._asdict()).ljust(120).encode() + b"\n", 0)
    finally:
        os.close(descriptor)


def witnessed(here: Database) -> Head | None:
    """The newest row that this machine has committed; None where that is not known."""
    if here.witness is None:
        return None
    try:
        return _read(here.witness.read_bytes())
    except OSError:
        return None


def _read(text: bytes) -> Head | None:
    try:
        given = json.loads(text)
        return Head(int(given["seq"]), str(given["hash"]))
    except (ValueError, KeyError, TypeError):
        return None


def leave_unless_ours(keys: Keys) -> None:
    """Take rows of another keyring out of the chain, so that the next row begins one; within write work."""
    found = checkpoint()
    try:
        if found is not None:
            is_sound(keys, found)
    except UnknownKey:
        LogEntry.update({getattr(LogEntry, name): None for name in NOT_IN_CHAIN}).execute()
        LogCheckpoint.delete().execute()


def forget(here: Database) -> None:
    """Forget how far the log had come: its database was replaced as a whole."""
    _progress.pop(here, None)
    if here.witness is not None:
        with contextlib.suppress(OSError):
            here.witness.unlink()
