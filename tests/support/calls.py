"""Calls of hosts to /auth, and what the audit log has of them."""

import http.client
import json
import ssl
from typing import Any

from tests.support.fleet import Client, Fleet

OLD, MIDDLE, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00.5Z"
ZERO = "0" * 64


def retrieve(client: Client, last_refresh: str = OLD, digest: str = ZERO, **more: Any) -> dict[str, Any]:
    response = client.auth(command="retrieve", last_refresh=last_refresh, digest=digest, **more)
    assert response.status_code == 200, response.text
    data: dict[str, Any] = response.json()["data"]
    return data


def store(client: Client, document: dict[str, Any], **more: Any) -> dict[str, Any]:
    response = client.auth(command="store", auth=document, **more)
    assert response.status_code == 200, response.text
    data: dict[str, Any] = response.json()["data"]
    return data


def logs(fleet: Fleet, action: str) -> list[dict[str, Any]]:
    rows = fleet.rows("SELECT actor, details FROM logs WHERE action = ? ORDER BY id", action)
    return [{"actor": actor, **json.loads(details or "{}")} for actor, details in rows]


def from_address(fleet: Fleet, address: str, key: str, method: str = "GET", path: str = "/wrapper") -> tuple[int, str]:
    """A call from an address of this machine: the status, and the answer's text."""
    context = ssl.create_default_context(cafile=str(fleet.ca_file))
    connection = http.client.HTTPSConnection("localhost", fleet.port, context=context, source_address=(address, 0))
    connection.request(method, path, headers={"X-API-Key": key})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text
