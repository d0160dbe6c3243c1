"""The envelope of answers (`docs/protocol.md 1.2`), and what answers say of the server itself."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType


class Success(Struct, frozen=True, kw_only=True):
    """An answer to what was done."""

    status: Literal["ok"] = "ok"
    data: Any


class ProviderError(Struct, frozen=True, kw_only=True):
    """An error as OpenAI's token endpoint has it."""

    code: str
    message: str


class Failure(Struct, frozen=True, kw_only=True):
    """An answer to what was not done."""

    status: Literal["error"] = "error"
    code: str
    """For programs."""
    message: str
    """For people."""
    errors: dict[str, list[str]] | UnsetType = UNSET
    """What is wrong with each field; with 422 only."""
    error: ProviderError | UnsetType = UNSET
    """For Codex; of `/oauth/token` and `/oauth/revoke` only."""
    request_id: str


class Alive(Struct, frozen=True, kw_only=True):
    """The process answers."""

    alive: bool


class Ready(Struct, frozen=True, kw_only=True):
    """The server can serve."""

    ready: bool
