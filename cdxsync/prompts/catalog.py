"""Slash-command prompts: named texts that all hosts share (`docs/protocol.md 9`)."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from typing import Any, Literal

from cdxsync.base import clock, texts
from cdxsync.base.errors import NotFound, Refused, TooLarge
from cdxsync.base.fields import Fields
from cdxsync.base.settings import Settings
from cdxsync.hosts import admission, budgets, registry
from cdxsync.hosts.budgets import Charge
from cdxsync.prompts import front_matter, history
from cdxsync.prompts.schemas import (
    PromptBody,
    PromptItem,
    PromptList,
    PromptListSigned,
    PromptQuery,
    PromptRetrieved,
    PromptsStored,
    PromptStored,
)
from cdxsync.security import signing
from cdxsync.security.signing import SigningKeys
from cdxsync.store import audit, named_values, rights
from cdxsync.store.database import write
from cdxsync.store.queries import Prepared
from cdxsync.store.tables import SlashCommand

MAX_HINT_LENGTH = 255
MAX_DESCRIPTION_LENGTH = 1024
_FILENAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")
_REVISION = "prompts_revision"
_SEQUENCE = re.compile(r"([0-9]{1,18})-[0-9a-f]{16}")
"""How a revision begins; those of older servers have none."""


def check_filename(value: object) -> str:
    """A name that cannot leave its folder or hide in it. Raises ValueError with the text for the field."""
    name = value.strip() if isinstance(value, str) else ""
    if not name:
        raise ValueError("is required: the prompt's file name, such as review.md")
    if not _FILENAME.fullmatch(name) or ".." in name:
        raise ValueError("must be 1 to 255 of letters, digits, . _ -, without .. and not starting with a dot")
    return name


def read_prompt(body: Mapping[str, Any], max_bytes: int) -> PromptBody:
    """The prompt of a `store` body, with what its front matter says. Raises `Invalid` with all wrong fields."""
    fields = Fields(body)
    filename = fields.read("filename", check_filename, "")
    text, digest = body.get("prompt", body.get("content")), ""
    if not isinstance(text, str) or not text.strip():
        fields.errors["prompt"] = ["is required: the whole file as text"]
        text = ""
    elif "\0" in text:
        fields.errors["prompt"] = [texts.NUL_PROBLEM]
    elif len(text.encode()) > max_bytes:
        fields.errors["prompt"] = [f"must have at most {max_bytes} bytes (setting max_prompt_bytes)"]
    else:
        digest = hashlib.sha256(text.encode()).hexdigest()
    if body.get("sha256") is not None and fields.read("sha256", texts.read_digest, digest) != digest and digest:
        fields.errors["sha256"] = ["does not match the prompt"]
    matter = front_matter.read(text)
    shown: dict[str, str | None] = {}
    for name, limit in (("description", MAX_DESCRIPTION_LENGTH), ("argument_hint", MAX_HINT_LENGTH)):
        value = body.get(name)
        if value is not None and not isinstance(value, str):
            fields.errors[name] = ["must be a text"]
            continue
        cleaned = matter.get(name) if value is None else texts.clean(value)
        if cleaned is not None and len(cleaned) > limit:
            if value is not None:
                fields.errors[name] = [f"must have at most {limit} characters"]
            cleaned = cleaned[:limit]
        shown[name] = cleaned
    fields.check()
    return PromptBody(filename=filename, prompt=text, sha256=digest, **shown)


_SHOWN = ("filename", "sha256", "description", "argument_hint", "updated_at")


_LIST = Prepared(
    lambda: SlashCommand.select(*rights.columns_of(SlashCommand), SlashCommand.updated_at).order_by(
        SlashCommand.filename
    )
)


def revision() -> str:
    """A text that changes with every change of any prompt."""
    return named_values.get(_REVISION) or "none"


def entity_tag(of: str | None = None) -> str:
    """The entity tag of the list, with its quotes, now or `of` a revision."""
    return f'"{of or revision()}"'


def _sequence(of: str) -> int | None:
    match = _SEQUENCE.fullmatch(of)
    return int(match[1]) if match else None


def revision_to_sign() -> str:
    """The revision, with a sequence: the first one, and one that an older server has made, give way to a new one."""
    found = revision()
    if _sequence(found) is not None:
        return found

    def work() -> str:
        if _sequence(revision()) is None:
            note_changed()
        return revision()

    return write(work)


def list_all() -> PromptList:
    """All prompts by file name, without their texts, and without those that were written past cdxsync."""
    names = ("id", *SlashCommand.RIGHTS, "mac", "updated_at")
    rows = [dict(zip(names, row, strict=True)) for row in _LIST.rows()]
    good = [row for row in rows if rights.are_good(SlashCommand, row)]
    return PromptList(commands=[PromptItem(id=row["id"], **{name: row[name] for name in _SHOWN}) for row in good])


def signed(keys: SigningKeys, of: str, prompts: PromptList) -> PromptListSigned:
    """A list, signed as that of a revision: hosts find out when it was changed on its way, or is an older one."""
    sequence = _sequence(of) or 0
    text = signing.prompts_text(sequence, ((prompt.filename, prompt.sha256) for prompt in prompts.commands))
    signature = keys.sign(text)
    if not signature:
        return PromptListSigned(commands=prompts.commands)
    return PromptListSigned(commands=prompts.commands, sequence=sequence, signature=signature)


def note_listed(host: audit.HostLike, count: int) -> None:
    """The audit row for a list sent to a host."""
    write(lambda: audit.record("slash.list", actor=audit.host_actor(host), host=host, count=count))


def find(filename: str) -> SlashCommand:
    """A prompt by name, in any case. Raises `NotFound`."""
    row = SlashCommand.get_or_none(SlashCommand.filename_key == filename.strip().lower())
    if row is None:
        raise NotFound(f"No prompt {filename!r}; cdxsync prompts list shows all", code="prompt_not_found")
    return row


def read_query(body: Mapping[str, Any]) -> PromptQuery:
    """Which prompt a `retrieve` body asks for. Raises `Invalid` with all wrong fields."""
    fields = Fields(body)
    filename, digest = fields.read("filename", check_filename, ""), None
    if body.get("sha256") is not None:
        digest = fields.read("sha256", texts.read_digest, "")
    fields.check()
    return PromptQuery(filename=filename, sha256=digest)


def retrieve(wanted: PromptQuery, host: audit.HostLike) -> PromptRetrieved:
    """What `POST /slash-commands/retrieve` answers."""

    def work() -> PromptRetrieved:
        row = SlashCommand.get_or_none(SlashCommand.filename_key == wanted.filename.lower())
        if row is None or not history.is_ours(row):
            found = PromptRetrieved(status="missing", filename=wanted.filename)
        else:
            found = PromptRetrieved.of(row, known=row.sha256 == wanted.sha256)
        details = {"filename": wanted.filename, "status": found.status}
        audit.record("slash.retrieve", actor=audit.host_actor(host), host=host, **details)
        return found

    return write(work)


def check_may_store(host: audit.HostLike) -> None:
    """Raise `Refused` when a host may not store prompts: before what it has sent is looked at."""
    refusal = _refusal(host)
    if refusal is not None:
        audit.note("slash.store", host=host, status="refused")
        raise refusal


def _refusal(host: audit.HostLike) -> Refused | None:
    row = registry.by_id(host.id)
    rights.check(row)
    return admission.permit_refusal(row, "store_prompts")


def store(settings: Settings, prompt: PromptBody, *, actor: str, host: audit.HostLike | None = None) -> PromptStored:
    """Store a prompt; the last writer wins.

    Raises `Refused` when the host may not store prompts, also since `check_may_store`; `TooLarge` when there are too
    many; and as `budgets.charge` does.
    """

    def work() -> PromptStored:
        refusal = _refusal(host) if host is not None else None
        if refusal is not None:
            raise refusal
        return _put(settings, prompt, actor, host)

    return write(work)


def store_all(settings: Settings, prompts: list[PromptBody], *, actor: str) -> PromptsStored:
    """Store prompts, all or none. Raises `TooLarge`."""
    return write(lambda: PromptsStored(commands=[_put(settings, prompt, actor, None) for prompt in prompts]))


def _check_room(settings: Settings, prompt: PromptBody, row: SlashCommand | None) -> None:
    """Raise `TooLarge` when a prompt, in place of the one in `row`, makes too many, or too much of them."""
    most, size = settings.max_prompts, settings.max_prompts_bytes
    if most and row is None and SlashCommand.select().count() >= most:
        raise TooLarge(
            f"There are {most} prompts, and no more may be (setting max_prompts). Delete one: cdxsync prompts delete",
            code="too_many_prompts",
        )
    mine = len(prompt.prompt.encode())
    if size and (row is None or mine > len(row.prompt.encode())):
        others = SlashCommand.select(SlashCommand.prompt).where(SlashCommand.filename_key != prompt.filename.lower())
        if mine + sum(len(other.prompt.encode()) for other in others.iterator()) > size:
            raise TooLarge(
                f"All prompts together would have more than {size} bytes (setting max_prompts_bytes). Delete one:"
                " cdxsync prompts delete",
                code="too_many_prompts",
            )


def _put(settings: Settings, prompt: PromptBody, actor: str, host: audit.HostLike | None) -> PromptStored:
    at = clock.stamp(clock.now())
    key, digest = prompt.filename.lower(), prompt.digest
    row = SlashCommand.get_or_none(SlashCommand.filename_key == key)
    shown = {
        "sha256": digest,
        "description": prompt.description,
        "argument_hint": prompt.argument_hint,
    }
    status: Literal["created", "updated", "unchanged"]
    if row is not None and history.is_ours(row) and all(getattr(row, name) == value for name, value in shown.items()):
        status, at = "unchanged", row.updated_at
    else:
        source = host.id if host is not None else None
        if source is not None:
            size, bound = len(prompt.prompt.encode()), settings.prompt_bytes_per_day
            budgets.charge(source, Charge("prompt_bytes", size, bound, "prompt_bytes_per_day", "bytes of prompts"))
        _check_room(settings, prompt, row)
        changes = shown | {
            "filename": prompt.filename,
            "prompt": prompt.prompt,
            "source_host": source,
            "updated_at": at,
            "stored_by": actor[:255],
        }
        if row is None:
            status = "created"
            rights.insert(SlashCommand, filename_key=key, created_at=at, **changes)
        else:
            status = "updated"
            if row.sha256 != digest:
                history.keep(row)
            rights.update(SlashCommand, row.id, filename_key=key, **changes)
        note_changed()
    audit.record("slash.store", actor=actor, host=host, filename=prompt.filename, status=status)
    return PromptStored(status=status, filename=prompt.filename, sha256=digest, updated_at=at)


def note_changed() -> None:
    """Give the list a new revision, within the caller's write transaction. It begins with microseconds, which rise."""
    sequence = max((_sequence(revision()) or 0) + 1, int(clock.now().timestamp() * 1_000_000))
    named_values.put(_REVISION, f"{sequence}-{secrets.token_hex(8)}")


def delete(filename: str, *, actor: str) -> str:
    """Delete a prompt; returns its name. Its text stays in the history. Raises `NotFound`."""

    def work() -> str:
        row = find(filename)
        history.keep(row)
        row.delete_instance()
        note_changed()
        audit.record("slash.delete", actor=actor, filename=row.filename, sha256=row.sha256)
        return str(row.filename)

    return write(work)
