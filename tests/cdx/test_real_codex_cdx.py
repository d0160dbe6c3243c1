"""The real Codex under the real cdx of hosts with grants: refreshes, whom it trusts, logins and logouts."""

import json
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.machines import Machine
from tests.support.provider import Provider, running_provider
from tests.support.real_codex import RealCodex, codex_host, give_up_login
from tests.support.tool_calls import command_call

pytestmark = pytest.mark.codex


def say_hi(machine: Machine, **env: str) -> subprocess.CompletedProcess[str]:
    return machine.run_cdx("exec", "--skip-git-repo-check", "say hi", **env)


@pytest.mark.every_codex
def test_three_hosts_whose_tokens_have_ended_start_at_once(
    codex: RealCodex, served: Fleet, provider: Provider, tmp_path: Path
) -> None:
    served.upload(provider.login(life=2))
    machines = [codex_host(codex, served, tmp_path, provider) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        runs = list(threads.map(say_hi, machines))
    assert [(run.returncode, run.stdout) for run in runs] == [(0, "hi there\n")] * 3, [run.stderr for run in runs]
    assert provider.refreshes == 1
    canonical = served.canonical() or {}
    assert provider.is_alive(canonical["tokens"]["refresh_token"])
    for machine in machines:
        tokens = machine.auth()["tokens"]
        assert tokens["access_token"] == canonical["tokens"]["access_token"]
        assert tokens["refresh_token"].startswith("cdxr_")


def test_a_refresh_within_a_long_run(codex: RealCodex, served: Fleet, provider: Provider, tmp_path: Path) -> None:
    """The model has a command run, and does not take the access token any more when its output comes."""
    served.upload(provider.login())
    machine = codex_host(codex, served, tmp_path, provider)
    provider.script = [command_call(f"echo ran > {tmp_path}/ran")]
    done = machine.run_cdx(
        "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "run it, and say hi"
    )
    assert (done.returncode, done.stdout) == (0, "hi there\n"), done.stderr
    assert (tmp_path / "ran").read_text() == "ran\n"
    # Codex reads its file again before it asks for another token.
    assert (provider.refreshes, provider.refused_requests) == (1, 2)
    tokens = (served.canonical() or {})["tokens"]
    assert machine.auth()["tokens"]["access_token"] == tokens["access_token"]
    assert machine.auth()["tokens"]["refresh_token"].startswith("cdxr_")
    assert provider.is_alive(tokens["refresh_token"])


def test_all_requests_of_all_hosts_are_refused(
    codex: RealCodex, served: Fleet, provider: Provider, tmp_path: Path
) -> None:
    """Each Codex asks for another token again and again; the provider sees one refresh."""
    served.upload(provider.login())
    machines = [codex_host(codex, served, tmp_path, provider) for _ in range(3)]
    provider.refuse_requests = True
    with ThreadPoolExecutor(3) as threads:
        assert 0 not in [run.returncode for run in threads.map(say_hi, machines)]
    assert (provider.refreshes, provider.calls) == (1, 1)
    provider.refuse_requests = False
    with ThreadPoolExecutor(3) as threads:
        assert [run.stdout for run in threads.map(say_hi, machines)] == ["hi there\n"] * 3
    assert (provider.refreshes, provider.calls) == (1, 1)
    for machine in machines:
        assert json.dumps(machine.auth()).count("cdxr_") == 1


def test_the_users_own_ca_keeps_its_meaning(
    codex: RealCodex, served: Fleet, provider: Provider, tmp_path: Path
) -> None:
    """The model is behind a CA of the user's, the token endpoint behind the fleet's: Codex verifies both."""
    served.upload(provider.login(life=2))
    with running_provider() as model:
        ca_file = model.speak_tls(tmp_path / "pki")
        model.takes = provider.takes  # type: ignore[method-assign]
        machine = codex_host(codex, served, tmp_path, provider, model.url)
        machine.env.pop("SSL_CERT_DIR", None)
        done = say_hi(machine, CODEX_CA_CERTIFICATE=str(ca_file))
        assert (done.returncode, done.stdout) == (0, "hi there\n"), done.stderr
    assert provider.refreshes == 1


def test_login_and_logout_revoke_nothing(codex: RealCodex, served: Fleet, provider: Provider, tmp_path: Path) -> None:
    """Counted at the provider, with the real token as with a grant."""
    login = provider.login()
    served.upload(login)
    machine = codex_host(codex, served, tmp_path, provider)
    assert say_hi(machine).returncode == 0
    granted = machine.auth()
    real = {**granted, "tokens": login["tokens"]}
    for held in (granted, real):
        machine.put_auth(held)
        before = machine.auth_file.read_bytes()
        # Given up by Ctrl-C, and refused.
        assert give_up_login(machine.cdx, machine.env) == -signal.SIGINT
        assert machine.run_cdx("login", "--with-access-token").returncode != 0
        assert machine.auth_file.read_bytes() == before
        assert machine.run_cdx("logout", "--help").returncode == 0
        assert "Logged in" in machine.run_cdx("login", "status").stderr
        assert machine.auth_file.read_bytes() == before or held is real
        done = machine.run_cdx("logout")
        assert done.returncode == 0
        assert "Successfully logged out" in done.stderr
        assert "this host is logged out until" in done.stderr
        assert not machine.auth_file.exists()
        assert "Not logged in" in machine.run_cdx("login", "status").stderr
        assert machine.run_cdx("--wrapper-sync").returncode == 0
        assert machine.auth() == granted
    assert provider.revoked == []
    assert provider.is_alive(login["tokens"]["refresh_token"])
    assert say_hi(machine).stdout == "hi there\n"
    assert provider.refreshes == 0


def test_a_key_is_shared_by_login(codex: RealCodex, served: Fleet, provider: Provider, tmp_path: Path) -> None:
    one, two = (codex_host(codex, served, tmp_path, provider) for _ in range(2))
    key = "sk-abcdefghijklmnopqrstuvwxyz0123456789"
    (one.home / ".codex" / "config.toml").write_text('cli_auth_credentials_store = "keyring"\n')
    done = subprocess.run(
        [one.cdx, "login", "--with-api-key"], env=one.env, input=key + "\n", capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "this login is shared with the fleet" in done.stderr
    assert "cli_auth_credentials_store is keyring" in done.stderr
    assert (served.canonical() or {})["OPENAI_API_KEY"] == key
    assert two.run_cdx("login", "status").returncode == 0
    assert two.auth()["OPENAI_API_KEY"] == key
