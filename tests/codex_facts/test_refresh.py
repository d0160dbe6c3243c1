"""When Codex asks for other tokens, what it sends, and what it makes of the answer."""

import json
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.codex_home import HI, CodexHome
from tests.support.documents import with_auths
from tests.support.provider import CLIENT_ID, Provider, running_provider
from tests.support.real_codex import RealCodex
from tests.support.tool_calls import command_call

pytestmark = [pytest.mark.codex, pytest.mark.every_codex]

GRANT = "cdxr_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@dataclass
class Refreshed:
    """A home in which a login was refreshed that had 270 seconds to go, and the provider."""

    home: CodexHome
    provider: Provider
    login: dict[str, Any]


@pytest.fixture(scope="module")
def refreshed(codex: RealCodex, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refreshed]:
    with running_provider() as provider:
        home = CodexHome(codex, tmp_path_factory.mktemp("refreshed"), provider)
        login = provider.login(life=270)
        (home.path / ".env").write_text("CODEX_REFRESH_TOKEN_URL_OVERRIDE=http://127.0.0.1:1/oauth/token\n")
        home.put_auth(with_auths(login))
        home.auth_file.chmod(0o644)
        done = home.exec()
        assert (done.returncode, done.stdout) == (0, f"{HI}\n"), done.stderr
        yield Refreshed(home, provider, login)


def test_an_access_token_is_refreshed_when_it_has_less_than_five_minutes(
    refreshed: Refreshed, home: CodexHome, provider: Provider
) -> None:
    assert refreshed.provider.refreshes == 1
    home.put_auth(provider.login(life=330, last_refresh="2026-01-01T00:00:00Z"))
    assert home.exec().stdout == f"{HI}\n"
    assert provider.refreshes == 0


def test_a_refresh_is_asked_for_as_json_with_the_client_of_codex(refreshed: Refreshed) -> None:
    assert refreshed.provider.asked == [
        {
            "client_id": CLIENT_ID,
            "grant_type": "refresh_token",
            "refresh_reason": "proactive_expiry",
            "refresh_token": refreshed.login["tokens"]["refresh_token"],
        }
    ]


def test_a_file_of_variables_does_not_name_another_endpoint(refreshed: Refreshed) -> None:
    assert "127.0.0.1:1/" in (refreshed.home.path / ".env").read_text()
    assert refreshed.provider.calls == 1


def test_a_refreshed_file_is_private_and_dated_and_has_no_auths(refreshed: Refreshed) -> None:
    written = refreshed.home.auth()
    assert list(written) == ["auth_mode", "OPENAI_API_KEY", "tokens", "last_refresh"]
    assert list(written["tokens"]) == ["id_token", "access_token", "refresh_token", "account_id"]
    assert refreshed.provider.is_alive(written["tokens"]["refresh_token"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", written["last_refresh"])
    assert written["last_refresh"] > refreshed.login["last_refresh"]
    assert stat.S_IMODE(refreshed.home.auth_file.stat().st_mode) == 0o600


def test_any_text_is_a_refresh_token_and_an_access_token_alone_an_answer(home: CodexHome, provider: Provider) -> None:
    """What the answer leaves out is kept as it was."""
    before, fresh = provider.login(life=60), provider.login()["tokens"]["access_token"]
    before["tokens"]["refresh_token"] = GRANT
    home.put_auth(before)
    provider.plan(status=200, body=json.dumps({"access_token": fresh}))
    assert home.exec().stdout == f"{HI}\n"
    assert [body["refresh_token"] for body in provider.planned] == [GRANT]
    assert provider.bearers == [fresh]
    assert home.auth()["tokens"] == before["tokens"] | {"access_token": fresh}


def test_a_newer_file_of_the_account_is_used_before_a_refresh(home: CodexHome, provider: Provider) -> None:
    """The model has a command run that replaces the file, and then does not take the old access token any more."""
    first, second = provider.login(), provider.login()
    home.put_auth(first)
    (home.work / "new.json").write_text(json.dumps(second))
    provider.script = [command_call(f"cp new.json {home.auth_file}")]
    done = home.exec("--dangerously-bypass-approvals-and-sandbox")
    assert (done.returncode, done.stdout) == (0, f"{HI}\n"), done.stderr
    assert provider.bearers[-1] == second["tokens"]["access_token"]
    assert (provider.calls, home.auth()) == (0, second)


def test_a_token_that_is_refused_is_refreshed(home: CodexHome, provider: Provider) -> None:
    login = provider.login()
    home.put_auth(login)
    provider.end_access(login["tokens"]["access_token"])
    assert home.exec().stdout == f"{HI}\n"
    assert [body["refresh_reason"] for body in provider.asked] == ["unauthorized_recovery"]


def test_a_used_refresh_token_leaves_the_file_and_its_access_token(home: CodexHome, provider: Provider) -> None:
    login = provider.login(life=60)
    home.put_auth(login)
    provider.plan(status=401, body='{"error": {"code": "refresh_token_reused"}}', times=100)
    assert home.exec().stdout == f"{HI}\n"
    assert home.auth() == login
    assert provider.bearers[-1] == login["tokens"]["access_token"]


def test_another_ca_of_the_endpoint_is_trusted_beside_those_of_the_system(
    codex: RealCodex, provider: Provider, tmp_path: Path
) -> None:
    """The model is behind a CA that the system trusts, the token endpoint behind the one of CODEX_CA_CERTIFICATE."""
    with running_provider() as model:
        system = model.speak_tls(tmp_path / "system")
        home = CodexHome(codex, tmp_path, provider, model=model.url)
        home.put_auth(provider.login(life=60))
        model.takes = provider.takes  # type: ignore[method-assign]
        home.env["SSL_CERT_FILE"] = str(system)
        home.env["CODEX_CA_CERTIFICATE"] = str(provider.speak_tls(tmp_path / "endpoint"))
        home.env["CODEX_REFRESH_TOKEN_URL_OVERRIDE"] = provider.token_url
        done = home.exec()
    assert (done.returncode, done.stdout) == (0, f"{HI}\n"), done.stderr
    assert provider.refreshes == 1
