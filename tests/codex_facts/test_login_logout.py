"""What `codex login` and `codex logout` send to be revoked, and what becomes of auth.json: cdx gives them nothing."""

from pathlib import Path

import pytest

from tests.support.codex_home import CodexHome
from tests.support.provider import Provider
from tests.support.real_codex import give_up_login

pytestmark = [pytest.mark.codex, pytest.mark.every_codex]


@pytest.fixture
def revoked(home: CodexHome, provider: Provider) -> list[dict[str, str]]:
    """What revoking the login of the home looks like."""
    login = provider.login()
    home.put_auth(login)
    return [{"token": login["tokens"]["refresh_token"], "token_type_hint": "refresh_token"}]


def test_logout_revokes_at_the_origin_of_the_token_endpoint(
    home: CodexHome, provider: Provider, revoked: list[dict[str, str]]
) -> None:
    done = home.run("logout")
    assert (done.returncode, "Successfully logged out" in done.stderr) == (0, True)
    assert [{name: body[name] for name in revoked[0]} for body in provider.revoked] == revoked
    assert not home.auth_file.exists()


def test_login_revokes_and_deletes_before_it_begins(
    home: CodexHome, provider: Provider, revoked: list[dict[str, str]]
) -> None:
    give_up_login(home.codex.program, home.env)
    assert [{name: body[name] for name in revoked[0]} for body in provider.revoked] == revoked
    assert not home.auth_file.exists()


def test_login_with_a_key_revokes_nothing(home: CodexHome, provider: Provider, revoked: list[dict[str, str]]) -> None:
    assert home.run("login", "--with-api-key", given="sk-abcdefghijklmnopqrstuvwxyz\n").returncode == 0
    assert (provider.revoked, home.auth()["auth_mode"]) == ([], "apikey")


def test_the_variable_for_revocations_comes_before_the_token_endpoint(
    home: CodexHome, provider: Provider, revoked: list[dict[str, str]]
) -> None:
    away = {"CODEX_REFRESH_TOKEN_URL_OVERRIDE": "http://127.0.0.1:1/oauth/token"}
    home.run("logout", **away, CODEX_REVOKE_TOKEN_URL_OVERRIDE=f"{provider.url}/oauth/revoke")
    assert [body["token"] for body in provider.revoked] == [revoked[0]["token"]]


def test_an_empty_object_is_logged_out_of_without_a_call(home: CodexHome, provider: Provider) -> None:
    home.put_auth({})
    done = home.run("logout")
    assert (done.returncode, "Successfully logged out" in done.stderr) == (0, True)
    assert (provider.revoked, home.auth_file.exists()) == ([], False)


def test_help_and_a_login_that_is_refused_leave_the_file(
    home: CodexHome, provider: Provider, revoked: list[dict[str, str]]
) -> None:
    before = home.auth_file.read_bytes()
    assert home.run("logout", "--help").returncode == 0
    assert home.run("login", "--with-access-token").returncode != 0
    assert (provider.revoked, home.auth_file.read_bytes()) == ([], before)


def test_a_home_of_links_is_logged_in_to(home: CodexHome, tmp_path: Path) -> None:
    """All but auth.json is linked from the home: so does cdx."""
    links = tmp_path / "links"
    links.mkdir()
    (links / "config.toml").symlink_to(home.path / "config.toml")
    assert (
        home.run("login", "--with-api-key", given="sk-abcdefghijklmnopqrstuvwxyz\n", CODEX_HOME=str(links)).returncode
        == 0
    )
    assert (links / "auth.json").is_file()
    assert not home.auth_file.exists()
