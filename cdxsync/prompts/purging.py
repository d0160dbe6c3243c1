"""Taking back what one host has stored of prompts."""

from cdxsync.base import clock
from cdxsync.prompts import catalog, front_matter, history
from cdxsync.store import rights
from cdxsync.store.tables import SlashCommand, SlashCommandVersion


def purge(host_id: int, actor: str) -> tuple[int, int]:
    """Put back, or delete, each prompt whose text a host has stored, and forget its earlier texts.

    Within the caller's write transaction. `actor` is how the host stands in rows. What is put back is the newest text
    of another; without one the prompt is deleted. Returns how many prompts got an earlier text, and how many are gone.
    """
    SlashCommandVersion.delete().where(SlashCommandVersion.source == actor).execute()
    mine = SlashCommand.select().where((SlashCommand.source_host == host_id) | (SlashCommand.stored_by == actor))
    restored = deleted = 0
    for row in list(mine):
        earlier = SlashCommandVersion.select().where(SlashCommandVersion.filename_key == row.filename_key)
        newest = next(filter(history.is_ours, earlier.order_by(SlashCommandVersion.id.desc())), None)
        if newest is None:
            deleted += row.delete_instance()
            continue
        restored += 1
        front = front_matter.read(newest.prompt)
        rights.update(
            SlashCommand,
            row.id,
            filename=newest.filename,
            filename_key=row.filename_key,
            sha256=newest.sha256,
            prompt=newest.prompt,
            description=front.get("description"),
            argument_hint=front.get("argument_hint"),
            source_host=None,
            stored_by=newest.source,
            updated_at=clock.stamp(clock.now()),
        )
        newest.delete_instance()
    if restored or deleted:
        catalog.note_changed()
    return restored, deleted
