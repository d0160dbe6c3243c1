"""Earlier texts of prompts that were changed or deleted."""

import hashlib

from cdxsync.base.errors import NotFound
from cdxsync.prompts.schemas import PromptHistory, PromptVersion, PromptVersionWhole
from cdxsync.store import rights
from cdxsync.store.tables import SlashCommand, SlashCommandVersion

MAX_VERSIONS = 50
"""Number of earlier texts to keep per name."""


def is_ours(row: SlashCommand | SlashCommandVersion) -> bool:
    """Whether cdxsync has stored this text: its row is as it was written, and the text is that of its digest."""
    return rights.is_good(row) and (
        not rights.is_required() or hashlib.sha256(row.prompt.encode()).hexdigest() == row.sha256
    )


def keep(row: SlashCommand) -> None:
    """Store the present text of a prompt, within the caller's write transaction, before another replaces it.

    Not one that was written past cdxsync: it would become one of ours.
    """
    if not is_ours(row):
        return
    mine = SlashCommandVersion.filename_key == row.filename_key
    rights.insert(
        SlashCommandVersion,
        filename=row.filename,
        filename_key=row.filename_key,
        sha256=row.sha256,
        prompt=row.prompt,
        source=row.stored_by,
        stored_at=row.updated_at,
    )
    newest = SlashCommandVersion.select(SlashCommandVersion.id).where(mine).order_by(SlashCommandVersion.id.desc())
    kept = [version.id for version in newest.limit(MAX_VERSIONS)]
    SlashCommandVersion.delete().where(mine & (SlashCommandVersion.id < kept[-1])).execute()


def list_versions(filename: str) -> PromptHistory:
    """The earlier texts of a name, newest first, also of a deleted prompt.

    Raises `NotFound` for a name that no prompt ever had.
    """
    key = filename.strip().lower()
    query = SlashCommandVersion.select().where(SlashCommandVersion.filename_key == key)
    rows = list(query.order_by(SlashCommandVersion.id.desc()))
    known = bool(rows) or SlashCommand.select(SlashCommand.id).where(SlashCommand.filename_key == key).exists()
    if not known:
        raise NotFound(f"No prompt {filename!r}; cdxsync prompts list shows all", code="prompt_not_found")
    return PromptHistory(history=[PromptVersion.of(row) for row in rows])


def show_version(filename: str, version_id: int) -> PromptVersionWhole:
    """An earlier text. Raises `NotFound`, or `RowAltered`."""
    key = filename.strip().lower()
    row = SlashCommandVersion.get_or_none(SlashCommandVersion.id == version_id) if version_id < 2**63 else None
    if row is None or row.filename_key != key:
        raise NotFound(
            f"No earlier text {version_id} of the prompt {filename!r}; cdxsync prompts history {filename} shows all",
            code="prompt_not_found",
        )
    rights.check(row)
    return PromptVersionWhole.of(row)
