"""The account's quota, from ChatGPT's `/wham/usage` with the canonical login (`docs/protocol.md 12.2`)."""

from collections.abc import Mapping
from typing import Any

from cdxsync.auth import canonical
from cdxsync.auth.account import static_kind
from cdxsync.auth.refresh import tokens_of
from cdxsync.base.errors import ServiceError
from cdxsync.codex import quota
from cdxsync.jobs.schedule import Outcome
from cdxsync.services import client
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet


class MissingToken(ServiceError):
    """The document has no access token, so ChatGPT cannot be asked."""


def fetch(fleet: Fleet, content: Mapping[str, Any]) -> dict[str, Any]:
    """The answer for the login of a document.

    Raises `ServiceError` with the status, if there was one; `MissingToken` for a document without an access token.
    """
    token = _word(tokens_of(content).get("access_token"))
    account = _word(tokens_of(content).get("account_id"))
    if not token:
        raise MissingToken("the canonical auth.json has no tokens.access_token")
    headers = {"Authorization": f"Bearer {token}"}
    if account:
        headers["ChatGPT-Account-Id"] = account
    settings = fleet.settings
    answer = client.get(
        f"{settings.chatgpt_base_url}/wham/usage", timeout=settings.chatgpt_usage_timeout, headers=headers, secret=True
    )
    body = answer.json()
    if not isinstance(body, dict):
        raise ServiceError("the answer is not a JSON object", status=answer.status)
    return body


def _word(value: object) -> str:
    """A header's value: printable ASCII without blanks, or nothing."""
    text = value.strip() if isinstance(value, str) else ""
    return text if text.isascii() and text.isprintable() and " " not in text else ""


def read(fleet: Fleet) -> Outcome:
    """Read the quota and store the outcome, also a failure. The next reading is due after the cool-down."""
    found = write(lambda: canonical.current(fleet))
    settings = fleet.settings
    if found is None:
        message = "there is no canonical auth.json yet"
        quota.keep(settings, None, body=None, error=message, reason="missing_canonical_auth")
        return Outcome(message, next_in=quota.COOLDOWN_SECONDS)
    digest, static = found[1].digest, static_kind(found[1].content)
    if static is not None:
        message = f"the fleet's login is {static}, which has no ChatGPT quota"
        quota.keep(settings, digest, body=None, error=message, reason="no_quota")
        return Outcome(message, next_in=quota.COOLDOWN_SECONDS)
    try:
        body = fetch(fleet, found[1].content)
    except ServiceError as error:
        reason = "missing_token" if isinstance(error, MissingToken) else None
        quota.keep(settings, digest, body=None, error=error.message, reason=reason, http_status=error.status)
        return Outcome("failed", error=error.message, next_in=quota.COOLDOWN_SECONDS, wait=error.wait)
    quota.keep(settings, digest, body=body, http_status=200)
    return Outcome(f"plan {quota.parse(body).plan_type or 'unknown'}", next_in=quota.COOLDOWN_SECONDS)
