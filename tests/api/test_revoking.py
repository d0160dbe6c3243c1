"""Ending the fleet's login at the provider, on an admin's word, at both doors; and rollbacks, which must not end it."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.support import grants
from tests.support.calls import OLD, logs
from tests.support.fleet import Fleet
from tests.support.grants import fetch, settle
from tests.support.provider import CLIENT_ID, Provider
from tests.support.upstream import job

pytestmark = pytest.mark.every_engine


def ask(fleet: Fleet, grant: str, reason: str) -> requests.Response:
    with fleet.client() as codex:
        return grants.ask(codex, grant, reason)


def codes(fleet: Fleet) -> list[str]:
    return [warning["code"] for warning in fleet.admin_call("GET", "/admin/overview")["warnings"]]


@pytest.mark.parametrize("door", ["cli", "api"])
def test_an_admin_ends_the_login_and_all_are_told(served: Fleet, provider: Provider, door: str) -> None:
    login = provider.login()
    served.upload(login)
    settle(served)
    with served.client(served.key("a.example.net")) as host:
        before = fetch(host)
        if door == "cli":
            answer = json.loads(served.cli("--json", "auth", "revoke", "--yes").stdout)
        else:
            answer = served.admin_call("POST", "/admin/auth/revoke")
        assert provider.revoked == [
            {
                "token": login["tokens"]["refresh_token"],
                "token_type_hint": "refresh_token",
                "client_id": CLIENT_ID,
            }
        ]
        assert not provider.is_alive(login["tokens"]["refresh_token"])
        assert answer["code"] == "revoked"
        state = fetch(host)["login"]
        assert (state["state"], state["code"], state["since"]) == ("dead", "revoked", answer["since"])
        assert "An admin has revoked the fleet's login" in state["message"]
        assert "cdx login" in state["message"]
        grant = before["auth"]["tokens"]["refresh_token"]
        refused = ask(served, grant, "unauthorized_recovery")
        assert (refused.status_code, refused.json()["code"]) == (401, "login_dead")
        assert "login_dead" in codes(served)
        settle(served)
        assert "An admin has revoked" in job(served, "refresh")["last_result"]
        assert provider.calls == 0
        [row] = logs(served, "admin.auth.revoke")
        assert row["result"] == "revoked"
        text = "".join(served.output) + json.dumps(served.rows("SELECT details FROM logs"))
        assert login["tokens"]["refresh_token"] not in text
        # Once more does no harm; another login ends the matter.
        assert served.admin_call("POST", "/admin/auth/revoke")["since"] == answer["since"]
        served.upload(provider.login())
        assert "login_dead" not in codes(served)
        assert fetch(host)["login"]["state"] == "ok"


def test_it_asks_first(served: Fleet, provider: Provider) -> None:
    served.upload(provider.login())
    done = served.cli("auth", "revoke", check=False)
    assert (done.returncode, "--yes" in done.stderr) == (4, True)
    assert (provider.revoked, codes(served)) == ([], [])


def test_what_cannot_be_revoked(served: Fleet, provider: Provider) -> None:
    with served.client(certificate="admin") as admin:
        answer = admin.call("POST", "/admin/auth/revoke")
        assert (answer.status_code, answer.json()["code"]) == (404, "canonical_missing")
        served.upload({"auth_mode": "apikey", "OPENAI_API_KEY": "sk-abcdefghijklmnopqrstuvwxyz", "last_refresh": OLD})
        answer = admin.call("POST", "/admin/auth/revoke")
        assert (answer.status_code, answer.json()["code"]) == (409, "login_not_revocable")
        assert "where it was made" in answer.json()["message"]
    served.env["CDXSYNC_TOKEN_URL"] = ""
    served.upload(provider.login())
    done = served.cli("auth", "revoke", "--yes", check=False)
    assert (done.returncode, "token_url is empty" in done.stderr) == (1, True)
    assert provider.revoked == []


def test_a_provider_that_cannot_be_reached_changes_nothing(served: Fleet, provider: Provider) -> None:
    served.upload(provider.login())
    settle(served)
    served.env["CDXSYNC_TOKEN_URL"] = "http://127.0.0.1:9/oauth/token"
    done = served.cli("auth", "revoke", "--yes", check=False)
    assert done.returncode == 1
    assert "http://127.0.0.1:9/oauth/revoke cannot be reached" in done.stderr
    assert "The login was not revoked, and nothing was changed" in done.stderr
    provider.revoke_status = 500
    with served.client(certificate="admin") as admin:
        answer = admin.call("POST", "/admin/auth/revoke")
    assert (answer.status_code, answer.json()["code"]) == (500, "service_failed")
    assert "answered HTTP 500. The login was not revoked" in answer.json()["message"]
    assert codes(served) == []
    assert [row["result"] for row in logs(served, "admin.auth.revoke")] == ["failed", "failed"]
    # The job goes on.
    settle(served)
    assert job(served, "refresh")["state"] == "idle"


def test_a_refresh_under_way_is_waited_for_and_its_login_revoked(served: Fleet, provider: Provider) -> None:
    provider.plan(passes=True, hold=True)
    served.upload(provider.login(life=0))
    assert provider.entered.wait(60)
    with ThreadPoolExecutor(1) as threads:
        revoking = threads.submit(served.admin_call, "POST", "/admin/auth/revoke")
        provider.released.set()
        assert revoking.result()["code"] == "revoked"
    [body] = provider.revoked
    assert body["token"] == (served.canonical() or {})["tokens"]["refresh_token"]
    assert (provider.refreshes, provider.is_alive(body["token"])) == (1, False)


@pytest.mark.parametrize("door", ["cli", "api"])
def test_a_rollback_takes_no_token_that_was_spent(served: Fleet, provider: Provider, door: str) -> None:
    """After a refresh the document before is the same login with a token that is used up: it would end the login."""

    def roll_back(what: str) -> tuple[bool, str]:
        if door == "cli":
            done = served.cli("auth", "rollback", what, "--yes", check=False)
            return done.returncode == 0, done.stderr
        with served.client(certificate="admin") as admin:
            answer = admin.call("POST", "/admin/auth/rollback", json={"id": what if what == "previous" else int(what)})
        return answer.status_code == 200, answer.text

    first = provider.login()
    served.upload(first)  # document 1
    settle(served)
    served.cli("jobs", "run", "refresh")  # document 2
    good = (served.canonical() or {})["tokens"]["refresh_token"]
    assert provider.is_alive(good)
    done, said = roll_back("previous")
    assert (done, "is kept that is still good" in said) == (False, True), said
    done, said = roll_back("1")
    assert (done, "was spent in a refresh" in said) == (False, True), said
    assert (served.canonical() or {})["tokens"]["refresh_token"] == good
    # Another login is shared, and given up: the one before is the newest of the first.
    served.upload(provider.login())  # document 3
    settle(served)
    served.cli("jobs", "run", "refresh")  # document 4
    done, said = roll_back("previous")
    assert done, said
    assert (served.canonical() or {})["tokens"]["refresh_token"] == good
    settle(served)
    served.cli("jobs", "run", "refresh")
    assert (served.canonical() or {})["tokens"]["refresh_token"] != good
    assert provider.is_alive((served.canonical() or {})["tokens"]["refresh_token"])
    # A copy has spent the token of document 2, too.
    done, said = roll_back("2")
    assert (done, "was spent in a refresh" in said) == (False, True), said


def test_a_token_that_the_provider_leaves_as_it_is_is_not_spent(served: Fleet, provider: Provider) -> None:
    provider.rotates = False
    served.upload(provider.login())
    settle(served)
    served.cli("jobs", "run", "refresh")
    served.cli("auth", "rollback", "previous", "--yes")
    served.cli("jobs", "run", "refresh")
    assert provider.is_alive((served.canonical() or {})["tokens"]["refresh_token"])


def test_auth_show_says_that_a_login_has_ended(served: Fleet, provider: Provider) -> None:
    served.upload(provider.login())
    assert "Ended" not in served.cli("auth", "show").stdout
    served.cli("auth", "revoke", "--yes")
    assert (
        "An admin has revoked the fleet's login. Log in again on one host: cdx login"
        in served.cli("auth", "show").stdout
    )
