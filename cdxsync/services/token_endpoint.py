"""The provider's token endpoint: spending the canonical login's refresh token, as Codex does."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from cdxsync.auth import refresh
from cdxsync.auth.answers import Given
from cdxsync.base import jsontext
from cdxsync.base.errors import Malformed, ServiceError
from cdxsync.services import client

REVOKE_SECONDS = 10.0
CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
"""Codex's own."""
REFUSALS = frozenset(
    [
        "refresh_token_expired",
        "refresh_token_reused",
        "refresh_token_invalidated",
        "refresh_token_revoked",
        "invalid_grant",
    ]
)
"""Codes with which the provider says that a refresh token, and so the login, has ended."""
_CLIENT_ID = re.compile(r"app_[A-Za-z0-9]{8,64}")
_CODE = re.compile(r"[a-z0-9_.-]{1,64}")


class LoginEnded(ServiceError):
    """The provider does not take the refresh token any more; `reason` is its code."""

    def __init__(self, message: str, *, status: int, reason: str) -> None:
        super().__init__(message, status=status)
        self.reason = reason


def client_id(content: Mapping[str, Any]) -> str:
    """The client that the document's tokens were made for; Codex's, where they do not say."""
    tokens = refresh.tokens_of(content)
    audience = refresh.claims_of(tokens.get("id_token")).get("aud")
    named = [refresh.claims_of(tokens.get("access_token")).get("client_id"), *_listed(audience)]
    return next((one for one in named if isinstance(one, str) and _CLIENT_ID.fullmatch(one)), CLIENT_ID)


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def request(content: Mapping[str, Any], reason: str) -> dict[str, str]:
    """The body of a call that spends the refresh token of a document; `reason` is what Codex calls `refresh_reason`."""
    return {
        "client_id": client_id(content),
        "grant_type": "refresh_token",
        "refresh_token": str(refresh.tokens_of(content)["refresh_token"]).strip(),
        "refresh_reason": reason,
    }


def tokens_in(url: str, given: Given) -> dict[str, str]:
    """The tokens that came for a refresh token: `access_token`, `refresh_token`, or both.

    Raises `LoginEnded`, or `ServiceError`: the refresh token may be spent when the request was `sent` and there is no
    `status`.
    """
    if given.problem or given.status is None:
        raise ServiceError(given.problem, status=given.status, sent=given.sent)
    where = client.place(url)
    body = _object(given.body)
    if 200 <= given.status < 300:
        tokens = {name: body.get(name) for name in ("id_token", "access_token", "refresh_token")}
        found = {name: token for name, token in tokens.items() if isinstance(token, str) and token.strip()}
        if not found.keys() & {"access_token", "refresh_token"}:
            raise ServiceError(f"{where} answered without an access token")
        return found
    code = _code(body)
    if _has_ended(given.status, code):
        raise LoginEnded(f"{where} has ended the login: {code}", status=given.status, reason=code)
    raise ServiceError(
        _told(url, given.status, code),
        status=given.status,
        wait=client.wait_of(given.status, client.dict_of(given.headers)),
    )


def revoke_url(token_url: str) -> str:
    """Where the provider revokes tokens: on the origin of its token endpoint, as Codex has it."""
    parts = urlsplit(token_url)
    return urlunsplit((parts.scheme, parts.netloc, "/oauth/revoke", "", ""))


def revoke(url: str, content: Mapping[str, Any]) -> None:
    """End the login of a document at the provider, once. Raises `ServiceError`; one that has ended already is no error.

    The login may have ended when the request was `sent` and there is no `status`.
    """
    body = {
        "token": str(refresh.tokens_of(content)["refresh_token"]).strip(),
        "token_type_hint": "refresh_token",
        "client_id": client_id(content),
    }
    answer = client.post_json(url, body, timeout=REVOKE_SECONDS, headers={})
    code = _code(_object(answer.body))
    if not 200 <= answer.status < 300 and not _has_ended(answer.status, code):
        raise ServiceError(_told(url, answer.status, code), status=answer.status)


def _has_ended(status: int, code: str) -> bool:
    """Whether an answer says that the refresh token, and so the login, has ended."""
    return 400 <= status < 500 and code in REFUSALS


def _told(url: str, status: int, code: str) -> str:
    """An answer that is of no use, in words."""
    return f"{client.place(url)} answered HTTP {status}" + (f" ({code})" if code else "")


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = jsontext.decode(body)
    except Malformed:
        return {}
    return value if isinstance(value, dict) else {}


def _code(given: Mapping[str, Any]) -> str:
    """The code of an error as OpenAI (`error.code`) or OAuth (`error`) has it; nothing that could be a secret."""
    error = given.get("error")
    named = error.get("code") if isinstance(error, dict) else error
    code = named if isinstance(named, str) else given.get("code")
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""
