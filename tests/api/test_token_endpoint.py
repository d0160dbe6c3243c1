"""The fleet's token endpoint over real TLS: grants, what hosts get for them, and what the provider sees."""

import functools
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cdxsync.base import clock, settings
from tests.support.calls import OLD, ZERO, logs
from tests.support.documents import plain_digest, with_auths
from tests.support.fleet import Fleet, run_cli, running_fleet
from tests.support.grants import GRANT, ask, fetch, grant_of, settle
from tests.support.provider import Provider
from tests.support.together import until
from tests.support.upstream import job

REFUSED = "unauthorized_recovery"


def access(document: dict[str, Any]) -> str:
    return str(document["tokens"]["access_token"])


@pytest.mark.every_engine
def test_a_refused_token_is_replaced_though_the_job_is_wanted_for_another_cause(
    served: Fleet, provider: Provider
) -> None:
    served.upload(login := provider.login())
    settle(served)
    with served.client(served.key("a.example.net")) as client:
        grant = grant_of(fetch(client))
        served.execute("UPDATE jobs SET wanted = 'new_document' WHERE name = 'refresh'")
        answer = ask(client, grant, REFUSED)
    assert answer.status_code == 200, answer.text
    assert provider.refreshes == 1
    assert answer.json()["access_token"] != access(login)


def test_a_host_that_accepts_a_grant_gets_one_in_place_of_the_login(served: Fleet, provider: Provider) -> None:
    login = provider.login()
    served.upload(login)
    key, other = served.key("a.example.net"), served.key("b.example.net")
    with served.client(key) as host, served.client(other) as second, served.client(key) as old:
        data = fetch(host)
        grant = grant_of(data)
        assert data["status"] == "outdated"
        assert grant.startswith("cdxr_")
        assert len(grant) == 69
        assert data["auth"] == with_auths({**login, "tokens": {**login["tokens"], "refresh_token": grant}})
        assert data["login"] == {"state": "ok", "refresh": "server", "keep": True, "file_store": False}
        assert grant_of(fetch(second)) != grant
        # Digests are of what the host was given, in each form that it may hold it.
        assert data["canonical_digest"] == plain_digest(data["auth"])
        for held in (data["auth"], {name: value for name, value in data["auth"].items() if name != "auths"}):
            answer = fetch(host, last_refresh=login["last_refresh"], digest=plain_digest(held))
            assert answer["status"] == "valid"
        # Who does not accept grants gets the document as ever; who held that and accepts one gets the other form.
        plain = old.auth(last_refresh=OLD, digest=ZERO).json()["data"]
        assert plain["auth"] == with_auths(login)
        assert "login" not in plain
        answer = fetch(host, last_refresh=login["last_refresh"], digest=plain_digest(with_auths(login)))
        assert (answer["status"], grant_of(answer)) == ("outdated", grant)
    # The database does not give it away.
    kept = json.dumps(served.rows("SELECT * FROM host_grants"))
    assert grant not in kept
    assert hashlib.sha256(grant.encode()).hexdigest() in kept
    assert served.canonical() == with_auths(login)


@pytest.mark.every_engine
def test_a_returned_grant_never_replaces_the_login(served: Fleet, provider: Provider) -> None:
    login = provider.login()
    served.upload(login)
    with served.client(served.key("a.example.net")) as host:
        mine = fetch(host)["auth"]
        store = {"command": "store", **GRANT}
        assert host.auth(auth=mine, **store).json()["data"]["status"] == "unchanged"
        later = {**mine, "last_refresh": "2026-11-29T17:00:00Z"}
        for document in (
            {name: value for name, value in later.items() if name != "auths"},
            {**later, "tokens": {**mine["tokens"], "access_token": "another-access-token-0123456789"}, "auths": {}},
            {**later, "tokens": {**mine["tokens"], "refresh_token": "cdxr_" + "ab" * 32}},
        ):
            document["last_refresh"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
            data = host.auth(auth=document, **store).json()["data"]
            assert data["status"] == "outdated"
            assert data["auth"] == mine
            # An older cdx gets the real document back, as it could not live with the other.
            assert host.auth(auth=document, command="store").json()["data"]["auth"] == with_auths(login)
        assert served.canonical() == with_auths(login)
        assert [row["grant"] for row in logs(served, "auth.store") if "grant" in row] == [
            "own",
            "own",
            "own",
            "own",
            "own",
            "foreign",
            "foreign",
        ]
    with served.client(certificate="admin") as admin:
        answer = admin.call("POST", "/admin/auth/upload", json={"auth": mine})
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["auth.tokens.refresh_token"])


def test_a_grant_is_no_login_wherever_it_stands(served: Fleet, provider: Provider) -> None:
    login = provider.login()
    served.upload(login)
    settle(served)
    with served.client(served.key("a.example.net")) as host:
        grant = grant_of(fetch(host))
        date = clock.rfc3339(clock.Instant.of(clock.now()))
        for content in (
            {"tokens": {**login["tokens"], "refresh_token": grant.upper()}},
            {"tokens": {**login["tokens"], "refresh_token": f" {grant}\n"}},
            {"tokens": {**login["tokens"], "access_token": grant}},
            {"OPENAI_API_KEY": grant},
            {"personal_access_token": grant},
            {"auths": {"api.openai.com": {"token": grant}}},
        ):
            for more in ({}, {"brought": "login"}):
                answer = host.auth(command="store", auth={**content, "last_refresh": date}, **GRANT, **more)
                assert (answer.status_code, answer.json()["data"]["status"]) == (200, "outdated")
    assert served.canonical() == with_auths(login)


def test_a_grant_does_not_make_a_first_document(served: Fleet, provider: Provider) -> None:
    document = provider.login()
    document["tokens"]["refresh_token"] = "cdxr_" + "ab" * 32
    with served.client(served.key("a.example.net")) as host:
        answer = host.auth(command="store", auth=document, **GRANT)
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["auth.tokens.refresh_token"])
    assert served.canonical() is None


@pytest.mark.every_engine
def test_a_grant_gets_the_fresh_token(served: Fleet, provider: Provider) -> None:
    login = provider.login()
    served.upload(login)
    settle(served)
    with served.client(served.key("a.example.net")) as host, served.client() as codex:
        grant = grant_of(fetch(host))
        answer = ask(codex, grant)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "id_token": login["tokens"]["id_token"],
            "access_token": access(login),
            "refresh_token": grant,
        }
        assert answer.headers["Cache-Control"] == "no-store"
        assert provider.refreshes == 0


@pytest.mark.every_engine
def test_a_token_that_expires_is_refreshed_once_and_kept(served: Fleet, provider: Provider) -> None:
    """Also without being asked: the job sees that half of its life is over."""
    login = provider.login(life=1, last_refresh="2026-01-01T00:00:00Z")
    with served.client(served.key("a.example.net")) as host, served.client() as codex:
        served.upload(login)
        until(lambda: provider.refreshes == 1)
        until(lambda: access(served.canonical() or login) != access(login))
        document = served.canonical()
        assert document is not None
        assert provider.is_alive(document["tokens"]["refresh_token"])
        assert document["auths"]["api.openai.com"]["token"] == access(document)
        grant = grant_of(fetch(host))
        assert ask(codex, grant).json()["access_token"] == access(document)
        assert provider.refreshes == 1
        assert provider.asked[0]["client_id"] == "app_EMoamEEZ73f0CkXaXp7hrann"
    text = "".join(served.output)
    assert not any(
        secret in text
        for secret in (*login["tokens"].values(), document["tokens"]["refresh_token"])
        if secret != "acc-1"
    )


def test_a_refused_token_is_replaced_at_most_once_a_minute(served: Fleet, provider: Provider) -> None:
    served.upload(provider.login())
    settle(served)
    keys = [served.key(f"{name}.example.net") for name in "abc"]
    with served.client() as codex:
        grants = []
        for key in keys:
            with served.client(key) as host:
                grants.append(grant_of(fetch(host)))
        given = [ask(codex, grant, REFUSED).json()["access_token"] for grant in grants]
        assert provider.refreshes == 1
        assert len(set(given)) == 1
        # It is refused again: there is nothing newer, and the minute is not over.
        assert ask(codex, grants[0], REFUSED).json()["access_token"] == given[0]
        assert provider.refreshes == 1
        assert provider.asked[0]["refresh_reason"] == REFUSED
        served.execute("UPDATE versions SET version = '2026-01-01T00:00:00+00:00' WHERE name = 'refresh_begun'")
        assert ask(codex, grants[0], REFUSED).json()["access_token"] != given[0]
        assert provider.refreshes == 2


def test_who_asks_without_end_is_told_to_wait(served: Fleet, provider: Provider) -> None:
    served.upload(provider.login())
    with served.client(served.key("a.example.net")) as host, served.client() as codex:
        grant = grant_of(fetch(host))
        statuses = [ask(codex, grant).status_code for _ in range(12)]
        assert statuses == [200] * 10 + [503] * 2
        answer = ask(codex, grant)
    assert (answer.json()["code"], answer.headers["Retry-After"]) == ("grant_repeated", "60")


def test_while_the_provider_is_away_hosts_get_the_token_while_it_lives(served: Fleet, provider: Provider) -> None:
    provider.plan(status=500, times=1000)
    served.upload(provider.login(life=400))
    with served.client(served.key("a.example.net")) as host, served.client() as codex:
        data = fetch(host)
        answer = ask(codex, grant_of(data))
        assert (answer.status_code, answer.json()["access_token"]) == (200, access(data["auth"]))
        # One that Codex would refresh at once is never given.
        served.upload(provider.login(life=1))
        grant = grant_of(fetch(host))
        until(lambda: job(served, "refresh")["failures"] >= 1)
        answer = ask(codex, grant)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 5
        assert (answer.json()["code"], answer.json()["error"]["code"]) == ("refresh_pending", "refresh_pending")
        provider._plans.clear()
        served.execute("UPDATE jobs SET not_before = NULL WHERE name = 'refresh'")
        assert ask(codex, grant).status_code == 200
    assert provider.refreshes == 1


def seconds_until(moment: str) -> float:
    return (clock.read_stamp(moment) - clock.now()).total_seconds()


@pytest.mark.parametrize("status", [429, 503])
def test_a_provider_that_asks_to_wait_is_not_asked_before_that(served: Fleet, provider: Provider, status: int) -> None:
    provider.plan(status=status, headers={"Retry-After": "120"}, times=1000)
    served.upload(provider.login(life=0))
    with served.client(served.key("a.example.net")) as host, served.client() as codex:
        until(lambda: job(served, "refresh")["failures"] == 1)
        found = job(served, "refresh")
        assert 60 < seconds_until(found["not_before"]) <= 120
        assert f"HTTP {status}" in found["last_error"]
        grant = grant_of(fetch(host))
        for reason in ("proactive_expiry", REFUSED):
            answer = ask(codex, grant, reason)
            assert (answer.status_code, answer.json()["code"]) == (503, "refresh_pending")
            assert 60 < int(answer.headers["Retry-After"]) <= 120
        done = served.cli("jobs", "run", "refresh", check=False)
        waits = f"The job refresh failed, and waits until {found['not_before']} before it tries again: "
        assert (done.returncode, waits + found["last_error"] in done.stderr) == (4, True)
        assert provider.calls == 1
        # It is over: the next question is answered.
        provider._plans.clear()
        served.execute("UPDATE jobs SET not_before = ? WHERE name = 'refresh'", "2026-01-01T00:00:00+00:00")
        assert ask(codex, grant).status_code == 200
        assert provider.calls == 2


def has_failed(fleet: Fleet, times: int) -> bool:
    return bool(job(fleet, "refresh")["failures"] == times)


def test_a_provider_that_fails_is_asked_less_and_less(served: Fleet, provider: Provider) -> None:
    provider.plan(status=500, times=1000)
    served.upload(provider.login(life=0))
    waits = []
    for failures in range(1, 9):
        until(functools.partial(has_failed, served, failures))
        found = job(served, "refresh")
        waits.append(seconds_until(found["not_before"]))
        assert found["next_run"] == found["not_before"]
        served.execute("UPDATE jobs SET not_before = NULL, next_run = NULL WHERE name = 'refresh'")
    assert [round(wait / 5) for wait in waits][:3] == [1, 2, 4]
    assert all(290 < wait <= 300 for wait in waits[6:])
    assert provider.calls in (8, 9)


def test_an_admin_reads_what_a_refresh_that_fails_means_for_hosts(served: Fleet, provider: Provider) -> None:
    provider.plan(status=500, times=1000)
    for life, means in ((3600, "Hosts can work until "), (-60, "Hosts cannot work: the access token expired at ")):
        served.upload(provider.login(life=life))
        settle(served)
        served.execute("UPDATE jobs SET not_before = NULL, next_run = NULL WHERE name = 'refresh'")
        served.cli("jobs", "run", "refresh", check=False)
        assert f". {means}" in served.cli("overview").stdout
    found = served.cli("doctor", check=False).stdout
    assert "cdxsync jobs run refresh, which says why it fails" in found
    assert "run cdx on a host, which refreshes it" not in found


def test_a_forced_refresh_that_fails_is_not_repeated_within_a_minute(served: Fleet, provider: Provider) -> None:
    served.upload(provider.login())
    settle(served)
    provider.plan(status=500, times=1000)
    with served.client(served.key("a.example.net")) as host, served.client() as codex:
        data = fetch(host)
        for _ in range(3):
            answer = ask(codex, grant_of(data), REFUSED)
            assert (answer.status_code, answer.json()["access_token"]) == (200, access(data["auth"]))
            served.execute("UPDATE jobs SET not_before = NULL, next_run = NULL WHERE name = 'refresh'")
        settle(served)
    assert provider.calls == 1


@pytest.mark.parametrize("code", ["refresh_token_reused", "refresh_token_invalidated", "refresh_token_expired"])
def test_a_login_that_the_provider_has_ended_is_dead_everywhere(served: Fleet, provider: Provider, code: str) -> None:
    key = served.key("a.example.net")
    body = json.dumps({"error": {"code": code, "message": "secret words"}})
    provider.plan(status=401, body=body)
    login = provider.login(life=1)
    served.upload(login)
    with served.client(key) as host, served.client() as codex:
        until(lambda: fetch(host)["login"]["state"] == "dead")
        data = fetch(host)
        assert data["login"]["code"] == code
        assert "cdx login" in data["login"]["message"]
        answer = ask(codex, grant_of(data))
        assert (answer.status_code, answer.json()["code"]) == (401, "login_dead")
        assert answer.json()["error"]["code"] == "refresh_token_invalidated"
        assert "cdx login" in answer.json()["message"]
        warnings = served.admin_call("GET", "/admin/overview")["warnings"]
        assert "login_dead" in [warning["code"] for warning in warnings]
        assert served.canonical() == with_auths(login)
        assert len(provider.asked) == 0
        [row] = logs(served, "auth.login_dead")
        assert row["code"] == code
        served.wait_for("login is dead")
        # At the command line, too, for a person and for Prometheus.
        for command in (("overview",), ("auth", "show"), ("doctor", "--skip", "public-url")):
            done = served.cli(*command, check=False)
            assert f"OpenAI has ended the fleet's login ({code})" in done.stdout + done.stderr
            assert done.returncode == (command[0] == "doctor")
        assert login_metric(served) == "1.0"
        assert "has ended" in job(served, "refresh")["last_result"]
        assert "secret words" not in "".join(served.output) + json.dumps(served.rows("SELECT details FROM logs"))


def login_metric(fleet: Fleet) -> str:
    with fleet.client(certificate="admin") as admin:
        text = admin.call("GET", "/metrics").text
    return next(line.split()[1] for line in text.splitlines() if line.startswith("cdxsync_login_dead "))


def spent(provider: Provider) -> list[str]:
    """The refresh tokens that the provider was given; doctor asks without one."""
    return [body["refresh_token"] for body in provider.asked if "refresh_token" in body]


def die(fleet: Fleet, provider: Provider) -> dict[str, Any]:
    """Give the fleet a login that the provider has ended."""
    login = provider.login(life=0)
    provider.revoke({"token": login["tokens"]["refresh_token"]})
    fleet.upload(login)
    until(lambda: any(row["code"] == "refresh_token_invalidated" for row in logs(fleet, "auth.login_dead")))
    assert is_dead(fleet)
    return login


def is_dead(fleet: Fleet) -> bool:
    """Whether the login is dead, which all places say in the same way."""
    codes = [warning["code"] for warning in fleet.admin_call("GET", "/admin/overview")["warnings"]]
    doctor = fleet.cli("doctor", "--skip", "public-url", check=False)
    with fleet.client(fleet.key("looks.example.net")) as host:
        answered = fetch(host)["login"]["state"]
    told = {
        "login_dead" in codes,
        login_metric(fleet) == "1.0",
        "has ended the fleet's login" in doctor.stdout and doctor.returncode == 1,
        answered == "dead",
    }
    assert len(told) == 1, (codes, doctor.stdout, answered)
    return told == {True}


@pytest.mark.parametrize("by", ["host", "old host", "login", "admin", "rollback", "key"])
def test_another_login_ends_the_death_of_one_everywhere(served: Fleet, provider: Provider, by: str) -> None:
    earlier = provider.login()
    served.upload(earlier)
    settle(served)
    dead = die(served, provider)
    settle(served)
    asked = spent(provider)
    # The same login with another date is as dead as before.
    later = {**dead, "last_refresh": clock.rfc3339(clock.Instant.of(clock.now()))}
    served.cli("auth", "upload", "--force", "-", input=json.dumps(later))
    assert is_dead(served)
    again = provider.login()
    with served.client(served.key("a.example.net")) as host:
        if by == "host":
            assert host.auth(command="store", auth=again, **GRANT).json()["data"]["status"] == "updated"
        elif by == "old host":
            assert host.auth(command="store", auth=again).json()["data"]["status"] == "updated"
        elif by == "login":
            again["last_refresh"] = "2026-01-01T00:00:00Z"  # its clock is wrong
            body = {"command": "store", "auth": again, "brought": "login", **GRANT}
            assert host.auth(**body).json()["data"]["status"] == "updated"
        elif by == "admin":
            served.upload(again)
        elif by == "rollback":
            served.cli("auth", "rollback", "1", "--yes")
        else:
            served.upload({"auth_mode": "apikey", "OPENAI_API_KEY": "sk-abcdefghijklmnopqrstuvwxyz"})
        assert not is_dead(served)
        assert fetch(host)["login"]["state"] == "ok"
        settle(served)
        assert "has ended" not in job(served, "refresh")["last_result"]
    assert spent(provider) == asked


@pytest.mark.every_engine
def test_a_stolen_file_refreshes_nothing_once_its_host_is_cut_off(served: Fleet, provider: Provider) -> None:
    """All that an admin can do to a host, with what its auth.json is good for afterwards."""
    served.upload(provider.login(life=7200))
    settle(served)
    fqdn = "a.example.net"
    with served.client(served.key("other.example.net")) as host:
        others = grant_of(fetch(host))

    with served.client() as codex:

        def gets(grant: str, reason: str = REFUSED) -> str | int:
            """What a holder of the grant gets: 200, or why not. Whoever is refused has the provider asked nothing."""
            before = provider.calls
            answer = ask(codex, grant, reason)
            if answer.status_code == 200:
                return 200
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "refresh_token_invalidated"  # which Codex takes as final
            assert provider.calls == before
            assert "access_token" not in answer.text
            return str(answer.json()["code"])

        key = served.key(fqdn)
        with served.client(key) as host:
            stolen = grant_of(fetch(host))
            assert gets(stolen) == 200
            served.cli("hosts", "disable", fqdn)
            assert gets(stolen) == "host_disabled"
            assert host.auth(last_refresh=OLD, digest=ZERO, **GRANT).json()["code"] == "host_disabled"
            served.cli("hosts", "enable", fqdn)  # its key is as good as before, and so is its grant
            assert gets(stolen) == 200
            assert grant_of(fetch(host)) == stolen
            # From another address, and where it may roam from any.
            served.execute("UPDATE hosts SET ip = '192.0.2.7' WHERE fqdn = ?", fqdn)
            assert gets(stolen) == "address_not_bound"
            served.cli("hosts", "roaming", fqdn, "on")
            assert gets(stolen) == 200
            served.cli("hosts", "roaming", fqdn, "off")
            served.execute("UPDATE hosts SET ip = '192.0.2.7' WHERE fqdn = ?", fqdn)
            assert gets(stolen) == "address_not_bound"
            served.cli("hosts", "unbind", fqdn)
            assert gets(stolen) == 200
            # What only the record is about, or what may be stored, ends nothing.
            served.cli("hosts", "clear", fqdn, "--yes")
            served.cli("hosts", "permit", fqdn, "--store-auth", "off", "--keep-auth", "off")
            assert gets(stolen) == 200
        served.cli("hosts", "rotate", "--yes", fqdn)
        assert gets(stolen) == "grant_invalid"
        assert served.host(fqdn)["holds"] == "grant"
        key = served.key(fqdn)
        with served.client(key) as host:
            newer = grant_of(fetch(host))
            assert newer not in (stolen, others)
            assert (gets(newer), gets(stolen)) == (200, "grant_invalid")
            assert host.call("DELETE", "/auth").status_code == 200
        assert gets(newer) == "grant_invalid"
        with served.client(served.key(fqdn)) as host:  # a host of the same name is another one
            last = grant_of(fetch(host))
        assert [gets(grant) for grant in (stolen, newer, last)] == ["grant_invalid", "grant_invalid", 200]
        served.cli("hosts", "delete", fqdn, "--yes")
        assert [gets(grant) for grant in (stolen, newer, last)] == ["grant_invalid"] * 3
        assert gets(others) == 200
        assert gets(f"{others[:-1]}{'0' if others[-1] != '0' else '1'}") == "grant_invalid"
    # The audit log says who tried, and none of what they tried with.
    rows = json.dumps(served.rows("SELECT action, details FROM logs"))
    assert "access.refused" in rows
    assert not any(grant in rows + "".join(served.output) for grant in (stolen, newer, last, others))


@pytest.mark.parametrize("command", [("disable",), ("rotate", "--yes"), ("delete", "--yes")])
def test_a_host_that_is_cut_off_while_it_waits_gets_nothing(
    served: Fleet, provider: Provider, command: tuple[str, ...]
) -> None:
    served.upload(provider.login(life=7200))
    settle(served)
    with served.client(served.key("a.example.net")) as host, served.client() as codex:
        grant = grant_of(fetch(host))
        provider.plan(passes=True, hold=True)
        with ThreadPoolExecutor(1) as threads:
            asking = threads.submit(ask, codex, grant, REFUSED)
            assert provider.entered.wait(60)
            served.cli("hosts", command[0], "a.example.net", *command[1:])
            provider.released.set()
            answer = asking.result()
    assert answer.status_code == 401
    assert "access_token" not in answer.text
    assert provider.refreshes == 1
    assert provider.is_alive((served.canonical() or {})["tokens"]["refresh_token"])


def test_a_grant_admits_from_the_bound_address_only(served: Fleet, provider: Provider) -> None:
    served.upload(provider.login())
    with served.client(served.key("a.example.net")) as host, served.client() as codex:
        grant = grant_of(fetch(host))
        served.execute("UPDATE hosts SET ip = '192.0.2.7'")
        answer = ask(codex, grant)
        assert (answer.status_code, answer.json()["code"]) == (401, "address_not_bound")
        served.cli("hosts", "unbind", "a.example.net")
        assert ask(codex, grant).status_code == 200
        assert served.host("a.example.net")["ip"] == "127.0.0.1"


def test_guessing_is_throttled(tmp_path: Path, provider: Provider) -> None:
    env = provider.environment() | {"CDXSYNC_FAILURES_PER_MINUTE": "3"}
    with running_fleet(tmp_path / "home", env=env) as fleet, fleet.client() as codex:
        fleet.upload(provider.login())
        with fleet.client(fleet.key("good.example.net")) as host:
            good = grant_of(fetch(host))
        ended = []
        for _ in range(2):
            with fleet.client(fleet.key("rotated.example.net")) as host:
                ended.append(grant_of(fetch(host)))
        answers = [ask(codex, f"cdxr_{number:064}") for number in range(5)]
        assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]
        assert int(answers[-1].headers["Retry-After"]) > 0
        assert ask(codex, "rt-of-a-provider").status_code == 429
        # A grant that has ended counts as any guess. Who has a good one is not kept out by others of its address.
        assert ask(codex, ended[0]).status_code == 429
        assert [ask(codex, grant).status_code for grant in (ended[1], good)] == [200, 200]
        assert len(logs(fleet, "access.refused")) == 1


def test_revoking_ends_nothing(served: Fleet, provider: Provider) -> None:
    login = provider.login()
    served.upload(login)
    with served.client(served.key("a.example.net")) as host, served.client() as codex:
        grant = grant_of(fetch(host))
        for token in (grant, login["tokens"]["refresh_token"]):
            answer = codex.call(
                "POST", "/oauth/revoke", json={"token": token, "token_type_hint": "refresh_token", "client_id": "x"}
            )
            assert (answer.status_code, answer.json()) == (200, {})
        assert ask(codex, grant).status_code == 200
    assert provider.revoked == []
    assert provider.is_alive(login["tokens"]["refresh_token"])
    assert [row["fqdn"] for row in logs(served, "oauth.revoke")] == ["a.example.net"]
    assert login["tokens"]["refresh_token"] not in "".join(served.output)


def test_a_fleet_whose_hosts_refresh_gives_no_grants(tmp_path: Path, provider: Provider) -> None:
    login = provider.login()
    with running_fleet(tmp_path / "home", env=provider.environment() | {"CDXSYNC_REFRESH": "hosts"}) as fleet:
        fleet.upload(login)
        with fleet.client(fleet.key("a.example.net")) as host:
            data = fetch(host)
    assert data["auth"] == with_auths(login)
    assert data["login"] == {"state": "ok", "refresh": "hosts", "keep": True, "file_store": False}
    assert provider.asked == []


def test_a_login_without_a_refresh_token_is_shared_as_it_is(served: Fleet) -> None:
    key = {"auth_mode": "apikey", "OPENAI_API_KEY": "sk-abcdefghijklmnopqrstuvwxyz", "last_refresh": OLD}
    served.upload(key)
    with served.client(served.key("a.example.net")) as host:
        assert fetch(host, last_refresh="2025-01-01T00:00:00Z")["auth"]["OPENAI_API_KEY"] == key["OPENAI_API_KEY"]


def test_the_provider_may_keep_its_refresh_token(served: Fleet, provider: Provider) -> None:
    provider.rotates = False
    login = provider.login(life=1)
    served.upload(login)
    until(lambda: access(served.canonical() or login) != access(login))
    assert (served.canonical() or {})["tokens"]["refresh_token"] == login["tokens"]["refresh_token"]


def test_what_is_wrong_in_a_request(served: Fleet) -> None:
    with served.client() as codex:
        assert codex.call("POST", "/oauth/token", json={"grant_type": "password"}).status_code == 422
        assert codex.call("POST", "/oauth/token", data=b"{").status_code == 400
        for body in ({}, {"refresh_token": 7}, {"refresh_token": "cdxr_" + "é" * 400}):
            answer = codex.call("POST", "/oauth/token", json=body)
            assert (answer.status_code, answer.json()["code"]) == (401, "grant_invalid")


@pytest.mark.every_engine
def test_hosts_that_hold_the_real_token_are_counted_and_named(served: Fleet, provider: Provider) -> None:
    login = provider.login()
    served.upload(login)
    fqdn = "a.example.net"

    def told() -> list[str]:
        warnings = served.admin_call("GET", "/admin/overview")["warnings"]
        return [warning["message"] for warning in warnings if warning["code"] == "login_held"]

    def holds() -> tuple[str | None, bool]:
        [listed] = json.loads(served.cli("--json", "hosts", "list").stdout)["hosts"]
        shown = served.host(fqdn)
        assert shown == listed == served.admin_call("GET", f"/admin/hosts/{shown['id']}")["host"]
        assert shown["given_at"] is None or -60 < seconds_until(shown["given_at"]) < 1
        return shown["holds"], shown["given_at"] is not None

    with served.client(served.key(fqdn)) as host, served.client(certificate="admin") as admin:
        assert (told(), holds()) == ([], (None, False))
        host.auth(last_refresh=OLD, digest=ZERO)
        assert holds() == ("login", False)
        assert host.auth(last_refresh=OLD, digest=plain_digest(with_auths(login))).json()["data"]["status"] == "valid"
        assert told()[0].startswith("1 host holds")
        assert f": {fqdn}. Update cdx on them: they do at their next run" in told()[0]
        assert "login" in served.cli("hosts", "list").stdout
        assert "the real login, with its refresh token" in served.cli("hosts", "show", fqdn).stdout
        assert "cdxsync hosts list" in served.cli("doctor", check=False).stdout
        assert fetch(host)["status"] == "outdated"
        assert (told(), holds()) == ([], ("grant", True))
        assert "a grant of its own, which ends with its key, since" in served.cli("hosts", "show", fqdn).stdout
        metrics = admin.call("GET", "/metrics").text
        # What an older cdx fetches is the real one, whatever the host had before.
        host.auth(last_refresh=OLD, digest=ZERO)
        assert holds() == ("login", True)
        served.cli("hosts", "disable", fqdn)
        assert (told(), holds()) == ([], ("login", True))
    assert 'cdxsync_login_holders{holds="grant"} 1.0' in metrics
    assert "cdxsync_login_dead 0.0" in metrics


@pytest.mark.parametrize(
    ("refresh", "url", "level", "next_step"),
    [
        ("server", "here", "ok", None),
        ("server", "http://127.0.0.1:9/oauth/token", "fail", 'refresh = "hosts"'),
        ("server", "", "warn", 'refresh = "hosts"'),
        ("hosts", "here", "warn", 'remove refresh = "hosts"'),
        ("hosts", "http://127.0.0.1:9/oauth/token", "ok", None),
        ("hosts", "", "ok", None),
    ],
)
def test_doctor_tries_the_way_to_the_provider(
    tmp_path: Path, provider: Provider, refresh: str, url: str, level: str, next_step: str | None
) -> None:
    fleet = Fleet(tmp_path / "home")
    fleet.cli("init", "--public-url", "https://localhost:1")
    env = fleet.env | {"CDXSYNC_REFRESH": refresh, "CDXSYNC_TOKEN_URL": provider.token_url if url == "here" else url}
    done = run_cli("--home", str(fleet.home), "--json", "doctor", check=False, env=env)
    [found] = [one for one in json.loads(done.stdout)["checks"] if one["check"] == "token-endpoint"]
    assert found["level"] == level
    assert (found["mend"] is None) == (next_step is None)
    assert (next_step or "") in (found["mend"] or "")
    assert (provider.calls, provider.refreshes) == (int(url == "here"), 0)


def test_a_home_without_settings_refreshes_itself(tmp_path: Path) -> None:
    assert settings.load(tmp_path, environ={}).server_refreshes
    assert not settings.load(tmp_path, environ={"CDXSYNC_REFRESH": "hosts"}).server_refreshes
    assert not settings.load(tmp_path, environ={"CDXSYNC_TOKEN_URL": ""}).server_refreshes
