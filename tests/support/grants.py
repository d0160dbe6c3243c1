"""Hosts that take grants, and what their Codex asks for them."""

from typing import Any

import requests

from tests.support.calls import OLD, ZERO
from tests.support.fleet import Client, Fleet
from tests.support.together import until
from tests.support.upstream import job

GRANT = {"accepts": ["grant"]}


def fetch(client: Client, **more: Any) -> dict[str, Any]:
    """What a host without a file gets, which can live with a grant."""
    data: dict[str, Any] = client.auth(**{"last_refresh": OLD, "digest": ZERO, **GRANT, **more}).json()["data"]
    return data


def grant_of(data: dict[str, Any]) -> str:
    """The grant in what a host got."""
    return str(data["auth"]["tokens"]["refresh_token"])


def ask(client: Client, grant: str, reason: str = "proactive_expiry") -> requests.Response:
    """Ask for an access token, as Codex does."""
    body = {"client_id": "app_x", "grant_type": "refresh_token", "refresh_token": grant, "refresh_reason": reason}
    return client.call("POST", "/oauth/token", json=body)


def settle(fleet: Fleet) -> None:
    """Wait until the job has looked at the newest document."""
    until(lambda: job(fleet, "refresh")["wanted"] is None and job(fleet, "refresh")["state"] == "idle")
