"""Whose login a document is, and what its tokens say of themselves."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.files import sha256_of

if TYPE_CHECKING:
    from typing import Any, Tuple

    # Kind, id and user; the last two are empty when they are not known.
    Account = Tuple[str, str, str]

GRANT_PREFIX = "cdxr_"
OPENAI_CLAIMS = "https://api.openai.com/auth"
MODES = {
    "chatgpt": "chatgpt",
    "apikey": "api_key",
    "personalaccesstoken": "access_token",
    "bedrockapikey": "bedrock",
    "agentidentity": "agent_identity",
}
# In this order where nothing else tells which of them a document is.
KINDS = ("access_token", "bedrock", "chatgpt", "api_key", "agent_identity")
# Members that are no login by themselves; any other one is, also of a kind that is not known yet.
NO_LOGIN = ("auth_mode", "last_refresh", "OPENAI_API_KEY", "tokens", "auths")


def tokens_of(document: dict[str, Any]) -> dict[str, Any]:
    """The `tokens` of a ChatGPT login; empty without one."""
    tokens = document.get("tokens")
    return tokens if isinstance(tokens, dict) else {}


def is_grant(token: object) -> bool:
    """Whether a refresh token is a grant of a server, which that server alone exchanges."""
    return isinstance(token, str) and token.strip().startswith(GRANT_PREFIX)


def holds_grant(document: dict[str, Any] | None) -> bool:
    """Whether a document came from the server, with a grant in the place of the refresh token."""
    return document is not None and is_grant(tokens_of(document).get("refresh_token"))


def claims_of(token: object) -> dict[str, Any]:
    """What a JWT says, unverified; empty for any other text."""
    parts = token.split(".") if isinstance(token, str) else []
    if len(parts) != 3:
        return {}
    try:
        text = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims = json.loads(text.decode("utf-8"))
    except ValueError:
        return {}
    return claims if isinstance(claims, dict) else {}


def expiry_of(document: dict[str, Any]) -> float | None:
    """When the access token ends, in seconds since the epoch; None where it does not say."""
    expires = claims_of(tokens_of(document).get("access_token")).get("exp")
    return float(expires) if isinstance(expires, (int, float)) and not isinstance(expires, bool) else None


def kind_of(document: dict[str, Any]) -> str:
    """The kind of a login: what `auth_mode` names when it is there, else the first that is; empty without one."""
    mode = document.get("auth_mode")
    named = MODES.get(mode.strip().lower(), "") if isinstance(mode, str) else ""
    if named and credential_of(document, named):
        return named
    return next((kind for kind in KINDS if credential_of(document, kind)), "")


def credential_of(document: dict[str, Any], kind: str) -> str:
    """The text by which a login of this kind is known; empty when the document has none."""
    if kind == "chatgpt":
        return text_of(tokens_of(document).get("access_token"))
    if kind == "bedrock":
        key = document.get("bedrock_api_key")
        return text_of(key.get("api_key")) if isinstance(key, dict) else ""
    if kind == "agent_identity":
        return json.dumps(document[kind], sort_keys=True) if document.get(kind) else ""
    return text_of(document.get({"api_key": "OPENAI_API_KEY", "access_token": "personal_access_token"}[kind]))


def account_of(document: dict[str, Any]) -> Account | None:
    """Whose login a document is; None when that cannot be told. Of a key or token the id is the SHA-256.

    The server has the same rule (docs/protocol.md 3).
    """
    kind = kind_of(document)
    if not kind:
        others = [name for name in sorted(document) if name not in NO_LOGIN and is_login(document[name])]
        if not others or document.get("auths"):
            return None
        # A kind that is not known yet.
        text = json.dumps(document[others[0]], sort_keys=True)
        return (others[0], sha256_of(text.encode("utf-8", "surrogatepass")), "")
    if kind != "chatgpt":
        return (kind, sha256_of(credential_of(document, kind).encode("utf-8", "surrogatepass")), "")
    tokens = tokens_of(document)
    claims = [claims_of(tokens.get(name)) for name in ("id_token", "access_token")]
    said = [claim.get(OPENAI_CLAIMS) for claim in claims]
    named = [one if isinstance(one, dict) else {} for one in said]
    account = text_of(tokens.get("account_id")) or first_text(named, "chatgpt_account_id")
    user = first_text(named, "chatgpt_user_id") or first_text(named, "user_id") or first_text(claims, "sub")
    return (kind, account, user)


def same_account(one: Account | None, other: Account | None) -> bool:
    """Whether two logins may be of one account. What is not known of a login speaks against none."""
    if one is None or other is None:
        return True
    return one[0] == other[0] and all(not a or not b or a == b for a, b in zip(one[1:], other[1:]))


def same_login(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two documents come from one login, in whatever form: by their tokens, or the session that these name."""
    mine, theirs = tokens_of(one), tokens_of(other)
    if not mine or not theirs:
        first, second = account_of(one), account_of(other)
        return first == second if first and second else one.get("auths") == other.get("auths")
    for name, claim in (("access_token", "session_id"), ("id_token", "sid")):
        session = claims_of(mine.get(name)).get(claim)
        if filled(session) and session == claims_of(theirs.get(name)).get(claim):
            return True
    return filled(mine.get("access_token")) and mine.get("access_token") == theirs.get("access_token")


def is_login(value: object) -> bool:
    """Whether a member can be a login: an object, or a text that is not blank."""
    return filled(value) or (isinstance(value, dict) and bool(value))


def filled(value: object) -> bool:
    """Whether a value is a text that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def text_of(value: object) -> str:
    """A text as it is, trimmed; an empty one for anything else."""
    return value.strip() if isinstance(value, str) else ""


def first_text(among: list[dict[str, Any]], name: str) -> str:
    """The first member of this name that is a text and not blank, trimmed."""
    return next((text_of(one.get(name)) for one in among if text_of(one.get(name))), "")
