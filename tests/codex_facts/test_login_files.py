"""What Codex writes into auth.json, and what it takes from there."""

from typing import Any

import pytest

from tests.support.codex_home import HI, CodexHome
from tests.support.documents import ACCESS_TOKEN, API_KEY, BEDROCK
from tests.support.provider import Provider

pytestmark = [pytest.mark.codex, pytest.mark.every_codex]

KEY = "sk-abcdefghijklmnopqrstuvwxyz0123456789"
DATED = {
    "last_refresh": "2026-01-01T00:00:00.000000Z",
    "auths": {"api.openai.com": {"token": "t", "token_type": "bearer"}},
}


def test_a_key_that_is_logged_in_has_no_date(home: CodexHome) -> None:
    assert home.run("login", "--with-api-key", given=KEY + "\n").returncode == 0
    assert home.auth() == {"auth_mode": "apikey", "OPENAI_API_KEY": KEY}


def test_an_access_token_that_is_logged_in_has_no_date(home: CodexHome) -> None:
    done = home.run("login", "--with-access-token", given=f"{ACCESS_TOKEN['personal_access_token']}\n")
    assert done.returncode == 0, done.stderr
    assert home.auth() == ACCESS_TOKEN


@pytest.mark.parametrize("document", [API_KEY, ACCESS_TOKEN], ids=["key", "token"])
def test_a_login_works_with_the_date_and_auths_of_the_server(
    home: CodexHome, provider: Provider, document: dict[str, Any]
) -> None:
    secret = document.get("personal_access_token") or document["OPENAI_API_KEY"]
    provider.also.add(secret)
    home.put_auth(document | DATED)
    done = home.exec()
    assert (done.returncode, done.stdout) == (0, f"{HI}\n"), done.stderr
    assert (home.auth(), provider.bearers) == (document | DATED, [secret])


@pytest.mark.parametrize(
    ("document", "said"), [(API_KEY, "API key"), (BEDROCK, "Amazon Bedrock API key")], ids=["key", "bedrock"]
)
def test_login_status_names_a_login_with_the_date_and_auths_of_the_server(
    home: CodexHome, document: dict[str, Any], said: str
) -> None:
    home.put_auth(document | DATED)
    done = home.run("login", "status")
    assert (done.returncode, said in done.stdout + done.stderr) == (0, True), done


def test_a_variable_overrides_the_file(home: CodexHome, provider: Provider) -> None:
    home.put_auth(provider.login())
    provider.also.add(KEY)
    assert home.exec(CODEX_API_KEY=KEY).returncode == 0
    assert provider.bearers == [KEY]


def test_another_store_is_used_unless_the_command_line_names_the_file(home: CodexHome, provider: Provider) -> None:
    login = provider.login()
    home.put_auth(login)
    config = home.path / "config.toml"
    config.write_text('cli_auth_credentials_store = "ephemeral"\n' + config.read_text())
    assert "Not logged in" in home.run("login", "status").stderr
    assert home.run("-c", 'cli_auth_credentials_store="file"', "exec", "--skip-git-repo-check", "hi").returncode == 0
    assert provider.bearers == [login["tokens"]["access_token"]]


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "CODEX_API_KEY", "CODEX_ACCESS_TOKEN"])
def test_no_variable_of_the_homes_env_file_overrides_the_file(home: CodexHome, provider: Provider, name: str) -> None:
    login = provider.login()
    home.put_auth(login)
    (home.path / ".env").write_text(f"{name}={KEY}\n")
    assert home.exec().returncode == 0
    assert provider.bearers == [login["tokens"]["access_token"]]


def test_the_key_of_openais_library_does_not_override_the_file(home: CodexHome, provider: Provider) -> None:
    login = provider.login()
    home.put_auth(login)
    assert home.exec(OPENAI_API_KEY=KEY).returncode == 0
    assert provider.bearers == [login["tokens"]["access_token"]]


def test_a_project_that_is_trusted_may_name_another_store(home: CodexHome, provider: Provider) -> None:
    home.put_auth(provider.login())
    (home.work / ".codex").mkdir()
    (home.work / ".codex" / "config.toml").write_text('cli_auth_credentials_store = "ephemeral"\n')
    assert home.exec().returncode == 1
    assert provider.bearers == [""]


@pytest.mark.parametrize("line", ['forced_login_method = "api"', 'forced_chatgpt_workspace_id = "other"'])
def test_a_login_that_settings_do_not_allow_is_deleted_and_not_revoked(
    home: CodexHome, provider: Provider, line: str
) -> None:
    home.put_auth(provider.login())
    config = home.path / "config.toml"
    config.write_text(f"{line}\n{config.read_text()}")
    assert home.exec().returncode == 1
    assert not home.auth_file.exists()
    assert provider.revoked == []
