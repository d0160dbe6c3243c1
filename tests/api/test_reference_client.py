"""The calls of the reference's unmodified client, replayed: what it needs of answers (`docs/protocol.md 16`).

It reads answers strictly, so each test names what it reads.
"""

import hashlib
import json
from typing import Any

import pytest
import requests

from tests.support.documents import make_auth, plain_digest, with_auths
from tests.support.fleet import Fleet

EMPTY = {"last_refresh": "2000-01-01T00:00:00Z", "auths": {}}
PROMPT = "---\ndescription: Review\nargument-hint: FILE\n---\nReview $1\n"


class ReferenceClient:
    """Each call on a connection of its own, with the headers that the client sends."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        self.fleet = fleet
        self.key = key

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": "application/json", "X-API-Key": self.key}
        response = requests.request(
            method,
            self.fleet.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers=headers,
            verify=str(self.fleet.ca_file),
            timeout=20,
        )
        answer: dict[str, Any] = response.json()
        return response.status_code, answer

    def good(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """`data` of an answer that the client takes as good."""
        status, answer = self.call(method, path, body)
        assert (status, answer["status"]) == (200, "ok"), answer
        data: dict[str, Any] = answer["data"]
        return data

    def sync(self, document: dict[str, Any] | None) -> dict[str, Any]:
        """A whole exchange as the client makes it; returns the document that it writes."""
        local = document or EMPTY
        data = self.good(
            "POST",
            "/auth",
            {
                "command": "retrieve",
                "last_refresh": local["last_refresh"],
                "digest": plain_digest(local),
                "client_version": "0.63.0",
                "wrapper_version": "2025.11.26",
            },
        )
        self.reads(data)
        if data["status"] in ("missing", "upload_required"):
            # In `digest` it sends what the server had, not what it stores.
            body = {"command": "store", "auth": local, "digest": data["canonical_digest"] or ""}
            data = self.good("POST", "/auth", body | {"client_version": "0.63.0", "wrapper_version": "2025.11.26"})
            self.reads(data)
        written = dict(data.get("auth", local))
        written["last_refresh"] = data["canonical_last_refresh"] or written["last_refresh"]
        return written

    def reads(self, data: dict[str, Any]) -> None:
        """What it takes from every answer; a null where it expects an object makes it crash."""
        assert data["status"] in ("valid", "outdated", "updated", "unchanged", "missing", "upload_required")
        assert isinstance(data.get("chatgpt_usage", {}), dict)
        assert isinstance(data["api_calls"], int)
        assert isinstance(data["token_usage_month"]["total"], int)
        for name in ("client_version", "client_version_source", "wrapper_version", "wrapper_sha256", "wrapper_url"):
            assert name in data["versions"]
        assert "canonical_last_refresh" in data
        assert "canonical_digest" in data


@pytest.fixture
def fresh(fresh_fleet: Fleet) -> ReferenceClient:
    """The only client of a fleet without a document."""
    return ReferenceClient(fresh_fleet, fresh_fleet.key("reference.example.net"))


@pytest.fixture
def client(fleet: Fleet, request: pytest.FixtureRequest) -> ReferenceClient:
    """A host of its own for each test."""
    return ReferenceClient(fleet, fleet.key(host_name(request.node.name)))


def host_name(test: str) -> str:
    """The host of a test."""
    return test.replace("_", "-") + ".example.net"


def test_its_auth_sync(fresh: ReferenceClient) -> None:
    fleet = fresh.fleet
    first = with_auths(make_auth("2026-01-01T00:00:00Z"))
    assert fresh.sync(first) == first
    assert fleet.canonical() == first
    # A host without a file, and one with an older file, take the canonical one; then all agree.
    assert fresh.sync(None) == first
    assert fresh.sync(with_auths(make_auth("2025-01-01T00:00:00Z", "old"))) == first
    assert fresh.sync(first) == first
    newer = with_auths(make_auth("2026-02-01T00:00:00Z", "new"))
    assert fresh.sync(newer) == newer
    assert fleet.canonical() == newer


def test_it_lives_beside_cdx(fresh: ReferenceClient) -> None:
    """A file that Codex itself rewrote has no `auths`; the two kinds of client do not push it to and fro."""
    fleet = fresh.fleet
    fleet.upload(make_auth("2026-01-01T00:00:00Z"))
    held = fresh.sync(None)
    for _ in range(2):
        data = fresh.good(
            "POST",
            "/auth",
            {"command": "retrieve", "last_refresh": held["last_refresh"], "digest": plain_digest(held)},
        )
        assert data["status"] == "valid"


def test_its_prompt_sync(client: ReferenceClient) -> None:
    assert client.good("GET", "/slash-commands")["commands"] == []
    sha256 = hashlib.sha256(PROMPT.encode()).hexdigest()
    stored = {"filename": "review.md", "prompt": PROMPT, "sha256": sha256}
    data = client.good("POST", "/slash-commands/store", stored | {"description": "Review", "argument_hint": "FILE"})
    assert data["status"] in ("created", "updated", "unchanged")
    (listed,) = client.good("GET", "/slash-commands")["commands"]
    assert (listed["filename"], listed["sha256"]) == ("review.md", sha256)
    data = client.good("POST", "/slash-commands/retrieve", {"filename": "review.md"})
    assert data["prompt"] == PROMPT
    data = client.good("POST", "/slash-commands/retrieve", {"filename": "review.md", "sha256": "0" * 64})
    assert (data["status"], data["prompt"]) == ("updated", PROMPT)
    data = client.good("POST", "/slash-commands/retrieve", {"filename": "review.md", "sha256": sha256})
    assert data["status"] == "unchanged"


def test_its_usage(client: ReferenceClient) -> None:
    line = "Token usage: total=4,880 input=4,200 (+ 120 cached) output=560 (reasoning 160)"
    counts = {"total": 4880, "input": 4200, "cached": 120, "output": 560, "reasoning": 160}
    assert client.good("POST", "/usage", {"usages": [counts | {"line": line}]})["recorded"] == 1
    # After a failure it sends the same again without the line; a line alone is enough too.
    assert client.good("POST", "/usage", {"usages": [counts, {"line": "x" * 240 + "…"}]})["recorded"] == 2


def test_its_update(client: ReferenceClient) -> None:
    named = client.good(
        "POST",
        "/auth",
        {"command": "retrieve", "last_refresh": EMPTY["last_refresh"], "digest": plain_digest(EMPTY)},
    )["versions"]
    response = requests.get(
        client.fleet.url + named["wrapper_url"],
        headers={"X-API-Key": client.key},
        verify=str(client.fleet.ca_file),
        timeout=20,
    )
    assert response.status_code == 200
    assert hashlib.sha256(response.content).hexdigest() == named["wrapper_sha256"]
    assert f'WRAPPER_VERSION="{named["wrapper_version"]}"' in response.text.splitlines()


def test_the_errors_that_it_knows(client: ReferenceClient) -> None:
    fleet = client.fleet
    body = {"command": "retrieve", "last_refresh": EMPTY["last_refresh"], "digest": plain_digest(EMPTY)}

    def refused(key: str) -> tuple[int, str]:
        status, answer = ReferenceClient(fleet, key).call("POST", "/auth", body)
        assert answer["status"] == "error"
        return status, str(answer["message"])

    assert refused("") == (401, "API key missing")
    assert refused("0" * 64) == (401, "Invalid API key")
    fleet.cli("hosts", "disable", host_name("test_the_errors_that_it_knows"))
    assert refused(client.key) == (403, "Host is disabled")


def test_its_uninstall(client: ReferenceClient) -> None:
    client.sync(with_auths(make_auth()))
    assert client.good("DELETE", "/auth?force=1") == {"deleted": host_name("test_its_uninstall")}
    assert client.call("GET", "/slash-commands")[0] == 401
