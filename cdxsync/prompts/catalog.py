"""Slash-command prompts: named texts that all hosts share (`docs/protocol.md 9`)."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Any

import yaml
from frontmatter.default_handlers import YAMLHandler

from cdxsync.base import clock, texts
from cdxsync.base.errors import Invalid, NotFound, Refused
from cdxsync.hosts import permits, registry
from cdxsync.prompts import history
from cdxsync.store import audit, named_values
from cdxsync.store.database import write
from cdxsync.store.queries import Prepared
from cdxsync.store.tables import SlashCommand

MAX_HINT_LENGTH = 255
MAX_DESCRIPTION_LENGTH = 1024
_FILENAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")
_REVISION = "prompts_revision"


@dataclass(frozen=True)
class Prompt:
    """A prompt as it is to be stored: the text as sent, its digest, and what is shown of it."""

    filename: str
    text: str
    sha256: str
    description: str | None
    argument_hint: str | None


def check_filename(value: object) -> str:
    """A name that cannot leave its folder or hide in it. Raises ValueError with the text for the field."""
    name = value.strip() if isinstance(value, str) else ""
    if not name:
        raise ValueError("is required: the prompt's file name, such as review.md")
    if not _FILENAME.fullmatch(name) or ".." in name:
        raise ValueError("must be 1 to 255 of letters, digits, . _ -, without .. and not starting with a dot")
    return name


def read_prompt(body: dict[str, Any], max_bytes: int) -> Prompt:
    """The prompt of a `store` body. Raises `Invalid` with all wrong fields."""
    errors: dict[str, list[str]] = {}
    filename, text, digest = "", body.get("prompt", body.get("content")), ""
    try:
        filename = check_filename(body.get("filename"))
    except ValueError as error:
        errors["filename"] = [str(error)]
    if not isinstance(text, str) or not text.strip():
        errors["prompt"] = ["is required: the whole file as text"]
        text = ""
    elif "\0" in text:
        errors["prompt"] = [texts.NUL_PROBLEM]
    elif len(text.encode()) > max_bytes:
        errors["prompt"] = [f"must have at most {max_bytes} bytes (setting max_prompt_bytes)"]
    else:
        digest = hashlib.sha256(text.encode()).hexdigest()
    if body.get("sha256") is not None:
        try:
            if texts.read_digest(body["sha256"]) != digest and digest:
                errors["sha256"] = ["does not match the prompt"]
        except ValueError as error:
            errors["sha256"] = [str(error)]
    matter = front_matter(text)
    shown: dict[str, str | None] = {}
    for name, limit in (("description", MAX_DESCRIPTION_LENGTH), ("argument_hint", MAX_HINT_LENGTH)):
        value = body.get(name)
        if value is not None and not isinstance(value, str):
            errors[name] = ["must be a text"]
            continue
        cleaned = matter.get(name) if value is None else texts.clean(value)
        if cleaned is not None and len(cleaned) > limit:
            if value is not None:
                errors[name] = [f"must have at most {limit} characters"]
            cleaned = cleaned[:limit]
        shown[name] = cleaned
    if errors:
        raise Invalid(errors)
    return Prompt(filename, text, digest, shown["description"], shown["argument_hint"])


def front_matter(text: str) -> dict[str, str]:
    """`description` and `argument_hint` of a prompt's YAML front matter, cleaned.

    A value that is no YAML text counts as written: Codex's own prompts say `argument-hint: [FILE] [--all]`, which
    YAML refuses. No front matter, or one that is not closed, has neither.
    """
    normal = text.replace("\r\n", "\n").replace("\r", "\n")
    handler = YAMLHandler()
    if not handler.detect(normal):
        return {}
    try:
        block, _ = handler.split(normal)
    except ValueError:
        return {}
    try:
        parsed = handler.load(block, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        parsed = None
    found = {}
    for line in block.splitlines():
        key, colon, written = line.partition(":")
        name = key.strip().lower().replace("-", "_")
        if colon and name in ("description", "argument_hint"):
            value = parsed.get(key.strip()) if isinstance(parsed, dict) else None
            found[name] = texts.clean(value if isinstance(value, str) else written)
    return found


_SHOWN = ("filename", "sha256", "description", "argument_hint", "updated_at")


_LIST = Prepared(
    lambda: SlashCommand.select(*(SlashCommand._meta.fields[name] for name in ("id", *_SHOWN))).order_by(
        SlashCommand.filename
    )
)


def summary(row: SlashCommand) -> dict[str, Any]:
    """What is shown of a prompt beside its text."""
    return {name: getattr(row, name) for name in _SHOWN}


def whole(row: SlashCommand) -> dict[str, Any]:
    """A prompt with its text, as admins see it."""
    return summary(row) | {"prompt": row.prompt}


def revision() -> str:
    """A text that changes with every change of any prompt: the list's entity tag."""
    return named_values.get(_REVISION) or "none"


def listing() -> list[dict[str, Any]]:
    """All prompts by file name, without their texts."""
    return [dict(zip(("id", *_SHOWN), row, strict=True)) for row in _LIST.rows()]


def note_listed(host: audit.HostLike, count: int) -> None:
    """The audit row of a list that a host was sent."""
    write(lambda: audit.record("slash.list", actor=audit.host_actor(host), host=host, count=count))


def find(filename: str) -> SlashCommand:
    """A prompt by name, in any case. Raises `NotFound`."""
    row = SlashCommand.get_or_none(SlashCommand.filename_key == filename.strip().lower())
    if row is None:
        raise NotFound(f"No prompt {filename!r}; cdxsync prompts list shows all", code="prompt_not_found")
    return row


def retrieve(body: dict[str, Any], host: audit.HostLike) -> dict[str, Any]:
    """The answer's `data` of `POST /slash-commands/retrieve`. Raises `Invalid`."""
    errors: dict[str, list[str]] = {}
    filename, digest = "", None
    try:
        filename = check_filename(body.get("filename"))
    except ValueError as error:
        errors["filename"] = [str(error)]
    if body.get("sha256") is not None:
        try:
            digest = texts.read_digest(body["sha256"])
        except ValueError as error:
            errors["sha256"] = [str(error)]
    if errors:
        raise Invalid(errors)

    def work() -> dict[str, Any]:
        row = SlashCommand.get_or_none(SlashCommand.filename_key == filename.lower())
        if row is None:
            data: dict[str, Any] = {"status": "missing", "filename": filename}
        else:
            data = {"status": "unchanged" if row.sha256 == digest else "updated", **summary(row)}
            if data["status"] == "updated":
                data["prompt"] = row.prompt
        audit.record(
            "slash.retrieve", actor=audit.host_actor(host), host=host, filename=filename, status=data["status"]
        )
        return data

    return write(work)


def store(prompt: Prompt, *, actor: str, host: audit.HostLike | None = None) -> dict[str, Any]:
    """Store a prompt; the last writer wins. Returns the answer's `data` of `POST /slash-commands/store`.

    Raises `Refused` when the host may not store prompts.
    """

    def work() -> dict[str, Any] | Refused:
        refusal = permits.refusal(registry.by_id(host.id), "store_prompts") if host is not None else None
        if refusal is None:
            return _put(prompt, actor, host)
        # Not raised: the audit row stays.
        audit.record("slash.store", actor=actor, host=host, filename=prompt.filename, status="refused")
        return refusal

    answer = write(work)
    if isinstance(answer, Refused):
        raise answer
    return answer


def store_all(prompts: list[Prompt], *, actor: str) -> list[dict[str, Any]]:
    """Store prompts, all or none; returns what `store` does for each."""
    return write(lambda: [_put(prompt, actor, None) for prompt in prompts])


def _put(prompt: Prompt, actor: str, host: audit.HostLike | None) -> dict[str, Any]:
    at = clock.stamp(clock.now())
    key = prompt.filename.lower()
    row = SlashCommand.get_or_none(SlashCommand.filename_key == key)
    shown = {
        "sha256": prompt.sha256,
        "description": prompt.description,
        "argument_hint": prompt.argument_hint,
    }
    if row is not None and all(getattr(row, name) == value for name, value in shown.items()):
        status, at = "unchanged", row.updated_at
    else:
        source = host.id if host is not None else None
        changes = shown | {
            "filename": prompt.filename,
            "prompt": prompt.text,
            "source_host": source,
            "updated_at": at,
            "stored_by": actor[:255],
        }
        if row is None:
            status = "created"
            SlashCommand.insert(filename_key=key, created_at=at, **changes).execute()
        else:
            status = "updated"
            if row.sha256 != prompt.sha256:
                history.keep(row)
            SlashCommand.update(changes).where(SlashCommand.id == row.id).execute()
        note_changed()
    audit.record("slash.store", actor=actor, host=host, filename=prompt.filename, status=status)
    return {"status": status, "filename": prompt.filename, "sha256": prompt.sha256, "updated_at": at}


def note_changed() -> None:
    """Give the list a new revision, within the caller's write transaction."""
    named_values.put(_REVISION, secrets.token_hex(8))


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
