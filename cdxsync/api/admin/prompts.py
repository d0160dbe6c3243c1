"""`/admin/slash-commands`: the prompts that all hosts share, as admins list, store and delete them."""

from cdxsync.api import access
from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.prompts import catalog, history
from cdxsync.prompts.schemas import (
    PromptBody,
    PromptDeleted,
    PromptHistory,
    PromptList,
    PromptStored,
    PromptVersionWhole,
    PromptWhole,
)

ROUTES = Routes(Group.PROMPTS, Caller.ADMIN)


@ROUTES.get("/admin/slash-commands", "List prompts")
def list_prompts(context: Context) -> PromptList:
    """All prompts without their texts."""
    return catalog.list_all()


@ROUTES.get("/admin/slash-commands/<filename>", "A prompt", errors=(404,))
def show(context: Context, filename: str) -> PromptWhole:
    """A prompt with its text."""
    return PromptWhole.of(catalog.find(filename))


@ROUTES.get("/admin/slash-commands/<filename>/history", "The texts of a prompt that are kept", errors=(404,))
def list_history(context: Context, filename: str) -> PromptHistory:
    """What a prompt said before."""
    return history.list_versions(filename)


@ROUTES.get("/admin/slash-commands/<filename>/history/<version_id:int>", "A former text of a prompt", errors=(404,))
def show_version(context: Context, filename: str, version_id: int) -> PromptVersionWhole:
    """What a prompt said before, once."""
    return history.show_version(filename, version_id)


@ROUTES.post("/admin/slash-commands/store", "Store a prompt", body=PromptBody, errors=(422,))
def store(context: Context) -> PromptStored:
    """Store a prompt."""
    prompt = catalog.read_prompt(context.body(), context.fleet.settings.max_prompt_bytes)
    return catalog.store(context.fleet.settings, prompt, actor=access.actor())


@ROUTES.delete("/admin/slash-commands/<filename>", "Delete a prompt", errors=(404,))
def delete(context: Context, filename: str) -> PromptDeleted:
    """Delete a prompt."""
    return PromptDeleted(deleted=catalog.delete(filename, actor=access.actor()))
