"""Whose login a document is: which kind, which account, which user (`docs/protocol.md 3.8`). No document is opened here
and nothing is looked up: `cdx` has the same rule, and both have the same vectors."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cdxsync.auth.refresh import claims_of, tokens_of
from cdxsync.base import texts

_CLAIMS = "https://api.openai.com/auth"
_PROFILE = "https://api.openai.com/profile"
_MAX_EMAIL = 120


class Kind(StrEnum):
    """The kinds of login that Codex has."""

    CHATGPT = "chatgpt"
    API_KEY = "api_key"
    ACCESS_TOKEN = "access_token"  # noqa: S105 - the name of a kind
    BEDROCK = "bedrock"
    AGENT_IDENTITY = "agent_identity"


_BY_MODE = {
    "chatgpt": Kind.CHATGPT,
    "apikey": Kind.API_KEY,
    "personalaccesstoken": Kind.ACCESS_TOKEN,
    "bedrockapikey": Kind.BEDROCK,
    "agentidentity": Kind.AGENT_IDENTITY,
}
_NAMES = {
    Kind.CHATGPT: "ChatGPT",
    Kind.API_KEY: "API key",
    Kind.ACCESS_TOKEN: "access token",
    Kind.BEDROCK: "Bedrock API key",
    Kind.AGENT_IDENTITY: "agent identity",
}


@dataclass(frozen=True)
class Account:
    """The account of a login. `id` of a ChatGPT login is the account's; of a key, its SHA-256."""

    kind: Kind
    id: str | None
    user: str | None = None
    email: str | None = None

    @property
    def label(self) -> str:
        """The account in words for admins, without a secret: `ChatGPT a@example.net`, `API key 1a2b3c4d`."""
        name = self.email or self.user or self.id if self.kind is Kind.CHATGPT else self.id and self.id[:8]
        return f"{_NAMES[self.kind]} {texts.clean(name)[:_MAX_EMAIL]}" if name else _NAMES[self.kind]

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of what the account is known by."""
        return _sha256(json.dumps([self.kind, self.id, self.user]))


def kind_of(content: Mapping[str, Any]) -> Kind | None:
    """The kind of a login: by `auth_mode` when its credential is there, else by the credential; None without one."""
    mode = content.get("auth_mode")
    named = _BY_MODE.get(mode.strip().lower()) if isinstance(mode, str) else None
    if named is not None and _has(content, named):
        return named
    return next((kind for kind in _IN_ORDER if _has(content, kind)), None)


_IN_ORDER = (Kind.ACCESS_TOKEN, Kind.BEDROCK, Kind.CHATGPT, Kind.API_KEY, Kind.AGENT_IDENTITY)


def _has(content: Mapping[str, Any], kind: Kind) -> bool:
    if kind is Kind.AGENT_IDENTITY:
        return bool(content.get("agent_identity"))
    return bool(secret_of(content, kind))


def secret_of(content: Mapping[str, Any], kind: Kind) -> str:
    """The text that a login of this kind sends to its provider; "" when the document has none."""
    if kind is Kind.CHATGPT:
        return _text(tokens_of(content).get("access_token"))
    if kind is Kind.BEDROCK:
        kept = content.get("bedrock_api_key")
        return _text(kept.get("api_key")) if isinstance(kept, dict) else ""
    name = {Kind.API_KEY: "OPENAI_API_KEY", Kind.ACCESS_TOKEN: "personal_access_token"}.get(kind)
    return _text(content.get(name)) if name else ""


def account_of(content: Mapping[str, Any]) -> Account | None:
    """The account of a document; None when none is known, as for one that has only `auths`."""
    kind = kind_of(content)
    if kind is None:
        return None
    if kind is not Kind.CHATGPT:
        secret = secret_of(content, kind)
        return Account(kind, _sha256(secret) if secret else None)
    claims = list(_claims(content))
    named = [_object(one.get(_CLAIMS)) for one in claims]
    profiles = [_object(one.get(_PROFILE)) for one in claims]
    return Account(
        kind,
        _text(tokens_of(content).get("account_id")) or _first(named, "chatgpt_account_id"),
        _first(named, "chatgpt_user_id") or _first(named, "user_id") or _first(claims, "sub"),
        _first(claims, "email") or _first(profiles, "email"),
    )


def _claims(content: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The claims of the id token, then those of the access token."""
    for name in ("id_token", "access_token"):
        yield claims_of(tokens_of(content).get(name))


def differs(one: Account | None, other: Account | None) -> bool:
    """Whether two documents are of different accounts: their kinds differ, or ids or users that both name."""
    if one is None or other is None:
        return False
    pairs = ((one.id, other.id), (one.user, other.user))
    return one.kind is not other.kind or any(a is not None and b is not None and a != b for a, b in pairs)


def credential_of(content: Mapping[str, Any]) -> str:
    """The SHA-256 of a document's credentials, whatever its date, its other members and their order.

    Two documents with the same tokens are the same login, at the same point of its life.
    """
    tokens = tokens_of(content)
    known = [_text(tokens.get(name)) for name in ("access_token", "refresh_token")]
    known += [secret_of(content, kind) for kind in (Kind.API_KEY, Kind.ACCESS_TOKEN, Kind.BEDROCK)]
    if not any(known):
        entries = _object(content.get("auths"))
        known += [f"{target} {_object(entry).get('token')}" for target, entry in sorted(entries.items())]
    return _sha256(json.dumps(known))


_STATIC = {
    Kind.API_KEY: "an API key",
    Kind.ACCESS_TOKEN: "an access token",
    Kind.BEDROCK: "a Bedrock API key",
}


def static_kind(content: Mapping[str, Any]) -> str | None:
    """What a login is that stays as it is until somebody makes another, in words: `an API key`; None for others.

    Codex neither refreshes it nor dates its file, and it has no ChatGPT quota.
    """
    kind = kind_of(content)
    return None if kind is None else _STATIC.get(kind)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _first(maps: list[Mapping[str, Any]], name: str) -> str | None:
    return next(filter(None, (_text(one.get(name)) for one in maps)), None)
