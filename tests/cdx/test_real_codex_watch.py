"""The real Codex without cdx in front, on a host that syncs in the background."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.codex_upstream import USAGE
from tests.support.documents import jwt
from tests.support.fleet import Fleet
from tests.support.machines import Machine, host
from tests.support.provider import Provider
from tests.support.real_codex import RealCodex, write_config
from tests.support.scheduling import no_scheduler

pytestmark = pytest.mark.codex


def say_hi(machine: Machine, provider: Provider) -> subprocess.CompletedProcess[str]:
    """Run plain codex, which would refresh at the provider, as it would at OpenAI's."""
    environment = {"CODEX_REFRESH_TOKEN_URL_OVERRIDE": provider.token_url}
    return machine.run("codex", "exec", "--skip-git-repo-check", "say hi", **environment)


@pytest.mark.every_codex
def test_plain_codex_has_a_fresh_login(codex: RealCodex, served: Fleet, provider: Provider, tmp_path: Path) -> None:
    served.upload(provider.login())
    machine = host(served, tmp_path, codex=None)
    no_scheduler(machine)
    machine.env["PATH"] = f"{machine.bin}:{codex.path(machine.env['PATH'])}"
    assert machine.run_cdx("--watch", "install", "other").returncode == 0
    write_config(machine.home / ".codex", provider.url, provider.url)
    # As after a night: the access token that is here is over, and Codex would spend what it takes for a refresh token.
    held = machine.auth()
    held["tokens"]["access_token"] = jwt("over", 1_700_000_000)
    machine.put_auth({name: value for name, value in held.items() if name != "auths"})
    assert machine.run_cdx("--watch", "run").returncode == 0
    before = provider.calls
    done = say_hi(machine, provider)
    assert (done.returncode, done.stdout) == (0, "hi there\n"), done.stderr
    assert provider.calls == before
    assert provider.refused_requests == 0
    # What it has used is counted by the next sync, once.
    for _ in range(2):
        assert machine.run_cdx("--watch", "run").returncode == 0
        assert served.host(machine.env["NAME"])["token_usage"]["total"] == USAGE["total_tokens"]
    assert served.rows("SELECT COUNT(*) FROM token_usages")[0][0] == 1
    # The fleet's login is refreshed: the next sync has it, and Codex uses it.
    served.cli("jobs", "run", "refresh")
    assert machine.run_cdx("--watch", "run").returncode == 0
    canonical = served.canonical() or {}
    assert machine.auth()["tokens"]["access_token"] == canonical["tokens"]["access_token"]
    assert machine.auth()["tokens"]["access_token"] != held["tokens"]["access_token"]
    calls = provider.calls
    assert say_hi(machine, provider).stdout == "hi there\n"
    assert provider.calls == calls
    assert json.loads(served.cli("--json", "hosts", "show", machine.env["NAME"]).stdout)["host"]["holds"] == "grant"
