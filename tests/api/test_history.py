"""The documents that the fleet had: listing, comparing without values, and rolling back for all hosts."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.auth import history
from cdxsync.base.clock import Instant, check_document_date, parse_rfc3339, rfc3339
from tests.support import terminal
from tests.support.documents import make_auth, with_auths
from tests.support.engines import Engine
from tests.support.fleet import Fleet, running_fleet
from tests.support.machines import Machine
from tests.support.terminal import on_terminal

pytestmark = pytest.mark.every_engine

OLD, MIDDLE, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[Fleet]:
    """A fleet that has had three documents; tests leave them as they are."""
    with running_fleet(tmp_path_factory.mktemp("three") / "home", env=engine.environment()) as fleet:
        fleet.upload(make_auth(OLD, "old"))
        with fleet.client(fleet.key("giver.example.net")) as client:
            client.auth(command="store", auth=make_auth(MIDDLE, "middle"))
        fleet.upload(make_auth(NEW, "new"))
        yield fleet


def without_date(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "last_refresh"}


def log_details(fleet: Fleet, action: str) -> list[tuple[str, dict[str, Any]]]:
    rows = fleet.rows("SELECT actor, details FROM logs WHERE action = ? ORDER BY id", action)
    return [(actor, json.loads(details)) for actor, details in rows]


def test_history_lists_the_newest_first(three: Fleet) -> None:
    data = json.loads(three.cli("--json", "auth", "history").stdout)
    assert [(row["id"], row["last_refresh"], row["source"], row["canonical"]) for row in data["history"]] == [
        (3, NEW, "admin", True),
        (2, MIDDLE, "giver.example.net", False),
        (1, OLD, "admin", False),
    ]
    assert data["next_before"] is None
    assert three.admin_call("GET", "/admin/auth/history") == data
    assert data["history"][0]["digest"] == three.admin_call("GET", "/admin/auth")["canonical_digest"]
    page = json.loads(three.cli("--json", "auth", "history", "--limit", "2").stdout)
    assert [row["id"] for row in page["history"]] == [3, 2]
    rest = three.admin_call("GET", f"/admin/auth/history?limit=2&before={page['next_before']}")
    assert [row["id"] for row in rest["history"]] == [1]
    assert rest["next_before"] is None
    assert three.cli("auth", "history").stdout.splitlines()[0].endswith("\tcanonical")


def test_show_through_both_doors(three: Fleet) -> None:
    data = three.admin_call("GET", "/admin/auth")
    assert data == json.loads(three.cli("--json", "auth", "show").stdout)
    assert "auth" not in data
    seen = three.admin_call("GET", "/admin/auth?include_body=1")
    assert seen["auth"] == with_auths(make_auth(NEW, "new"))
    assert log_details(three, "admin.auth.show")[-1][0].startswith("cert:CN=admin#")


def test_diff_names_keys_and_tells_nothing_of_values(three: Fleet) -> None:
    data = json.loads(three.cli("--json", "auth", "diff").stdout)
    assert (data["from"]["id"], data["to"]["id"], data["reordered"]) == (2, 3, False)
    changed = ["auths.api.openai.com.token", "last_refresh", "tokens.access_token", "tokens.id_token"]
    assert [row["key"] for row in data["changes"]] == [*changed, "tokens.refresh_token"]
    assert {row["change"] for row in data["changes"]} == {"changed"}
    assert three.admin_call("GET", "/admin/auth/diff") == data
    assert three.admin_call("GET", "/admin/auth/diff?from=2&to=3") == data
    assert json.loads(three.cli("--json", "auth", "diff", "1").stdout)["from"]["id"] == 1
    one = json.loads(three.cli("--json", "auth", "diff", "1", "2").stdout)
    assert (one["from"]["id"], one["to"]["id"]) == (1, 2)
    shown = three.cli("auth", "diff")
    assert "tokens.refresh_token\tchanged\n" in shown.stdout
    for secret in with_auths(make_auth(NEW, "new"))["tokens"].values():
        assert secret not in shown.stdout + shown.stderr + json.dumps(data)


@pytest.mark.sqlite_only("refused before the database is asked")
def test_bad_references(three: Fleet) -> None:
    for arguments, code, says in [
        (["diff", "x"], 2, "from must be a document's id"),
        (["diff", "99"], 3, "No document 99"),
        (["diff", "1", "99"], 3, "No document 99"),
        (["rollback", "--yes", "99"], 3, "No document 99"),
        (["rollback", "--yes", "3"], 4, "is the canonical one"),
        (["rollback", "--yes", "next"], 2, "id must be a document's id"),
        (["rollback", "1"], 4, "--yes"),
    ]:
        done = three.cli("auth", *arguments, check=False)
        assert (done.returncode, says in done.stderr) == (code, True), done.stderr
    with three.client(certificate="admin") as client:
        for body, status in [({"id": 99}, 404), ({"id": True}, 422), ({}, 422), ({"id": [1]}, 422), ({"id": 3}, 409)]:
            assert client.call("POST", "/admin/auth/rollback", json=body).status_code == status
        for query, field in [("history?before=x", "before"), ("diff?from=-1", "from")]:
            response = client.call("GET", f"/admin/auth/{query}")
            assert (response.status_code, set(response.json()["errors"])) == (422, {field})
    with three.client() as client:
        for method, path in [("GET", ""), ("GET", "/history"), ("GET", "/diff"), ("POST", "/rollback")]:
            assert client.call(method, f"/admin/auth{path}").status_code == 403
    assert three.canonical() == with_auths(make_auth(NEW, "new"))


def test_an_empty_fleet_has_no_history(tmp_path: Path) -> None:
    with running_fleet(tmp_path / "home") as fleet:
        assert json.loads(fleet.cli("--json", "auth", "history").stdout) == {"history": [], "next_before": None}
        for arguments in (["diff"], ["rollback", "previous", "--yes"], ["show"]):
            done = fleet.cli("auth", *arguments, check=False)
            assert done.returncode == 3
            assert "no auth.json yet" in done.stderr
        with fleet.client(certificate="admin") as client:
            assert client.call("GET", "/admin/auth").status_code == 404


def test_hosts_pull_what_was_rolled_back_to_and_do_not_undo_it(fresh_fleet: Fleet, tmp_path: Path) -> None:
    machines = []
    for number in range(2):
        machine = Machine(tmp_path / f"machine{number}")
        machine.cdx.parent.mkdir(parents=True)
        name = f"host{number}.example.net"
        fresh_fleet.wrapper(name, fresh_fleet.key(name), machine.cdx)
        machines.append(machine)
    good = make_auth(OLD, "good")
    # As far ahead of the clock as is allowed: the copy must beat this date too.
    ahead = (datetime.now(UTC) + timedelta(seconds=200)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fresh_fleet.upload(good)
    for machine in machines:  # at the first sync the server wins
        assert machine.run_cdx().returncode == 0
        assert without_date(machine.auth()) == without_date(with_auths(good))
    # The first host brings the bad one; the other still has the good one.
    machines[0].put_auth(make_auth(ahead, "bad"))
    assert machines[0].run_cdx().returncode == 0
    assert without_date(fresh_fleet.canonical() or {}) == without_date(with_auths(make_auth(ahead, "bad")))

    data = json.loads(fresh_fleet.cli("--json", "auth", "rollback", "previous", "--yes").stdout)
    assert (data["from"], data["to"], data["stored_as"]) == (2, 1, 3)
    assert data["restored_last_refresh"] == OLD
    assert parse_rfc3339(data["canonical_last_refresh"]) > parse_rfc3339(ahead)
    for _ in range(2):
        for machine in machines:
            done = machine.run_cdx()
            assert done.returncode == 0, done.stderr
            assert without_date(machine.auth()) == without_date(with_auths(good))
    canonical = fresh_fleet.canonical()
    assert canonical == machines[0].auth() == machines[1].auth()
    assert canonical["last_refresh"] == data["canonical_last_refresh"]
    assert list(canonical) == list(with_auths(good))
    rows = json.loads(fresh_fleet.cli("--json", "auth", "history").stdout)["history"]
    assert [(row["id"], row["source"], row["canonical"]) for row in rows] == [
        (3, "rollback of 1", True),
        (2, "host0.example.net", False),
        (1, "admin", False),
    ]
    actor, details = log_details(fresh_fleet, "admin.auth.rollback")[0]
    assert actor.startswith("os-user:")
    assert (details["from"], details["to"]) == (2, 1)

    # A newer login wins over it as over any document, and a rollback can be rolled back.
    undone = fresh_fleet.admin_call("POST", "/admin/auth/rollback", json={"id": "previous"})
    assert (undone["from"], undone["to"]) == (3, 2)
    assert machines[1].run_cdx().returncode == 0
    assert without_date(machines[1].auth()) == without_date(with_auths(make_auth(ahead, "bad")))


def test_a_host_that_may_not_store_stops_no_rollback_and_no_forced_upload(fresh_fleet: Fleet) -> None:
    for date, seed in ((OLD, "old"), (MIDDLE, "middle")):
        fresh_fleet.upload(make_auth(date, seed))
    with fresh_fleet.client(fresh_fleet.key("denied.example.net")) as client:
        fresh_fleet.cli("hosts", "permit", "denied.example.net", "--store-auth", "off")
        for number in range(4):
            # As far ahead as is allowed, in whole seconds and then almost one more.
            ahead = (datetime.now(UTC) + timedelta(seconds=300)).strftime("%Y-%m-%dT%H:%M:%S.999Z")
            claimed = client.auth(command="retrieve", last_refresh=ahead, digest=f"{number:064x}")
            assert claimed.json()["data"]["status"] == "upload_required"
            assert fresh_fleet.host("denied.example.net")["last_refresh"] == ahead
            if number % 2:
                data = fresh_fleet.admin_call("POST", "/admin/auth/rollback", json={"id": "previous"})
            else:
                body = {"auth": make_auth(OLD, f"forced {number}"), "force": True}
                data = fresh_fleet.admin_call("POST", "/admin/auth/upload", json=body)
            canonical = parse_rfc3339(str(data["canonical_last_refresh"]))
            assert canonical < Instant.of(datetime.now(UTC) + timedelta(seconds=1))
            again = client.auth(command="retrieve", last_refresh=ahead, digest=f"{number:064x}")
            assert again.json()["data"]["status"] == "outdated"


def test_a_canonical_document_that_cannot_be_opened_is_left_by_rolling_back(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth(OLD, "good"))
    fresh_fleet.upload(make_auth(NEW, "bad"))
    fresh_fleet.execute(
        "UPDATE auth_payloads SET body = replace(body, substr(body, length(body) - 7), 'AAAAAAAA') WHERE id = 2"
    )
    fresh_fleet.cli("auth", "rollback", "1", "--yes")
    assert without_date(fresh_fleet.canonical() or {}) == without_date(with_auths(make_auth(OLD, "good")))
    done = fresh_fleet.cli("auth", "diff", "2", check=False)
    assert done.returncode == 1
    assert "auth_payloads.body:2: cannot be opened" in done.stderr


@given(st.integers(0, 4_102_444_800_000_000))
def test_dates_that_are_written_read_back(microseconds: int) -> None:
    assert parse_rfc3339(rfc3339(Instant(microseconds))) == Instant(microseconds)


def test_the_present_as_a_date_is_accepted() -> None:
    at = datetime.now(UTC)
    assert check_document_date(rfc3339(Instant.of(at)), at) == Instant.of(at)


SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2)
KEYS = st.text("abc", max_size=1)
SHALLOW = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(KEYS, SCALARS, max_size=3)
JSON = SHALLOW | st.lists(SHALLOW, max_size=2) | st.dictionaries(KEYS, SHALLOW, max_size=3)
DOCUMENTS = st.dictionaries(KEYS, JSON, max_size=4)


@given(DOCUMENTS, DOCUMENTS)
def test_documents_differ_exactly_where_compare_says(older: dict[str, Any], newer: dict[str, Any]) -> None:
    changes = history.compare(older, newer)
    assert (changes == []) == (json.dumps(older, sort_keys=True) == json.dumps(newer, sort_keys=True))
    mirrored = {"added": "removed", "removed": "added", "changed": "changed"}
    back = [(row.key, mirrored[row.change]) for row in changes]
    assert sorted((row.key, row.change) for row in history.compare(newer, older)) == sorted(back)


@pytest.mark.sqlite_only("what is printed does not depend on the engine")
def test_on_a_terminal(three: Fleet) -> None:
    """It asks, names the document, and fits 80 columns with everything in it."""
    shown, _ = on_terminal(three, ["auth", "rollback", "previous"], b"n\n")
    assert f"Roll the whole fleet back to document 2 of {MIDDLE}?" in shown
    assert "Nothing was changed" in shown
    assert json.loads(three.cli("--json", "auth", "history").stdout)["history"][0]["id"] == 3
    for arguments in (["auth", "history"], ["auth", "diff"], ["keys", "list"], ["doctor", "--skip", "public-url"]):
        plain = terminal.plain(on_terminal(three, arguments)[0])
        assert max(len(line) for line in plain.splitlines()) <= 80
        assert "…" not in plain
