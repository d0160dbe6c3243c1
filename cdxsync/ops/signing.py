"""The signing keys of a home: making the first, changing them, and whether they are the fleet's.

Hosts know the keys of the `cdx` that they have, and take nothing that none of these has signed. The database notes
which keys the fleet signs with, so that a home without them, as of a second server, makes none of its own: hosts would
refuse what it signs. The note decides nothing else, and nothing in it is given to hosts.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cdxsync.base.errors import CdxsyncError, Conflict, NotFound
from cdxsync.ops.schemas import SigningKeyItem, SigningKeyList
from cdxsync.security import signing
from cdxsync.security.signing import Content, SigningKey
from cdxsync.store import audit, named_values
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Host

NAME = "signing.json"
"""Of the file in the home."""
MOST = 8
"""Keys at the same time."""
ELSEWHERE = f"copy {NAME} from the fleet's other server, or restore it from a backup"
_NOTE = "signing_keys"
_log = logging.getLogger("cdxsync.security")


@dataclass(frozen=True)
class Note:
    """Which keys the fleet signs with, and when they were changed."""

    changed: int
    ids: frozenset[str]


def noted() -> Note | None:
    """What the database notes; None before the first key."""
    changed, _, ids = (named_values.get(_NOTE) or "").partition(" ")
    return Note(int(changed), frozenset(ids.split())) if changed.isdecimal() else None


def _note(content: Content) -> None:
    named_values.put(_NOTE, " ".join([str(content.changed), *content.ids]))


def problem(content: Content | None) -> str:
    """What is wrong with the keys of a home, or ""."""
    note = noted()
    if note is None:
        return ""
    if content is None or note.ids.isdisjoint(content.ids):
        return f"the home lacks the keys that the fleet's hosts know ({', '.join(sorted(note.ids))})"
    if content.changed < note.changed:
        return "the keys were changed on another server, and so for the fleet's hosts"
    return ""


def make_first(path: Path) -> None:
    """Make the key of a home without one, unless the fleet has keys elsewhere. Raises `Failed`."""
    if not path.exists() and noted() is None:
        signing.write(path, signing.first())


def begin(fleet: Fleet) -> None:
    """What a server does at its start: make the first key, and note the keys, or say what is wrong with them."""
    path = fleet.signing.path
    try:
        content, note = signing.read(path), noted()
        if content is not None and note is not None and note == Note(content.changed, frozenset(content.ids)):
            return

        def work() -> None:
            make_first(path)
            content = signing.read(path)
            if content is not None and not problem(content):
                _note(content)

        write(work)
        wrong = problem(signing.read(path))
    except CdxsyncError as error:
        wrong = error.message
    if wrong:
        _log.error("%s: %s, which may take no cdx and no prompts from this server. Remedy: %s", path, wrong, ELSEWHERE)


def list_all(fleet: Fleet) -> SigningKeyList:
    """The keys, without their secret halves. Raises `Failed`."""
    content = signing.read(fleet.signing.path)
    return SigningKeyList(
        file=str(fleet.signing.path),
        keys=[SigningKeyItem(id=key.id, created_at=key.created) for key in (content or Content()).keys],
        problem=problem(content) or None,
    )


def rotate(fleet: Fleet, *, lost: bool = False, actor: str) -> SigningKeyItem:
    """Add a key, which signs from now on, beside those before.

    Hosts take it with a `cdx` that the keys before have signed. With `lost` there are none any more that hosts know.
    Raises `Conflict` when the home lacks the fleet's keys and `lost` is false, or has too many; and `Failed`.
    """
    made = SigningKey.generated()  # before the transaction, as it takes a while

    def change(content: Content) -> Content:
        if len(content.keys) >= MOST:
            raise Conflict(
                f"There are {MOST} signing keys already. Remove one that hosts need no more: cdxsync keys signing"
                " retire KEY",
                code="signing_key_in_use",
            )
        return content.with_key(made)

    _change(fleet, change, lost=lost, action="admin.keys.signing_rotate", key=made.id, actor=actor)
    return SigningKeyItem(id=made.id, created_at=made.created)


def retire(fleet: Fleet, key_id: str, *, actor: str) -> None:
    """Remove a key. Hosts that know no other take nothing any more. Raises `NotFound`, `Conflict` and `Failed`."""

    def change(content: Content) -> Content:
        if key_id not in content.ids:
            raise NotFound(f"No signing key {key_id!r}. See: cdxsync keys signing list", code="signing_key_not_found")
        if len(content.keys) == 1:
            raise Conflict(
                f"Key {key_id} is the only one. Add another first: cdxsync keys signing rotate",
                code="signing_key_in_use",
            )
        return content.without(key_id)

    _change(fleet, change, lost=False, action="admin.keys.signing_retire", key=key_id, actor=actor)


def _change(
    fleet: Fleet, change: Callable[[Content], Content], *, lost: bool, action: str, key: str, actor: str
) -> None:
    path = fleet.signing.path

    def work() -> None:
        content = signing.read(path)
        wrong = problem(content)
        if wrong and not lost:
            raise Conflict(
                f"{path}: {wrong}. Nothing was changed. Remedy: {ELSEWHERE}. If they are lost for good: cdxsync keys"
                " signing rotate --lost",
                code="signing_keys_lost",
            )
        changed = change(content or Content())
        signing.write(path, changed)
        _note(changed)
        audit.record(action, actor=actor, key=key, keys=changed.ids, lost=bool(wrong))

    write(work)


def behind(fleet: Fleet, without: str) -> list[str]:
    """Hosts that have not called since the newest key but `without` was made, and may not know it."""
    content = signing.read(fleet.signing.path) or Content()
    newest = max((key.created for key in content.keys if key.id != without), default="")
    called = Host.last_seen_at.is_null(False) & (Host.last_seen_at >= newest)
    return [row.fqdn for row in Host.select(Host.fqdn).where(~called).order_by(Host.fqdn)]
