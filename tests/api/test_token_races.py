"""Refreshes at the same time, over two servers, and servers that are killed in the middle of one."""

import contextlib
import functools
import os
import random
import shutil
import signal
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support import grants
from tests.support.engines import Engine
from tests.support.fleet import Fleet, children, running_fleet
from tests.support.provider import Provider
from tests.support.together import at_once, until
from tests.support.upstream import job

HOSTS = 8
pytestmark = pytest.mark.every_engine


def grant(fleet: Fleet, fqdn: str) -> str:
    with fleet.client(fleet.key(fqdn)) as host:
        return grants.grant_of(grants.fetch(host))


def ask(fleet: Fleet, port: int, token: str, reason: str = "proactive_expiry") -> requests.Response:
    with fleet.client() as client:
        client.url = f"https://localhost:{port}"
        return grants.ask(client, token, reason)


def access_of(fleet: Fleet) -> str:
    return str((fleet.canonical() or {})["tokens"]["access_token"])


def far_from_due(fleet: Fleet, provider: Provider) -> dict[str, Any]:
    """A login that has not long to go, although the job has looked at it already."""
    login = provider.login(life=3600)
    fleet.upload(login)
    grants.settle(fleet)
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


def kill(fleet: Fleet) -> None:
    """Kill the server as the kernel does, all its processes; what it has begun in sessions of their own goes on."""
    process = fleet.processes.pop()
    session = os.getsid(process.pid)
    own = [child for child in children(process) if os.getsid(child) == session]
    for number in [process.pid, *own]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait(30)


def kill_while_refreshing(fleet: Fleet, provider: Provider, **plan: Any) -> None:
    """Kill the server when the provider has the request."""
    provider.plan(hold=True, **plan)
    fleet.upload(provider.login(life=1, last_refresh="2026-01-01T00:00:00Z"))
    assert provider.entered.wait(60)
    kill(fleet)
    provider.released.set()


def outcomes(fleet: Fleet) -> list[str | None]:
    return [outcome for (outcome,) in fleet.rows("SELECT outcome FROM refresh_intents ORDER BY id")]


def is_good(fleet: Fleet, provider: Provider) -> bool:
    return provider.is_alive((fleet.canonical() or {})["tokens"]["refresh_token"])


def secrets_in(home: Path, words: list[str]) -> list[str]:
    """The files of a home that have one of these words in clear."""
    files = [path for path in home.rglob("*") if path.is_file()]
    return [path.name for path in files if any(word.encode() in path.read_bytes() for word in words)]


def test_a_killed_server_leaves_the_answer_to_the_next(served: Fleet, provider: Provider) -> None:
    """The provider has taken the token, and the server is killed before it has the answer: another process has it."""
    kill_while_refreshing(served, provider, passes=True)
    folder = served.home / "refresh"
    until(lambda: [path.name for path in folder.glob("*/answer")])
    [answer] = folder.glob("*/answer")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, answer.parent, answer)] == [0o700, 0o700, 0o600]
    assert secrets_in(served.home, list(provider.logins)) == []
    served.start()
    until(lambda: outcomes(served) == ["recovered"])
    until(lambda: list(folder.iterdir()) == [])
    assert is_good(served, provider)
    assert provider.refreshes == 1
    served.wait_for("a server was cut off while it refreshed; its call: refreshed")
    # The lease of the killed one is over, too: the next refresh does not wait for its end.
    until(lambda: job(served, "refresh")["state"] == "idle")
    token = grant(served, "a.example.net")
    assert ask(served, served.port, token).json()["access_token"] == access_of(served)


def test_a_server_that_starts_while_the_call_is_under_way_waits_for_it(served: Fleet, provider: Provider) -> None:
    provider.plan(hold=True, passes=True)
    served.upload(provider.login(life=1, last_refresh="2026-01-01T00:00:00Z"))
    assert provider.entered.wait(60)
    kill(served)
    served.start()
    token = grant(served, "a.example.net")
    asking = ThreadPoolExecutor(1).submit(ask, served, served.port, token)
    provider.released.set()
    until(lambda: outcomes(served) == ["recovered"])
    assert asking.result().json()["access_token"] == access_of(served)
    assert (provider.refreshes, is_good(served, provider)) == (1, True)


def test_a_worker_that_is_killed_leaves_the_answer_to_the_next(
    tmp_path: Path, provider: Provider, engine: Engine
) -> None:
    env = engine.environment() | provider.environment()
    with running_fleet(tmp_path / "home", serve_args=("--workers", "2"), env=env) as fleet:
        provider.plan(passes=True, hold=True)
        fleet.upload(provider.login(life=1, last_refresh="2026-01-01T00:00:00Z"))
        assert provider.entered.wait(60)
        for worker in children(fleet.processes[0]):
            os.kill(worker, signal.SIGKILL)
        provider.released.set()
        until(lambda: outcomes(fleet) == ["recovered"])
        assert (provider.refreshes, is_good(fleet, provider)) == (1, True)


def test_a_server_killed_before_the_provider_took_the_token(served: Fleet, provider: Provider) -> None:
    kill_while_refreshing(served, provider, status=None)
    served.start()
    until(lambda: provider.refreshes == 1)
    until(lambda: is_good(served, provider))
    assert outcomes(served) == ["lost", "stored"]
    token = grant(served, "a.example.net")
    assert ask(served, served.port, token).json()["access_token"] == access_of(served)


def test_an_answer_that_never_came_is_told_to_all(served: Fleet, provider: Provider) -> None:
    """The provider has spent the token and hung up: nothing can save that login."""
    kill_while_refreshing(served, provider, status=None, taken=True)
    served.start()
    until(lambda: any(row["code"] == "login_dead" for row in served.admin_call("GET", "/admin/overview")["warnings"]))
    assert outcomes(served) == ["lost", "failed"]
    assert provider.refreshes == 1
    token = grant(served, "a.example.net")
    answer = ask(served, served.port, token)
    assert (answer.status_code, answer.json()["code"]) == (401, "login_dead")
    # It is not tried again and again.
    asked = len(provider.asked)
    until(lambda: job(served, "refresh")["state"] == "idle")
    assert ask(served, served.port, token).status_code == 401
    assert len(provider.asked) == asked


@pytest.mark.servers_only
def test_another_machine_waits_for_the_answer_of_the_first(served: Fleet, provider: Provider, tmp_path: Path) -> None:
    """Two homes with one database and one keyring: the second knows of the call, and has nothing of its answer."""
    served.stop()
    shutil.copytree(served.home, tmp_path / "second")
    served.start()
    other = Fleet(tmp_path / "second", env=served.env)
    login = far_from_due(served, provider)
    token = grant(served, "a.example.net")
    provider.plan(hold=True, passes=True)
    with contextlib.suppress(requests.RequestException), ThreadPoolExecutor(1) as threads:
        threads.submit(ask, served, served.port, token, "unauthorized_recovery")
        assert provider.entered.wait(60)
        kill(served)
    provider.released.set()
    until(lambda: list(served.home.glob("refresh/*/answer")))
    served.execute("UPDATE jobs SET lease_until = '2026-01-01T00:00:00+00:00'")
    served.execute("UPDATE versions SET version = '2026-01-01T00:00:00+00:00' WHERE name = 'refresh_begun'")
    other.start()
    try:
        answer = ask(other, other.port, token, "unauthorized_recovery")
        assert answer.json()["access_token"] == login["tokens"]["access_token"]
        assert "may still bring its answer" in str(job(other, "refresh")["last_result"])
        warnings = other.admin_call("GET", "/admin/overview")["warnings"]
        assert "refresh_elsewhere" in [warning["code"] for warning in warnings]
        assert (len(provider.asked), outcomes(other)) == (1, [None])
        served.start()
        until(lambda: outcomes(other) == ["recovered"])
        assert ask(other, other.port, token).json()["access_token"] == access_of(served)
        assert (len(provider.asked), is_good(served, provider)) == (1, True)
    finally:
        other.stop()


@pytest.mark.parametrize("turns", [int(os.environ.get("TEST_KILLS") or 4)])
def test_a_server_killed_at_any_point_of_a_refresh_loses_no_login(
    served: Fleet, provider: Provider, turns: int
) -> None:
    """At random points, from before the call to after its answer is stored."""
    served.upload(provider.login())
    token = grant(served, "a.example.net")
    points = random.Random(17)
    for _ in range(turns):
        served.execute("UPDATE versions SET version = '2026-01-01T00:00:00+00:00' WHERE name = 'refresh_begun'")
        until(lambda: job(served, "refresh")["state"] == "idle")
        provider.delay = points.uniform(0, 0.3)
        asking = threading.Thread(target=lambda: _ask_what_may_die(served, token), daemon=True)
        asking.start()
        threading.Event().wait(points.uniform(0, 1.2))
        kill(served)
        asking.join(60)
        served.start()
    until(lambda: None not in outcomes(served))
    until(lambda: is_good(served, provider))
    warnings = served.admin_call("GET", "/admin/overview")["warnings"]
    assert "login_dead" not in [warning["code"] for warning in warnings]
    assert ask(served, served.port, token).json()["access_token"] == access_of(served)
    assert len(provider.asked) == provider.refreshes


def _ask_what_may_die(fleet: Fleet, token: str) -> None:
    with contextlib.suppress(requests.RequestException):
        ask(fleet, fleet.port, token, "unauthorized_recovery")


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
