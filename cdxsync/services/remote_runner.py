"""A runner on another machine, called over HTTPS with a shared secret (`docs/protocol.md 12.7`)."""

import json
import time
from typing import Any

from cdxsync.auth import runner
from cdxsync.auth.runner import Verdict
from cdxsync.base import texts
from cdxsync.base.errors import ServiceError
from cdxsync.services import client
from cdxsync.services.secrecy import redact
from cdxsync.store.fleet import Fleet


def check(fleet: Fleet, laid: dict[str, Any]) -> Verdict:
    """Have the runner check the document `laid`; it gets no host's key.

    Raises `ServiceError` when it cannot be reached or does not answer as a runner: that proves nothing about the
    document.
    """
    settings = fleet.settings
    headers = {}
    if settings.auth_runner_secret:
        headers["Authorization"] = f"Bearer {settings.auth_runner_secret}"
    content = {
        "auth_json": laid,
        "base_url": settings.auth_runner_codex_base_url or settings.public_url,
        "timeout_seconds": settings.auth_runner_timeout,
    }
    begun = time.monotonic()
    answer = client.post_json(settings.auth_runner_url, content, timeout=settings.auth_runner_timeout, headers=headers)
    took = round((time.monotonic() - begun) * 1000)
    where = client.place(settings.auth_runner_url)
    if answer.status in (401, 403):
        raise ServiceError(f"{where} refuses auth_runner_secret (HTTP {answer.status})", status=answer.status)
    if answer.status == 429 or (answer.status >= 500 and answer.status != 504):
        wait = client.wait_of(answer.status, answer.headers)
        raise ServiceError(f"{where} answered HTTP {answer.status}", status=answer.status, wait=wait)
    body = answer.json()
    if not isinstance(body, dict) or body.get("status") not in (runner.OK, runner.FAIL, runner.UNKNOWN):
        detail = f": {_text(body.get('detail'), laid)}" if isinstance(body, dict) and "detail" in body else ""
        raise ServiceError(f"{where} answered HTTP {answer.status} without a status ok, fail or unknown{detail}")
    latency = body.get("latency_ms")
    plain = isinstance(latency, int | float) and not isinstance(latency, bool) and 0 <= latency < 2**53
    reason = body.get("reason")
    return Verdict(
        status=str(body["status"]),
        reason=_text(reason, laid) if reason is not None else None,
        latency_ms=int(latency) if plain else took,  # type: ignore[arg-type]
        updated_auth=body.get("updated_auth"),
    )


def _text(value: object, laid: dict[str, Any]) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return texts.clean(redact(text, laid))[:400]
