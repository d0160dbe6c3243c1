"""The texts that prompts have had: who stored which, and when, also of prompts that were deleted since."""

from typing import Any

from cdxsync.domain import clock, pages
from cdxsync.errors import NotFound
from cdxsync.store.database import reachable
from cdxsync.store.tables import PromptVersion, SlashCommand

KEPT = 50
"""Versions that are kept of a prompt."""
MAX_ROWS = 200
CREATED = "created"
UPDATED = "updated"
DELETED = "deleted"
UNKNOWN = "unknown"
"""Actor of a text that came with an import, or before versions were kept."""


def note_stored(before: SlashCommand | None, filename: str, sha256: str, prompt: str, actor: str) -> None:
    """Keep the text that a prompt gets, and that which it had, within the caller's write transaction.

    A text that stays the same, when only what is shown of it changes, is no new version.
    """
    key = filename.lower()
    if before is not None:
        _note_present(before)
        if before.sha256 == sha256:
            return
    _add(filename, key, CREATED if before is None else UPDATED, sha256, prompt, actor, clock.stamp(clock.now()))
    _drop_old(key)


def note_deleted(gone: SlashCommand, actor: str) -> None:
    """Keep the last text of a prompt, and that it was deleted, within the caller's write transaction."""
    _note_present(gone)
    _add(gone.filename, gone.filename_key, DELETED, gone.sha256, None, actor, clock.stamp(clock.now()))
    _drop_old(gone.filename_key)


def _note_present(row: SlashCommand) -> None:
    """Keep what is stored, unless it is known: older programs and imports store prompts and write no versions."""
    of_name = PromptVersion.filename_key == row.filename_key
    newest = PromptVersion.select(PromptVersion.status, PromptVersion.sha256).where(of_name)
    last = newest.order_by(PromptVersion.id.desc()).tuples().first()
    if last is None or last[0] == DELETED or last[1] != row.sha256:
        status = UPDATED if last is not None and last[0] != DELETED else CREATED
        _add(row.filename, row.filename_key, status, row.sha256, row.prompt, UNKNOWN, row.updated_at)


def _add(filename: str, key: str, status: str, sha256: str, prompt: str | None, actor: str, at: str) -> None:
    PromptVersion.insert(
        filename=filename,
        filename_key=key,
        status=status,
        sha256=sha256,
        prompt=prompt,
        actor=actor[:255],
        created_at=at,
    ).execute()


def _drop_old(key: str) -> None:
    of_name = PromptVersion.filename_key == key
    newest = PromptVersion.select(PromptVersion.id).where(of_name).order_by(PromptVersion.id.desc()).limit(KEPT)
    kept = [row.id for row in newest]
    if len(kept) == KEPT:
        PromptVersion.delete().where(of_name & (PromptVersion.id < kept[-1])).execute()


_LISTED = (
    PromptVersion.id,
    PromptVersion.filename,
    PromptVersion.status,
    PromptVersion.sha256,
    PromptVersion.actor,
    PromptVersion.created_at,
)


def listing(filename: str, limit: int, before: int | None = None) -> dict[str, Any]:
    """`history`: the versions of a prompt without their texts, the newest first, and `next_before`.

    A prompt whose text has never changed since versions are kept has none, or one. Raises `NotFound` for a name that
    no prompt has or had.
    """
    key = filename.strip().lower()
    with reachable():
        of_name = PromptVersion.filename_key == key
        query = PromptVersion.select(*_LISTED).where(of_name)
        found = pages.newest_first(query, PromptVersion.id, "history", _shown, limit=limit, before=before)
        known = bool(found["history"]) or PromptVersion.select().where(of_name).exists()
        if not known and not SlashCommand.select().where(SlashCommand.filename_key == key).exists():
            raise NotFound(f"No prompt {filename!r} is known, nor was one deleted")
        return found


def _shown(row: PromptVersion) -> dict[str, Any]:
    return {
        "id": row.id,
        "filename": row.filename,
        "status": row.status,
        "sha256": row.sha256,
        "source": row.actor,
        "stored_at": row.created_at,
    }


def one(filename: str, version_id: int) -> dict[str, Any]:
    """A version with its text `prompt`; null where the prompt was deleted. Raises `NotFound`."""
    key = filename.strip().lower()
    with reachable():
        row = PromptVersion.get_or_none((PromptVersion.id == version_id) & (PromptVersion.filename_key == key))
    if row is None:
        raise NotFound(f"No version {version_id} of the prompt {filename!r} is kept")
    return _shown(row) | {"prompt": row.prompt}
