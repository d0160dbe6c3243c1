"""Logins that Codex does not refresh, with the members that the server adds: Codex works with them, and leaves them."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import ACCESS_TOKEN, API_KEY, BEDROCK
from tests.support.fleet import Fleet
from tests.support.real_codex import RealCodex, install
from tests.support.upstream import Upstream

pytestmark = [pytest.mark.codex, pytest.mark.every_codex]


@pytest.mark.parametrize("document", [API_KEY, ACCESS_TOKEN], ids=["key", "token"])
def test_codex_works_with_a_login_that_the_server_has_dated(
    codex: RealCodex, fresh_fleet: Fleet, upstream: Upstream, tmp_path: Path, document: dict[str, Any]
) -> None:
    fresh_fleet.admin_call("POST", "/admin/auth/upload", json={"auth": document})
    stored = fresh_fleet.canonical()
    assert stored is not None
    assert list(stored) == [*document, "last_refresh", "auths"]
    host = install(codex, fresh_fleet, upstream, tmp_path / "one", "one.example.net")
    for _ in range(2):
        done = host.run_cdx("exec", "--skip-git-repo-check", "say hi")
        assert (done.returncode, done.stdout) == (0, "hi there\n"), done.stderr
        assert host.auth() == stored
    assert upstream.count("/oauth/token") == 0
    assert fresh_fleet.canonical() == stored


@pytest.mark.parametrize(
    ("document", "said"), [(API_KEY, "API key"), (BEDROCK, "Amazon Bedrock API key")], ids=["key", "bedrock"]
)
def test_codex_names_a_login_that_the_server_has_dated(
    codex: RealCodex, fresh_fleet: Fleet, upstream: Upstream, tmp_path: Path, document: dict[str, Any], said: str
) -> None:
    fresh_fleet.admin_call("POST", "/admin/auth/upload", json={"auth": document})
    host = install(codex, fresh_fleet, upstream, tmp_path / "one", "one.example.net")
    assert host.auth() == fresh_fleet.canonical()
    done = host.run("codex", "login", "status")
    assert (done.returncode, said in done.stdout + done.stderr) == (0, True), done
