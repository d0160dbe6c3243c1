"""What Codex sends to the fleet's token endpoint, and what it gets (`docs/protocol.md 4.7, 4.8`)."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from cdxsync.base.schema import Secret


class TokenBody(Secret, frozen=True, kw_only=True):
    """What Codex sends to refresh its access token."""

    client_id: str | None = None
    grant_type: Literal["refresh_token"] = "refresh_token"
    refresh_token: str
    """The host's grant, which is the credential."""
    refresh_reason: str | None = None
    """`unauthorized_recovery` when an API has refused the access token."""


class TokenAnswer(Secret, frozen=True, kw_only=True):
    """A fresh access token, in the shape of OpenAI's token endpoint."""

    access_token: str
    id_token: str | UnsetType = UNSET
    refresh_token: str
    """The grant, as it was sent."""


class RevokeBody(Secret, frozen=True, kw_only=True):
    """What Codex sends when it logs out."""

    token: str
    token_type_hint: str | None = None


class Revoked(Struct, frozen=True, kw_only=True):
    """Nothing: no token ends."""
