"""The local runner with the real Codex, against a local model server and token endpoint."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import jwt, make_auth, with_auths
from tests.support.fleet import Fleet, running_fleet
from tests.support.real_codex import RealCodex
from tests.support.together import until
from tests.support.upstream import QUOTA, Upstream

pytestmark = pytest.mark.codex

REFRESHES = "/oauth/token"
ASKS = "/v1/responses"


def environment(codex: RealCodex, upstream: Upstream) -> dict[str, str]:
    return {
        "CDXSYNC_RUNNER": "local",
        "CDXSYNC_RUNNER_CODEX": codex.program,
        "CDXSYNC_RUNNER_MODEL": "gpt-5.1",
        "CDXSYNC_RUNNER_MODEL_URL": f"{upstream.url}/v1",
        "CDXSYNC_RUNNER_TOKEN_URL": upstream.url + REFRESHES,
        "CHATGPT_BASE_URL": upstream.url,
        "AUTH_RUNNER_TIMEOUT": "60",
    }


def login(lifetime: int, last_refresh: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    document = make_auth(last_refresh)
    document["tokens"] |= {"access_token": jwt("x", int(time.time()) + lifetime), "refresh_token": "rt-old"}
    return document


def offline(codex: RealCodex, tmp_path: Path, upstream: Upstream, document: dict[str, Any], **env: str) -> Fleet:
    """A home without a server, with a document."""
    fleet = Fleet(tmp_path / "home", env=environment(codex, upstream) | env)
    fleet.cli("init", "--public-url", "https://localhost:1")
    (tmp_path / "auth.json").write_text(json.dumps(document))
    fleet.cli("auth", "upload", str(tmp_path / "auth.json"))
    return fleet


def test_a_login_that_works(codex: RealCodex, tmp_path: Path, upstream: Upstream) -> None:
    document = login(36000)
    fleet = offline(codex, tmp_path, upstream, document)
    done = fleet.cli("runner", "run")
    assert done.stdout.startswith("ok (")
    assert (upstream.count(ASKS), upstream.count(REFRESHES)) == (1, 0)
    assert fleet.canonical() == with_auths(document)
    assert list((fleet.home / "runner").iterdir()) == []


def test_a_login_that_is_dead(codex: RealCodex, tmp_path: Path, upstream: Upstream) -> None:
    """`codex login status` would call it fine."""
    document = login(36000)
    fleet = offline(codex, tmp_path, upstream, document)
    upstream.fail(ASKS, status=401, body='{"error": {"message": "no such login", "code": "invalid_token"}}')
    upstream.fail(REFRESHES, status=401, body='{"error": {"code": "refresh_token_reused"}}')
    done = fleet.cli("runner", "run", check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("fail: ")
    for secret in document["tokens"].values():
        assert secret == "acc-1" or secret not in done.stdout + done.stderr
    assert fleet.canonical() == with_auths(document)


def test_the_quota_is_a_cheaper_check(codex: RealCodex, tmp_path: Path, upstream: Upstream) -> None:
    fleet = offline(codex, tmp_path, upstream, login(36000), CDXSYNC_RUNNER_CHECK="quota")
    assert fleet.cli("runner", "run").stdout.startswith("ok (")
    assert (upstream.count(QUOTA), upstream.count(ASKS)) == (1, 0)
    upstream.fail(QUOTA, status=401)
    assert fleet.cli("runner", "run", check=False).stdout.startswith("fail: ")
    upstream.fail(QUOTA, status=500)
    done = fleet.cli("runner", "run", check=False)
    assert (done.returncode, "HTTP 500" in done.stderr) == (1, True)  # proves nothing about the login


def test_the_server_alone_refreshes_ahead_of_expiry(codex: RealCodex, tmp_path: Path, upstream: Upstream) -> None:
    """Without being asked; Codex then checks what came of it, with a refresh token that is none."""
    more = {"CDXSYNC_REFRESH": "server", "CDXSYNC_TOKEN_URL": f"{upstream.url}/oauth/token"}
    with running_fleet(tmp_path / "home", env=environment(codex, upstream) | more) as fleet:
        login_of_before = login(3600) | {"last_refresh": "2026-01-01T00:00:00Z"}
        fleet.upload(login_of_before)
        until(lambda: upstream.count(REFRESHES) == 1)
        until(lambda: (fleet.canonical() or {})["tokens"]["refresh_token"] != "rt-old")
        digest = fleet.admin_call("GET", "/admin/overview")["canonical"]["digest"]
        until(lambda: (fleet.admin_call("GET", "/admin/runner")["latest_validation"] or {}).get("digest") == digest)
        status = fleet.admin_call("GET", "/admin/runner")
        assert status["latest_validation"]["status"] == "ok"
        assert [intent["outcome"] for intent in status["refresh"]["intents"]] == ["stored"]
        assert upstream.count(REFRESHES) == 1
