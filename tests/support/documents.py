"""Auth documents as Codex writes them."""

import base64
import hashlib
import json
from typing import Any


def unsigned(claims: dict[str, Any]) -> str:
    """An unsigned token with these claims."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part(claims)}.c2ln"


def jwt(seed: str, expires: int = 4_102_444_800, account: str = "acc-1", user: str = "u1") -> str:
    """An unsigned token of the shape that Codex parses, different for each seed."""
    claims = {
        "exp": expires,
        "jti": hashlib.sha256(seed.encode()).hexdigest(),
        "email": "a@example.net" if user == "u1" else f"{user}@example.net",
        "https://api.openai.com/auth": {
            "chatgpt_plan_type": "pro",
            "chatgpt_account_id": account,
            "chatgpt_user_id": user,
        },
    }
    return unsigned(claims)


def make_auth(
    last_refresh: str = "2026-01-01T00:00:00.123456789Z",
    token_seed: str = "one",
    account: str = "acc-1",
    user: str = "u1",
) -> dict[str, Any]:
    """A document with the keys of Codex 0.169, in its order."""
    return {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {
            "id_token": jwt(f"id {token_seed}", account=account, user=user),
            "access_token": jwt(f"access {token_seed}", account=account, user=user),
            "refresh_token": f"rt-{token_seed}",
            "account_id": account,
        },
        "last_refresh": last_refresh,
    }


def without_expiry(document: dict[str, Any]) -> dict[str, Any]:
    """The document with an access token that does not say when it ends."""
    return {**document, "tokens": {**document["tokens"], "access_token": "opaque-access-token-0123456789"}}


def with_auths(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the `auths` that the server synthesises."""
    entry = {"token": document["tokens"]["access_token"], "token_type": "bearer"}
    return {**document, "auths": {"api.openai.com": entry}}


def plain_digest(document: dict[str, Any]) -> str:
    """The digest as a host computes it: the compact re-serialised file."""
    return hashlib.sha256(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


API_KEY = {"auth_mode": "apikey", "OPENAI_API_KEY": "sk-abcdefghijklmnopqrstuvwxyz0123456789"}
ACCESS_TOKEN = {"OPENAI_API_KEY": None, "personal_access_token": "at-0123456789abcdefghijklmnopqrstuvwxyz"}
BEDROCK = {
    "auth_mode": "bedrockApiKey",
    "bedrock_api_key": {"api_key": "bedrock-api-key-0123456789abcdef", "region": "us-east-1"},
}
AGENT = {"auth_mode": "agentIdentity", "OPENAI_API_KEY": None, "agent_identity": "e30.e30.c2ln"}
