"""Refreshes at the same time, over two servers, and servers that are killed in the middle of one."""

import functools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.calls import OLD, ZERO
from tests.support.engines import Engine
from tests.support.fleet import Fleet, running_fleet
from tests.support.provider import Provider, running_provider
from tests.support.together import at_once, until
from tests.support.upstream import job

HOSTS = 8
pytestmark = pytest.mark.every_engine


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as started:
        yield started


@pytest.fixture
def served(tmp_path: Path, provider: Provider, engine: Engine) -> Iterator[Fleet]:
    with running_fleet(tmp_path / "home", env=engine.environment() | provider.environment()) as started:
        yield started


def grant(fleet: Fleet, fqdn: str) -> str:
    with fleet.client(fleet.key(fqdn)) as host:
        data = host.auth(last_refresh=OLD, digest=ZERO, accepts=["grant"]).json()["data"]
    return str(data["auth"]["tokens"]["refresh_token"])


def ask(fleet: Fleet, port: int, token: str, reason: str = "proactive_expiry") -> requests.Response:
    body = {"client_id": "app_x", "grant_type": "refresh_token", "refresh_token": token, "refresh_reason": reason}
    with fleet.client() as client:
        client.url = f"https://localhost:{port}"
        return client.call("POST", "/oauth/token", json=body)


def access_of(fleet: Fleet) -> str:
    return str((fleet.canonical() or {})["tokens"]["access_token"])


def far_from_due(fleet: Fleet, provider: Provider) -> dict[str, Any]:
    """A login that has not long to go, although the job has looked at it already."""
    login = provider.login(life=3600)
    fleet.upload(login)
    until(lambda: job(fleet, "refresh")["wanted"] is None and job(fleet, "refresh")["state"] == "idle")
    return login


def test_hosts_that_ask_at_once_get_one_refresh(served: Fleet, provider: Provider) -> None:
    """Two servers, eight hosts, each with two processes of Codex."""
    other = Fleet(served.home, env=served.env)
    other.start()
    try:
        far_from_due(served, provider)
        tokens = [grant(served, f"h{number}.example.net") for number in range(HOSTS)]
        before = access_of(served)
        for turn in range(1, 3):
            barrier = threading.Barrier(2 * HOSTS, timeout=60)
            answers: list[requests.Response] = []
            served.execute("UPDATE versions SET version = '2026-01-01T00:00:00+00:00' WHERE name = 'refresh_begun'")

            def host(number: int, barrier: threading.Barrier = barrier, answers: Any = answers) -> None:
                barrier.wait()
                port = (served.port, other.port)[number % 2]
                answers.append(ask(served, port, tokens[number % HOSTS], "unauthorized_recovery"))

            at_once(functools.partial(host, number) for number in range(2 * HOSTS))
            assert [answer.status_code for answer in answers] == [200] * 2 * HOSTS, [a.text for a in answers]
            [given] = {answer.json()["access_token"] for answer in answers}
            assert given != before
            assert given == access_of(served)
            assert provider.refreshes == turn
            before = given
    finally:
        other.stop()


def test_who_asks_while_the_provider_thinks_waits_for_it(served: Fleet, provider: Provider) -> None:
    other = Fleet(served.home, env=served.env)
    other.start()
    try:
        far_from_due(served, provider)
        tokens = [grant(served, f"h{number}.example.net") for number in range(4)]
        provider.plan(passes=True, hold=True)
        answers: list[requests.Response] = []

        def host(number: int) -> None:
            port = (served.port, other.port)[number % 2]
            answers.append(ask(served, port, tokens[number], "unauthorized_recovery"))

        threads = [threading.Thread(target=host, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        assert provider.entered.wait(60)
        # No transaction is open meanwhile: others write.
        served.key("meanwhile.example.net")
        # The token of before is still what there is, and nobody sees the other yet.
        assert answers == []
        provider.released.set()
        for thread in threads:
            thread.join(60)
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["access_token"] for answer in answers} == {access_of(served)}
        assert provider.refreshes == 1
    finally:
        other.stop()


def kill_while_refreshing(fleet: Fleet, provider: Provider, *, taken: bool) -> None:
    """Kill the server when the provider has the token, and has taken it or not."""
    provider.plan(status=None, hold=True, taken=taken)
    fleet.upload(provider.login(life=1, last_refresh="2026-01-01T00:00:00Z"))
    assert provider.entered.wait(60)
    process = fleet.processes.pop()
    process.kill()
    process.wait(30)
    provider.released.set()
    fleet.execute("UPDATE jobs SET lease_until = '2026-01-01T00:00:00+00:00'")  # it has run out


def test_a_server_killed_before_the_provider_took_the_token(served: Fleet, provider: Provider) -> None:
    kill_while_refreshing(served, provider, taken=False)
    served.start()
    until(lambda: provider.refreshes == 1)
    until(lambda: provider.is_alive((served.canonical() or {})["tokens"]["refresh_token"]))
    outcomes = [outcome for (outcome,) in served.rows("SELECT outcome FROM refresh_intents ORDER BY id")]
    assert outcomes == ["lost", "stored"]
    token = grant(served, "a.example.net")
    assert ask(served, served.port, token).json()["access_token"] == access_of(served)


def test_a_server_killed_between_answer_and_commit(served: Fleet, provider: Provider) -> None:
    """The provider has spent the token, and what it gave is lost: nothing can save that login, and all are told."""
    kill_while_refreshing(served, provider, taken=True)
    served.start()
    until(lambda: any(row["code"] == "login_dead" for row in served.admin_call("GET", "/admin/overview")["warnings"]))
    outcomes = [outcome for (outcome,) in served.rows("SELECT outcome FROM refresh_intents ORDER BY id")]
    assert outcomes == ["lost", "failed"]
    assert provider.refreshes == 1
    token = grant(served, "a.example.net")
    answer = ask(served, served.port, token)
    assert (answer.status_code, answer.json()["code"]) == (401, "login_dead")
    # It is not tried again and again.
    asked = len(provider.asked)
    until(lambda: job(served, "refresh")["state"] == "idle")
    assert ask(served, served.port, token).status_code == 401
    assert len(provider.asked) == asked


def test_a_newer_login_that_comes_meanwhile_stays(served: Fleet, provider: Provider) -> None:
    provider.plan(passes=True, hold=True)
    served.upload(provider.login(life=1, last_refresh="2026-01-01T00:00:00Z"))
    assert provider.entered.wait(60)
    newer = provider.login()
    served.upload(newer)
    provider.released.set()
    until(lambda: job(served, "refresh")["runs"] >= 2 and job(served, "refresh")["state"] == "idle")
    assert (served.canonical() or {})["tokens"] == newer["tokens"]
    assert ("superseded",) in [tuple(row) for row in served.rows("SELECT outcome FROM refresh_intents")]
