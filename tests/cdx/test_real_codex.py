"""The real Codex binary on two hosts of a fleet, against a local model server and token endpoint."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import jwt, make_auth, with_auths
from tests.support.fleet import Fleet
from tests.support.machines import Machine
from tests.support.real_codex import RealCodex, install
from tests.support.upstream import Upstream

pytestmark = pytest.mark.codex


def say_hi(machine: Machine) -> subprocess.CompletedProcess[str]:
    done = machine.run_cdx("exec", "--skip-git-repo-check", "say hi", CODEX_DEBUG="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "hi there\n"
    return done


def statuses(done: subprocess.CompletedProcess[str]) -> list[str]:
    prefix = "cdx: the server says "
    return [line.removeprefix(prefix) for line in done.stderr.splitlines() if line.startswith(prefix)]


def expired_login() -> dict[str, Any]:
    document = make_auth("2026-01-01T00:00:00.000000001Z")
    document["tokens"]["access_token"] = jwt("expired", expires=1_700_000_000)
    document["tokens"]["refresh_token"] = "rt-old"
    return document


def test_a_refresh_on_one_host_is_seen_by_the_other(
    codex: RealCodex, fresh_fleet: Fleet, upstream: Upstream, tmp_path: Path
) -> None:
    fresh_fleet.upload(expired_login())
    one = install(codex, fresh_fleet, upstream, tmp_path / "one", "one.example.net")
    two = install(codex, fresh_fleet, upstream, tmp_path / "two", "two.example.net")
    assert one.auth() == two.auth() == with_auths(expired_login())

    # Codex finds the token expired, fetches a new one, and rewrites its file without `auths`.
    assert statuses(say_hi(one)) == ["valid", "upload_required", "updated"]
    assert upstream.count("/oauth/token") == 1
    refreshed = one.auth()
    assert "auths" not in refreshed
    assert refreshed["last_refresh"] > expired_login()["last_refresh"]
    assert fresh_fleet.canonical() == with_auths(refreshed)

    # The other host starts with the new token, so that the refresh token, good once, is not spent twice.
    assert statuses(say_hi(two)) == ["outdated", "valid"]
    assert upstream.count("/oauth/token") == 1
    assert two.auth() == with_auths(refreshed)

    # From here on nothing moves: the two forms are the same document.
    payload = json.loads(fresh_fleet.cli("--json", "auth", "show").stdout)
    for machine in (one, two, one):
        assert statuses(say_hi(machine)) == ["valid"]
    assert one.auth() == refreshed
    assert two.auth() == with_auths(refreshed)
    assert json.loads(fresh_fleet.cli("--json", "auth", "show").stdout) == payload
    assert upstream.count("/v1/responses") == 5
