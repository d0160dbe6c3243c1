"""The keys that seal credentials: their use, changing to a new one, retiring an old one."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cdxsync.auth import answers
from cdxsync.base.errors import CdxsyncError, Conflict, NotFound
from cdxsync.ops.schemas import KeyItem, KeyList, Rotation
from cdxsync.store import audit, audit_chain, database, keyring_file, named_values, rights
from cdxsync.store.caches import GenerationCache
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet
from cdxsync.store.keyring_file import Content, KeyringFile
from cdxsync.store.sealed_values import COLUMNS, Column
from cdxsync.store.sealing import Keyring, UnknownKey, key_id_of
from cdxsync.store.table import Guarded

BATCH = 50
"""Values resealed in one transaction, so that other writers do not wait long."""


def _decided() -> str | None:
    """The key that the fleet has decided for, checked where it is here: with another nothing can be sealed anyway."""
    named = named_values.get_unchecked(rights.SEALING_KEY)
    ring = database.current().keyring
    if named is None or ring is None or not ring.has(named) or not rights.is_migrated():
        return named
    return named_values.get(rights.SEALING_KEY)


sealing_key = GenerationCache(_decided)
"""The key that every server of the fleet seals with; None while it is undecided."""


def key_to_seal_with(active: str) -> str:
    """The fleet's key; `active`, the server's own, while there is none.

    The first server that seals on a shared database decides it: servers set up separately have different keys.
    """
    decided = sealing_key.get()
    if decided is None and database.is_writing() and database.current().engine.path is None:
        named_values.put(rights.SEALING_KEY, active)
    return decided or active


def forget_sealing_key_unless_in(content: Content) -> None:
    """Let the next server that seals decide the key if the keyring lacks the decided one; in a write transaction."""
    if sealing_key.get() not in (None, *content.keys):
        named_values.drop(rights.SEALING_KEY)


def usage() -> dict[str, Counter[str]]:
    """The number of values that each key sealed, by column; unsealed values are under ""."""
    counts: dict[str, Counter[str]] = {}
    for column in COLUMNS:
        for prefix in column.prefixes():
            counts.setdefault(key_id_of(prefix), Counter())[column.name] += 1
    return counts


def mac_usage() -> Counter[str]:
    """The number of rows of which each key has made the MAC."""
    counts: Counter[str] = Counter()
    for table in rights.tables() if rights.is_migrated() else ():
        mac = table._meta.fields["mac"]
        rows: Any = table.select(mac).where(mac.is_null(False)).tuples()
        counts.update(row[0].rpartition(":")[0] for row in rows)
    return counts


def needed() -> set[str]:
    """The keys that the database needs: those of sealed values, and of MACs."""
    return (usage().keys() | mac_usage().keys()) - {""}


def list_all(fleet: Fleet) -> KeyList:
    """The keys with their state, and what each has sealed."""
    content = fleet.keyring.content()
    counts, macs = usage(), mac_usage()
    names = dict.fromkeys([*content.keys, *sorted((counts.keys() | macs.keys()) - {""})])
    return KeyList(
        source=fleet.keyring.where,
        keys=[_item(content, name, counts.get(name, Counter()), macs[name]) for name in names],
        resealing=content.resealing,
    )


def _item(content: Content, name: str, counts: Counter[str], macs: int) -> KeyItem:
    return KeyItem(
        id=name,
        state="active" if name == content.active else "old" if name in content.keys else "missing",
        created_at=content.created.get(name),
        sealed=dict(counts),
        macs=macs,
    )


def check(keyring: KeyringFile | Keyring, name: str = "the keyring") -> None:
    """Raise `Failed` when the keyring lacks a key of stored values, or has a different one under its id.

    A single altered value is not the keyring's fault: a key is wrong when it opens nothing, and fits no MAC. Changes
    nothing.
    """
    problems: dict[str, str] = {}
    good = {""}
    for column in COLUMNS:
        for value in column.values():
            key_id = key_id_of(value.text)
            if key_id in good:
                continue
            try:
                keyring.open(value.text, value.context)
                good.add(key_id)
                problems.pop(key_id, None)
            except CdxsyncError as error:
                problems.setdefault(key_id, error.message)
    _check_macs(keyring, problems)
    if problems:
        counts, macs = usage(), mac_usage()
        both = {key_id: counts.get(key_id, Counter()) + Counter(rows=macs[key_id]) for key_id in problems}
        wanted = "; ".join(
            f"key {key_id!r}, for {describe_counts(both[key_id])} ({message})" for key_id, message in problems.items()
        )
        raise UnknownKey(
            f"{name} does not open the stored values. Needed: {wanted}. Nothing was changed. Restore a"
            " keyring with the needed key, from a backup or from another server"
        )


def _check_macs(keyring: KeyringFile | Keyring, problems: dict[str, str]) -> None:
    """Add to `problems` the keys of MACs, when the keyring fits none of them: one that fits none is altered."""
    found: dict[str, str] = {}
    for table in rights.tables() if rights.is_migrated() else ():
        for batch in rights.batches(table):
            for values in batch:
                key_id = str(values["mac"] or "").rpartition(":")[0]
                if not key_id:
                    continue
                try:
                    if rights.is_mac_by(keyring, table, values):
                        return
                    found.setdefault(key_id, f"MACs of key {key_id!r} are of another key")
                except CdxsyncError as error:
                    found.setdefault(key_id, error.message)
    for key_id, problem in found.items():
        problems.setdefault(key_id, problem)


def describe_counts(counts: Counter[str]) -> str:
    """Such as `20 auth_payloads.body, 3 install_tokens.api_key`."""
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def rotate(fleet: Fleet, *, actor: str, on_progress: Callable[[int, int], None]) -> Rotation:
    """Add a key, make it active, and reseal all values with it, in batches.

    Servers may run: they open values of both keys, and seal with the new one as soon as it is in the file. After an
    interrupted call its key is used and no other is added; so is a key that came with `keys export --new-key`, which
    several servers can have before it is used. Values that cannot be opened stay unchanged and are listed.
    `on_progress` gets the number of finished values, and of all. Raises `Conflict` when the keyring lacks the fleet's
    key.

    A keyring from outside cannot get a key; all values are resealed with its active one. If that is already so, raises
    `Conflict`, which says how to add a key.
    """
    ring = fleet.keyring

    def begin() -> tuple[str, bool]:
        content = ring.content()
        if ring.external is not None:
            _refuse_without_work(ring, content.active)
            named_values.put(rights.SEALING_KEY, content.active)
            return content.active, False
        decided = sealing_key.get()
        if decided not in (None, *content.keys):
            raise Conflict(
                f"The fleet seals with key {decided}, which the keyring {ring.where} lacks. Nothing was changed. Copy"
                " the keyring from a server that has the key, then run this again",
                code="keyring_outdated",
            )
        if content.resealing or decided not in (None, content.active):  # the servers got a new one before
            named_values.put(rights.SEALING_KEY, content.active)
            return content.active, False
        content = replace(content.with_new_key(), resealing=True)
        keyring_file.write(ring.path, content)
        named_values.put(rights.SEALING_KEY, content.active)
        audit.record("admin.keys.rotate", actor=actor, key=content.active)
        return content.active, True

    key_id, added = write(begin)
    total = sum(column.count(not_under=key_id) for column in COLUMNS)
    resealed = 0
    unreadable: list[str] = []
    on_progress(0, total)
    for column in COLUMNS:
        for done, failed in _reseal(fleet, column, key_id):
            resealed += done
            unreadable += failed
            on_progress(min(resealed + len(unreadable), total), total)
    macs = 0
    for table in rights.tables():
        for done, failed in _renew_macs(table, key_id):
            macs += done
            unreadable += failed
    write(lambda: _finish(fleet, key_id, resealed, unreadable, actor))
    return Rotation(active=key_id, added=added, resealed=resealed, macs=macs, unreadable=unreadable)


def _refuse_without_work(ring: KeyringFile, active: str) -> None:
    old_values = any(column.count(not_under=active) for column in COLUMNS)
    old_macs = mac_usage().keys() - {active}
    if sealing_key.get() in (None, active) and not old_values and not old_macs:
        raise Conflict(
            f"The keyring comes from {ring.where}, which cdxsync cannot write, and all is sealed with its active key"
            f" {active}. Nothing was changed. To change keys: write a keyring with a further key with"
            " `cdxsync keys export FILE --new-key`, replace the old one by it, restart every server, and run"
            " this again",
            code="keyring_read_only",
        )


def _reseal(fleet: Fleet, column: Column, key_id: str) -> Iterable[tuple[int, list[str]]]:
    """Reseal a column; yields for each batch the number of resealed values, and those that could not be opened."""
    after = 0
    while True:
        position = after

        def work(start: int = position) -> tuple[int, int, list[str]]:
            done = 0
            last = start
            failed = []
            for value in column.values(after=start, not_under=key_id, limit=BATCH):
                last = value.id
                try:
                    plaintext = fleet.keyring.open(value.text, value.context)
                except CdxsyncError as error:
                    failed.append(error.message)
                    continue
                done += column.replace(value, fleet.keyring.seal(plaintext, value.context))
            return last, done, failed

        after, done, failed = write(work)
        if after == position:
            return
        yield done, failed


def _renew_macs(table: type[Guarded], key_id: str) -> Iterable[tuple[int, list[str]]]:
    """Give the rows of a table MACs of another key, those alone that have a good one; yields as `_reseal` does."""
    for batch in rights.batches(table):
        ids = [row[rights.key_of(table)] for row in batch if row["mac"] and not row["mac"].startswith(f"{key_id}:")]

        def work(ids: list[Any] = ids) -> tuple[int, list[str]]:
            done, failed = 0, []
            for row_id in ids:
                try:
                    done += rights.renew_mac(table, row_id)
                except CdxsyncError as error:
                    failed.append(error.message)
            return done, failed

        if ids:
            yield write(work)


def _finish(fleet: Fleet, key_id: str, resealed: int, unreadable: list[str], actor: str) -> None:
    content = fleet.keyring.content()
    if fleet.keyring.external is None and content.active == key_id and content.resealing:
        keyring_file.write(fleet.keyring.path, replace(content, resealing=False))
    audit_chain.reseal_checkpoint()
    audit.record("admin.keys.reseal", actor=actor, key=key_id, resealed=resealed, unreadable=len(unreadable))


def retire(fleet: Fleet, key_id: str, *, actor: str) -> None:
    """Remove a key that no value is sealed with. Raises `NotFound`, or `Conflict`: also for a keyring from outside,
    with what to do instead.

    Check and removal happen in one write transaction, and sealing happens only in one.
    """

    def work() -> None:
        content = fleet.keyring.content()
        _refuse_needed(fleet.settings.home, content, key_id)
        if fleet.keyring.external is not None:
            raise Conflict(
                f"Key {key_id} is no longer needed, but the keyring comes from {fleet.keyring.where}, which cdxsync"
                f" cannot write. Nothing was changed. Write one without it with `cdxsync keys export FILE --without"
                f" {key_id}`, replace the old one by it, and restart every server",
                code="keyring_read_only",
            )
        if sealing_key.get() is None:  # in another server's keyring it may be the active one
            named_values.put(rights.SEALING_KEY, content.active)
        keyring_file.write(fleet.keyring.path, content.without(key_id))
        audit.record("admin.keys.retire", actor=actor, key=key_id)

    write(work)


def _refuse_needed(home: Path, content: Content, key_id: str) -> None:
    """Raise `NotFound` for an unknown key, `Conflict` for one that is still needed."""
    if key_id not in content.keys:
        raise NotFound(f"No key {key_id!r} in the keyring. See: cdxsync keys list", code="keyring_key_not_found")
    if key_id in (content.active, sealing_key.get()):
        raise Conflict(
            f"Key {key_id} is the active one. Add a new key first: cdxsync keys rotate", code="keyring_key_in_use"
        )
    if key_id in answers.keys_in_use(home):
        raise Conflict(
            f"Key {key_id} is needed for the answer to a refresh that was cut off. Store that first: cdxsync jobs run"
            " refresh",
            code="keyring_key_in_use",
        )
    used, macs = usage().get(key_id, Counter()), mac_usage()[key_id]
    if used or macs:
        what = describe_counts(used + Counter(rows=macs))
        raise Conflict(
            f"Key {key_id} still seals {what}. Reseal them first: cdxsync keys rotate",
            code="keyring_key_in_use",
        )


def export(fleet: Fleet, *, new_key: bool = False, without: str | None = None, actor: str) -> Content:
    """The text of a keyring to put elsewhere, with a further key, which is active, or without one that is not needed.

    The keyring in use does not change. Raises `NotFound` or `Conflict`.
    """

    def work() -> Content:
        content = fleet.keyring.content()
        if without is not None:
            _refuse_needed(fleet.settings.home, content, without)
            content = content.without(without)
        if new_key:
            content = content.with_new_key()
        content = replace(content, resealing=False)
        audit.record("admin.keys.export", actor=actor, active=content.active, keys=list(content.keys))
        return content

    return write(work)
