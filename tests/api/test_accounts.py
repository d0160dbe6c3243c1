"""Whose login the fleet has: logins of other accounts, logins that people bring, and dates of hosts' clocks."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.calls import MIDDLE, NEW, OLD, logs, retrieve, store
from tests.support.documents import ACCESS_TOKEN, AGENT, API_KEY, BEDROCK, make_auth, plain_digest, with_auths
from tests.support.fleet import Client, Fleet

pytestmark = pytest.mark.every_engine

FOREIGN = make_auth(NEW, "private", account="acc-2", user="me")


def refused(client: Client, document: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The error of a store that is refused."""
    answer = client.auth(command="store", auth=document, **more)
    assert answer.status_code == 422, answer.text
    error: dict[str, Any] = answer.json()
    return error


def offers(fleet: Fleet) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = fleet.admin_call("GET", "/admin/auth")["offers"]
    return found


def warned(fleet: Fleet) -> list[str]:
    return [
        row["message"]
        for row in fleet.admin_call("GET", "/admin/overview")["warnings"]
        if row["code"] == "other_account"
    ]


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_login_of_another_account_stays_on_its_host(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth(OLD))
    with fresh_fleet.client(fresh_fleet.key("laptop.example.net")) as laptop:
        assert retrieve(laptop, NEW, plain_digest(FOREIGN))["status"] == "upload_required"
        for _ in range(2):
            error = refused(laptop, FOREIGN)
            assert (error["code"], list(error["errors"])) == ("other_account", ["auth"])
            assert "cdxsync auth accept laptop.example.net" in error["errors"]["auth"][0]
        # Also when a person has just brought it, and whatever its date.
        assert refused(laptop, FOREIGN, brought="login")["code"] == "other_account"
        assert refused(laptop, FOREIGN | {"last_refresh": None})["code"] == "other_account"
    assert fresh_fleet.canonical() == with_auths(make_auth(OLD))
    shown = fresh_fleet.host("laptop.example.net")
    assert (shown["other_account"], shown["api_calls"]) == ("ask", 5)
    refusals = [row for row in logs(fresh_fleet, "auth.store") if row["status"] == "refused"]
    assert [(row["reason"], row["account"]) for row in refusals] == [("another account", "ChatGPT me@example.net")] * 2
    (offer,) = offers(fresh_fleet)
    assert (offer["fqdn"], offer["account"], offer["accepted"]) == (
        "laptop.example.net",
        "ChatGPT me@example.net",
        "ask",
    )
    assert "laptop.example.net (ChatGPT me@example.net)" in warned(fresh_fleet)[0]
    kept = json.dumps(fresh_fleet.rows("SELECT account, digest, digests FROM login_offers"))
    assert not [secret for secret in FOREIGN["tokens"].values() if secret in kept]
    text = fresh_fleet.cli("hosts", "show", "laptop.example.net").stdout
    assert "Other account\tChatGPT me@example.net" in text
    assert "ChatGPT me@example.net" in fresh_fleet.cli("auth", "show").stderr


def test_an_admin_takes_a_login_once(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth(NEW))
    early = make_auth(OLD, "private", account="acc-2", user="me")
    with fresh_fleet.client(fresh_fleet.key("laptop.example.net")) as laptop:
        done = fresh_fleet.cli("auth", "accept", "1", check=False)
        assert (done.returncode, "has offered no login" in done.stderr) == (4, True)
        refused(laptop, early)
        assert "is taken when the host calls" in fresh_fleet.cli("auth", "accept", "laptop.example.net").stderr
        assert not warned(fresh_fleet)
        # What else the host has is not asked for; what it has offered is, though it is older than the fleet's.
        assert retrieve(laptop, OLD)["status"] == "outdated"
        assert retrieve(laptop, OLD, plain_digest(early))["status"] == "upload_required"
        answer = store(laptop, early)
        assert answer["status"] == "updated"
        taken = answer["auth"]
        assert taken["last_refresh"] > NEW
        assert taken == with_auths(early) | {"last_refresh": taken["last_refresh"]}
        assert fresh_fleet.canonical() == taken
        assert offers(fresh_fleet) == []
        assert fresh_fleet.host("laptop.example.net")["other_account"] == "ask"
        row = logs(fresh_fleet, "auth.store")[-1]
        assert (row["accepted"], row["account"], row["account_before"]) == (
            "once",
            "ChatGPT me@example.net",
            "ChatGPT a@example.net",
        )
        # Sent again it is known, and the login that it replaced does not come back.
        assert store(laptop, early)["status"] == "outdated"
        assert refused(laptop, make_auth(NEW))["code"] == "other_account"
    (row,) = logs(fresh_fleet, "admin.auth.accept")
    assert (row["accepted"], row["account"]) == ("once", "ChatGPT me@example.net")


def test_an_accepted_login_that_was_refreshed_meanwhile_is_taken(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth(OLD))
    with fresh_fleet.client(fresh_fleet.key("laptop.example.net")) as laptop:
        refused(laptop, FOREIGN)
        fresh_fleet.cli("auth", "accept", "laptop.example.net")
        assert refused(laptop, make_auth(NEW, "other", account="acc-3"))["code"] == "other_account"
        refused(laptop, FOREIGN)
        later = make_auth("2026-03-02T00:00:00Z", "refreshed", account="acc-2", user="me")
        assert store(laptop, later)["status"] == "updated"


def test_an_admin_takes_all_or_none(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth(OLD))
    fresh_fleet.upload(make_auth(MIDDLE, "two"))
    with fresh_fleet.client(fresh_fleet.key("laptop.example.net")) as laptop:
        refused(laptop, FOREIGN)
        assert "never taken" in fresh_fleet.cli("auth", "accept", "1", "--never").stderr
        assert not warned(fresh_fleet)
        assert refused(laptop, FOREIGN)["code"] == "other_account"
        fresh_fleet.admin_call("POST", "/admin/hosts/1/auth/accept", json={"rule": "always"})
        assert retrieve(laptop, OLD, plain_digest(make_auth(OLD, "x")))["status"] == "upload_required"
        # A host without a document gets the fleet's, and so does one that holds an earlier one.
        nothing = "8c6e3b5b78b9558813d537edaa7f641a9a03e0bce80b4bf991dc573ab0a334da"
        assert retrieve(laptop, "2000-01-01T00:00:00Z", nothing)["status"] == "outdated"
        assert retrieve(laptop, OLD, plain_digest(with_auths(make_auth(OLD))))["status"] == "outdated"
        assert store(laptop, make_auth(OLD, "x"))["status"] == "outdated", "the same account: by its date"
        assert store(laptop, API_KEY)["status"] == "updated", "without a date it counts as made now"
        assert fresh_fleet.host("laptop.example.net")["other_account"] == "always"
        assert store(laptop, make_auth(MIDDLE, "two"))["status"] == "outdated", "the fleet's once, and replaced"
        assert store(laptop, FOREIGN)["status"] == "updated"
        fresh_fleet.cli("auth", "accept", "1", "--ask")
        assert refused(laptop, API_KEY)["code"] == "other_account"
        done = fresh_fleet.cli("auth", "accept", "1", "--ask", "--never", check=False)
        assert done.returncode == 2
    with fresh_fleet.client(certificate="admin") as admin:
        answer = admin.call("POST", "/admin/hosts/1/auth/accept", json={"rule": "perhaps"})
        assert (answer.status_code, list(answer.json()["errors"])) == (422, ["rule"])


def test_an_upload_may_change_the_account_and_says_so(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth(OLD))
    with fresh_fleet.client(fresh_fleet.key("laptop.example.net")) as laptop:
        refused(laptop, FOREIGN)
        answer = fresh_fleet.admin_call("POST", "/admin/auth/upload", json={"auth": FOREIGN})
        assert answer["account_change"] == {"before": "ChatGPT a@example.net", "now": "ChatGPT me@example.net"}
        assert offers(fresh_fleet) == []
        again = make_auth("2026-03-02T00:00:00Z", "again", account="acc-2", user="me")
        assert "account_change" not in fresh_fleet.admin_call("POST", "/admin/auth/upload", json={"auth": again})
        assert fresh_fleet.admin_call("GET", "/admin/auth")["account"] == "ChatGPT me@example.net"


def test_a_login_that_a_person_brings_is_the_newest(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth(NEW))
    with fresh_fleet.client(fresh_fleet.key("slow-clock.example.net")) as host:
        assert store(host, make_auth(OLD, "login"))["status"] == "outdated"
        brought = store(host, make_auth(OLD, "login"), brought="login")
        assert brought["status"] == "updated"
        assert brought["auth"]["last_refresh"] > NEW
        assert brought["auth"]["tokens"] == make_auth(OLD, "login")["tokens"]
        assert logs(fresh_fleet, "auth.store")[-1]["brought"] == "login"
        # The same once more, as by a client that has not heard the answer.
        assert store(host, make_auth(OLD, "login"), brought="login")["status"] == "outdated"
        assert store(host, brought["auth"], brought="login")["status"] == "unchanged"
        for date in (in_seconds(86400), None, "never", ""):
            document = make_auth(OLD, f"login {date}") | {"last_refresh": date}
            answer = store(host, document, brought="login")
            assert answer["status"] == "updated"
            assert answer["canonical_last_refresh"] < in_seconds(300)
        # One that was the fleet's and was replaced is spent.
        assert store(host, make_auth(OLD, "login"), brought="login")["status"] == "outdated"
        assert len(fresh_fleet.rows("SELECT id FROM auth_payloads")) == 6
        assert set(refused(host, make_auth(), brought="restored")["errors"]) == {"brought"}


def test_a_login_counts_from_its_arrival(fresh_fleet: Fleet) -> None:
    """What others refreshed before the login came does not outrank it, though its host's clock is behind."""
    fresh_fleet.upload(make_auth(OLD))
    behind, between = in_seconds(-3600), in_seconds(-1800)
    with fresh_fleet.client(fresh_fleet.key("behind.example.net")) as host:
        assert store(host, make_auth(behind, "login"), brought="login")["canonical_last_refresh"] == behind
        assert retrieve(host, between)["status"] == "outdated"
        assert store(host, make_auth(between, "refreshed"))["status"] == "outdated"
        assert store(host, make_auth(in_seconds(1), "later"))["status"] == "updated"


def test_the_permit_holds_for_logins_too(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth(OLD))
    key = fresh_fleet.key("leaf.example.net")
    fresh_fleet.cli("hosts", "permit", "1", "--store-auth", "off")
    with fresh_fleet.client(key) as host:
        assert host.auth(command="store", auth=make_auth(NEW, "x"), brought="login").status_code == 403
        assert host.auth(command="store", auth=FOREIGN).status_code == 403
    assert offers(fresh_fleet) == []


def test_a_document_dated_ahead_does_not_outrank_a_login_that_comes_later(fresh_fleet: Fleet) -> None:
    ahead, login = make_auth(in_seconds(250), "ahead"), make_auth(in_seconds(30), "login")
    with (
        fresh_fleet.client(fresh_fleet.key("ahead.example.net")) as fast,
        fresh_fleet.client(fresh_fleet.key("right.example.net")) as right,
    ):
        assert store(fast, ahead)["status"] == "updated"
        # The newer date does not count, but that it came later.
        assert retrieve(right, login["last_refresh"], plain_digest(login))["status"] == "upload_required"
        assert store(right, login)["status"] == "updated"
        for digest in (plain_digest(ahead), plain_digest(with_auths(ahead))):
            assert retrieve(fast, ahead["last_refresh"], digest)["status"] == "outdated"
        assert store(fast, ahead)["status"] == "outdated"
        # Nor does it help to give the same tokens another date.
        assert store(fast, ahead | {"last_refresh": in_seconds(280)})["status"] == "outdated"
        # What the server makes canonical itself ranks as of then, though it is dated later than all that it knows.
        fresh_fleet.cli("auth", "rollback", "previous", "--yes")
        assert store(right, make_auth(in_seconds(60), "after"))["status"] == "updated"
    assert fresh_fleet.canonical() is not None


def test_what_was_replaced_does_not_come_back(fresh_fleet: Fleet) -> None:
    first = make_auth(OLD, "first")
    with fresh_fleet.client(fresh_fleet.key("h.example.net")) as host:
        store(host, first)
        store(host, make_auth(MIDDLE, "second"))
        # A copy of the first one, dated by its file.
        copy = first | {"last_refresh": NEW}
        assert store(host, copy)["status"] == "outdated"
        fresh_fleet.cli("auth", "rollback", "previous", "--yes")
        assert store(host, make_auth(in_seconds(60), "second"))["status"] == "outdated"
        assert store(host, make_auth(in_seconds(60), "third"))["status"] == "updated"


@pytest.mark.parametrize("document", [API_KEY, ACCESS_TOKEN, BEDROCK], ids=["key", "token", "bedrock"])
def test_logins_without_a_date(fresh_fleet: Fleet, document: dict[str, Any], tmp_path: Any) -> None:
    file = tmp_path / "auth.json"
    file.write_text(json.dumps(document, indent=2))
    assert "is canonical now" in fresh_fleet.cli("auth", "upload", str(file)).stderr
    stored = fresh_fleet.canonical()
    assert stored is not None
    assert {name: stored[name] for name in document} == document
    assert "was canonical already" in fresh_fleet.cli("auth", "upload", str(file)).stderr
    with fresh_fleet.client(fresh_fleet.key("h.example.net")) as host:
        bare = {name: value for name, value in stored.items() if name != "auths"}
        for digest in (plain_digest(stored), plain_digest(bare)):
            assert retrieve(host, stored["last_refresh"], digest)["status"] == "valid"
        # From a host it is no news without a login.
        assert set(refused(host, document)["errors"]) == {"auth.last_refresh"}
        assert store(host, document, brought="login")["status"] == "outdated"
        answer = retrieve(host, "2000-01-01T00:00:00Z", plain_digest(document))
        assert (answer["status"], answer["auth"]) == ("outdated", stored)
        given = retrieve(host, stored["last_refresh"], plain_digest(stored), accepts=["grant"])
        assert (given["status"], given["login"]["state"]) == ("valid", "ok")
        assert refused(host, AGENT)["code"] == "login_not_shareable"
    assert len(fresh_fleet.rows("SELECT id FROM auth_payloads")) == 1
    file.write_text(json.dumps(make_auth(OLD)))
    done = fresh_fleet.cli("auth", "upload", str(file), "--force")
    assert "The fleet's account changes: ChatGPT a@example.net, before: " in done.stderr
    file.write_text(json.dumps(document))
    assert "is canonical now" in fresh_fleet.cli("auth", "upload", str(file)).stderr, "newer than all, without --force"


def test_a_host_that_may_not_keep_credentials_is_told(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth(OLD))
    with fresh_fleet.client(fresh_fleet.key("shared.example.net")) as host:
        assert retrieve(host, accepts=["grant"])["login"]["keep"] is True
        assert "keeps auth.json: no" in fresh_fleet.cli("hosts", "permit", "1", "--keep-auth", "off").stderr
        assert retrieve(host, accepts=["grant"])["login"]["keep"] is False
        assert "login" not in retrieve(host)
    assert fresh_fleet.host("1")["allow_keep_auth"] is False
    assert "May keep auth\tno" in fresh_fleet.cli("hosts", "show", "1").stdout


def test_a_fleet_that_makes_codex_read_the_file(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth(OLD))
    fresh_fleet.stop()
    fresh_fleet.env["CDXSYNC_CODEX_FILE_STORE"] = "on"
    fresh_fleet.start()
    with fresh_fleet.client(fresh_fleet.key("h.example.net")) as host:
        assert retrieve(host, accepts=["grant"])["login"]["file_store"] is True


def test_a_host_that_claims_no_document_is_shown_so(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth("2026-01-01T00:00:00Z"))
    with fresh_fleet.client(fresh_fleet.key("logged-out.example.net")) as host:
        host.auth(last_refresh="2000-01-01T00:00:00Z", digest="0" * 64)
    for command in (("hosts", "show"), ("hosts", "auth")):
        shown = fresh_fleet.cli(*command, "logged-out.example.net").stdout
        assert "none of the fleet's" in shown
        assert "2000-01-01" not in shown
