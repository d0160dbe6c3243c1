"""Auth documents as Codex writes them."""

import base64
import hashlib
import json
from typing import Any


def jwt(seed: str, expires: int = 4_102_444_800) -> str:
    """An unsigned token of the shape that Codex parses, different for each seed."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {
        "exp": expires,
        "jti": hashlib.sha256(seed.encode()).hexdigest(),
        "email": "a@example.net",
        "https://api.openai.com/auth": {
            "chatgpt_plan_type": "pro",
            "chatgpt_account_id": "acc-1",
            "chatgpt_user_id": "u1",
        },
    }
    return f"{part({'alg': 'none'})}.{part(claims)}.c2ln"


def make_auth(last_refresh: str = "2026-01-01T00:00:00.123456789Z", token_seed: str = "one") -> dict[str, Any]:
    """A document with the keys of Codex 0.169, in its order."""
    return {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {
            "id_token": jwt(f"id {token_seed}"),
            "access_token": jwt(f"access {token_seed}"),
            "refresh_token": f"rt-{token_seed}",
            "account_id": "acc-1",
        },
        "last_refresh": last_refresh,
    }


def with_auths(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the `auths` that the server synthesises."""
    entry = {"token": document["tokens"]["access_token"], "token_type": "bearer"}
    return {**document, "auths": {"api.openai.com": entry}}


def plain_digest(document: dict[str, Any]) -> str:
    """The digest as a host computes it: the compact re-serialised file."""
    return hashlib.sha256(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()
