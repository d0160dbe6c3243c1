"""`/slash-commands`: the prompts that all hosts share, as a host lists, fetches and stores them."""

from bottle import HTTPResponse, request

from cdxsync.api import conditional, envelope
from cdxsync.api.routes import Caller, Context, Group, Parameter, Routes
from cdxsync.prompts import catalog
from cdxsync.prompts.schemas import PromptBody, PromptListSigned, PromptQuery, PromptRetrieved, PromptStored
from cdxsync.store import audit

ROUTES = Routes(Group.HOSTS, Caller.HOST)
_TAG = Parameter("If-None-Match", str, "The `ETag` of an earlier answer; 304 when nothing has changed.")


@ROUTES.get("/slash-commands", "List prompts", headers=(_TAG,), answer=PromptListSigned)
def list_prompts(context: Context) -> HTTPResponse:
    """All prompts without their texts, unless the host knows that list."""
    caller = context.hosts.admit()
    # Read before the list: a change in between makes the tag too old, never too new.
    revision = catalog.revision()
    if conditional.is_current(catalog.entity_tag(revision)):
        return conditional.not_modified(catalog.entity_tag(revision))
    if request.method != "HEAD":
        revision = catalog.revision_to_sign()
    prompts = catalog.list_all()
    if request.method != "HEAD":
        catalog.note_listed(caller, len(prompts.commands))
    answer = catalog.signed(context.fleet.signing, revision, prompts)
    return conditional.tagged(envelope.answer(answer), catalog.entity_tag(revision))


@ROUTES.post("/slash-commands/retrieve", "Fetch a prompt", body=PromptQuery, errors=(422,))
def retrieve(context: Context) -> PromptRetrieved:
    """A prompt with its text, unless the host has that."""
    caller = context.hosts.admit()
    return catalog.retrieve(catalog.read_query(context.body()), caller)


@ROUTES.post("/slash-commands/store", "Store a prompt for the fleet", body=PromptBody, errors=(422,))
def store(context: Context) -> PromptStored:
    """Store a prompt, where the host may."""
    caller = context.hosts.admit()
    catalog.check_may_store(caller)
    prompt = catalog.read_prompt(context.body(), context.fleet.settings.max_prompt_bytes)
    return catalog.store(context.fleet.settings, prompt, actor=audit.host_actor(caller), host=caller)
