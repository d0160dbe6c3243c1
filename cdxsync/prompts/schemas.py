"""What answers say of prompts, and what bodies about them hold (`docs/protocol.md 9`)."""

import hashlib
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from cdxsync.base.schema import Digest, Moment
from cdxsync.store.tables import SlashCommand, SlashCommandVersion


class PromptSummary(Struct, frozen=True, kw_only=True):
    """A prompt without its text."""

    filename: str
    """`NAME.md`."""
    sha256: Digest
    """Of the whole file."""
    description: str | None
    argument_hint: str | None
    updated_at: Moment


class PromptItem(PromptSummary, frozen=True, kw_only=True):
    """A prompt in the list."""

    id: int


class PromptList(Struct, frozen=True, kw_only=True):
    """All prompts, by name."""

    commands: list[PromptItem]


class PromptListSigned(PromptList, frozen=True, kw_only=True):
    """All prompts, by name, as a host gets them. Without signing keys in the home nothing is signed."""

    sequence: int | UnsetType = UNSET
    """Rises with each change of the list."""
    signature: str | UnsetType = UNSET
    """Of names, digests and `sequence`, by each of the home's keys."""


class PromptWhole(PromptSummary, frozen=True, kw_only=True):
    """A prompt with its text."""

    prompt: str

    @classmethod
    def of(cls, row: SlashCommand) -> "PromptWhole":
        """All that is shown of a row."""
        return cls(
            filename=row.filename,
            sha256=row.sha256,
            description=row.description,
            argument_hint=row.argument_hint,
            updated_at=row.updated_at,
            prompt=row.prompt,
        )


class PromptRetrieved(Struct, frozen=True, kw_only=True):
    """A prompt as a host fetches it. `missing` comes with the name alone; `updated` with the text."""

    status: Literal["missing", "unchanged", "updated"]
    filename: str
    sha256: Digest | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    argument_hint: str | UnsetType | None = UNSET
    updated_at: Moment | UnsetType = UNSET
    prompt: str | UnsetType = UNSET
    """The whole file, when the host has another."""

    @classmethod
    def of(cls, row: SlashCommand, *, known: bool) -> "PromptRetrieved":
        """A row, for a host that has its text (`known`) or not."""
        return cls(
            status="unchanged" if known else "updated",
            filename=row.filename,
            sha256=row.sha256,
            description=row.description,
            argument_hint=row.argument_hint,
            updated_at=row.updated_at,
            prompt=UNSET if known else row.prompt,
        )


class PromptStored(Struct, frozen=True, kw_only=True):
    """What became of a prompt."""

    status: Literal["created", "updated", "unchanged"]
    filename: str
    sha256: Digest
    updated_at: Moment


class PromptsStored(Struct, frozen=True, kw_only=True):
    """What became of several prompts."""

    commands: list[PromptStored]


class PromptDeleted(Struct, frozen=True, kw_only=True):
    """The name of a prompt that was deleted."""

    deleted: str


class PromptVersion(Struct, frozen=True, kw_only=True):
    """A former text of a prompt, without it."""

    id: int
    filename: str
    sha256: Digest
    source: str | None
    """Who had stored it."""
    stored_at: Moment | None

    @classmethod
    def of(cls, row: SlashCommandVersion) -> "PromptVersion":
        """What is shown of a row."""
        return cls(id=row.id, filename=row.filename, sha256=row.sha256, source=row.source, stored_at=row.stored_at)


class PromptVersionWhole(PromptVersion, frozen=True, kw_only=True):
    """A former text of a prompt."""

    prompt: str

    @classmethod
    def of(cls, row: SlashCommandVersion) -> "PromptVersionWhole":
        """All that is shown of a row."""
        return cls(
            id=row.id,
            filename=row.filename,
            sha256=row.sha256,
            source=row.source,
            stored_at=row.stored_at,
            prompt=row.prompt,
        )


class PromptHistory(Struct, frozen=True, kw_only=True):
    """The former texts of a name, newest first."""

    history: list[PromptVersion]


class PromptBody(Struct, frozen=True, kw_only=True):
    """A prompt to store."""

    filename: str
    """`NAME.md`."""
    prompt: str
    """The whole file."""
    sha256: Digest | None = None
    """Checked, when it is there."""
    description: str | None = None
    """Instead of what the front matter says."""
    argument_hint: str | None = None
    """Instead of what the front matter says."""

    @property
    def digest(self) -> str:
        """The SHA-256 of the text."""
        return hashlib.sha256(self.prompt.encode()).hexdigest()


class PromptQuery(Struct, frozen=True, kw_only=True):
    """Which prompt a host wants."""

    filename: str
    sha256: Digest | None = None
    """Of the text that the host has."""
