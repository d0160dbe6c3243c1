"""The admin API: shapes, filters, cursors, errors, and who stands in the audit log."""

import getpass
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import make_auth, plain_digest, with_auths
from tests.support.engines import Engine
from tests.support.fleet import Client, Fleet, running_fleet

pytestmark = pytest.mark.every_engine

names = (f"admin{number}.example.net" for number in count())
DATE = "2026-01-01T00:00:00.123456789Z"


@pytest.fixture(scope="module")
def client(fleet: Fleet) -> Iterator[Client]:
    with fleet.client(certificate="admin") as opened:
        yield opened


def get(client: Client, path: str, **params: object) -> Any:
    response = client.call("GET", path, params=params)
    assert response.status_code == 200, response.text
    return response.json()["data"]


def post(client: Client, path: str, **body: object) -> Any:
    response = client.call("POST", path, json=body)
    assert response.status_code == 200, response.text
    return response.json()["data"]


def latest(client: Client, action: str) -> dict[str, Any]:
    row: dict[str, Any] = next(row for row in get(client, "/admin/logs", limit=500)["logs"] if row["action"] == action)
    return row


def test_the_list_has_each_host_with_its_latest_usage(fleet: Fleet, client: Client) -> None:
    name = next(names)
    key = fleet.key(name)
    item = next(row for row in get(client, "/admin/hosts")["hosts"] if row["fqdn"] == name)
    assert item["token_usage"] is None
    assert item["authed"] is False
    assert item["canonical_digest"] is None
    with fleet.client(key) as host:
        host.call("POST", "/usage", json={"usages": [{"total": 5, "model": "gpt-5.1"}, {"total": 7, "line": "x"}]})
    listed = get(client, "/admin/hosts")["hosts"]
    assert [row["fqdn"] for row in listed] == sorted(row["fqdn"] for row in listed)
    item = next(row for row in listed if row["fqdn"] == name)
    used = item["token_usage"]
    assert (used["total"], used["line"], used["model"], used["input"]) == (7, "x", None, None)
    assert set(used) == {"total", "input", "output", "cached", "reasoning", "model", "line", "outside", "created_at"}
    assert get(client, f"/admin/hosts/{item['id']}") == {"host": item, "offer": None}
    assert "api_key" not in json.dumps(listed)


def test_the_credentials_of_a_host(fresh_fleet: Fleet) -> None:
    key = fresh_fleet.key("a.example.net")
    with fresh_fleet.client(certificate="admin") as client, fresh_fleet.client(key) as host:
        empty = get(client, "/admin/hosts/1/auth", include_body="1")
        assert empty["canonical_digest"] is None
        assert empty["auth"] is None
        assert empty["in_sync"] is False
        document = make_auth(DATE)
        fresh_fleet.upload(document)
        stored = with_auths(document)
        host.auth(last_refresh=DATE, digest=plain_digest(stored))
        data = get(client, "/admin/hosts/1/auth")
        assert data["canonical_digest"] == plain_digest(stored)
        assert data["canonical_last_refresh"] == DATE
        assert data["recent_digests"] == [plain_digest(stored)]
        assert data["in_sync"] is True
        assert data["api_calls"] == 1
        assert "auth" not in data
        assert data["host"] | {"updated_at": ""} == {
            "id": 1,
            "fqdn": "a.example.net",
            "status": "active",
            "ip": "127.0.0.1",
            "allow_roaming_ips": False,
            "allow_store_auth": True,
            "allow_store_prompts": True,
            "allow_keep_auth": True,
            "other_account": "ask",
            "last_refresh": DATE,
            "auth_digest": plain_digest(stored),
            "updated_at": "",
            "client_version": "unknown",
            "wrapper_version": "unknown",
        }
        assert get(client, "/admin/hosts/1/auth", include_body="no").keys() == data.keys()
        assert get(client, "/admin/hosts/1/auth", include_body="Yes")["auth"] == stored
        seen = latest(client, "admin.auth.show")
        assert seen["host_id"] == 1
        assert document["tokens"]["access_token"] not in json.dumps(get(client, "/admin/logs"))


def test_clearing_a_host_says_what_was_removed(fresh_fleet: Fleet) -> None:
    document = make_auth(DATE)
    fresh_fleet.upload(document)
    key = fresh_fleet.key("a.example.net")
    digest = plain_digest(with_auths(document))
    with fresh_fleet.client(certificate="admin") as client, fresh_fleet.client(key) as host:
        for _ in range(2):
            host.auth(last_refresh=DATE, digest=digest)
            cleared = post(client, "/admin/hosts/1/clear")
            assert cleared["cleared"] == {"last_refresh": DATE, "auth_digest": digest, "digests": 1, "states": 1}
            assert (cleared["host"]["id"], cleared["host"]["status"]) == (1, "active")
        item = get(client, "/admin/hosts/1")["host"]
        assert (item["last_refresh"], item["canonical_digest"], item["recent_digests"]) == (None, None, [])
        assert item["ip"] == "127.0.0.1"
        nothing = {"last_refresh": None, "auth_digest": None, "digests": 0, "states": 0}
        assert post(client, "/admin/hosts/1/clear")["cleared"] == nothing
        # The fleet's document and the host's key are untouched.
        assert host.auth(last_refresh=DATE, digest=digest).json()["data"]["status"] == "valid"
    done = fresh_fleet.cli("hosts", "clear", "a.example.net", "--yes")
    assert f"known to hold the document of {DATE}" in done.stderr
    assert "removed 1 recent digests and 1 sync states" in done.stderr
    assert "known to hold no document" in fresh_fleet.cli("hosts", "clear", "1", "--yes").stderr


def test_changes_of_a_host(fleet: Fleet, client: Client) -> None:
    name = next(names)
    key = fleet.key(name)
    host_id = fleet.host(name)["id"]
    path = f"/admin/hosts/{host_id}"
    brief = {"id": host_id, "fqdn": name, "status": "active", "ip": None, "allow_roaming_ips": False}
    brief |= {"allow_store_auth": True, "allow_store_prompts": True, "allow_keep_auth": True, "other_account": "ask"}
    for allow, now in (("on", True), (0, False), (True, True), ("No", False)):
        assert post(client, f"{path}/roaming", allow=allow) == {"host": brief | {"allow_roaming_ips": now}}
    for body in ({}, {"allow": "perhaps"}, {"allow": None}, {"allow": 2}, {"allow": [True]}):
        response = client.call("POST", f"{path}/roaming", json=body)
        assert response.status_code == 422
        assert response.json()["errors"] == {"allow": ["must be true or false"]}
    assert post(client, f"{path}/disable")["host"]["status"] == "disabled"
    with fleet.client(key) as host:
        assert host.call("GET", "/wrapper").status_code == 403
        assert post(client, f"{path}/enable")["host"]["status"] == "active"
        assert host.call("GET", "/wrapper").status_code == 200
    assert fleet.host(name)["ip"] == "127.0.0.1"
    assert post(client, f"{path}/unbind")["host"]["ip"] is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/auth"),
        ("POST", "/roaming"),
        ("POST", "/clear"),
        ("POST", "/unbind"),
        ("POST", "/disable"),
        ("POST", "/enable"),
    ],
)
def test_unknown_hosts_and_wrong_methods(client: Client, method: str, path: str) -> None:
    for number in ("999999", "9" * 30, "-1", "0"):
        response = client.call(method, f"/admin/hosts/{number}{path}", json={"allow": True})
        assert response.status_code == 404
        assert number in response.json()["message"]
    assert client.call(method, f"/admin/hosts/abc{path}").status_code == 404
    response = client.call("PATCH", f"/admin/hosts/1{path}")
    assert response.status_code == 405
    assert method in response.headers["Allow"].replace(" ", "").split(",")
    assert response.json()["status"] == "error"
    assert response.json()["request_id"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/admin/overview", "GET"),
        ("/admin/api/state", "GET,POST"),
        ("/admin/logs", "GET"),
        ("/admin/usage", "GET"),
        ("/admin/tokens", "GET"),
        ("/admin/auth/upload", "POST"),
        ("/admin/hosts/register", "POST"),
        ("/admin/slash-commands", "GET"),
    ],
)
def test_allow_names_what_there_is(client: Client, path: str, allowed: str) -> None:
    response = client.call("PUT", path)
    assert response.status_code == 405
    assert set(allowed.split(",")) <= set(response.headers["Allow"].replace(" ", "").split(","))
    if "GET" in allowed:
        assert client.call("HEAD", path).status_code == 200


def test_logs_page_by_page(fleet: Fleet, client: Client) -> None:
    name = next(names)
    fleet.key(name)
    host_id = fleet.host(name)["id"]
    for turn in range(7):
        post(client, f"/admin/hosts/{host_id}/roaming", allow=turn % 2)
    everything = get(client, "/admin/logs", host_id=host_id)
    assert everything["next_before"] is None
    ids = [row["id"] for row in everything["logs"]]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 9
    assert {(row["fqdn"], row["host_id"]) for row in everything["logs"]} == {(name, host_id)}
    assert json.loads(everything["logs"][0]["details"]) == {"fqdn": name, "allow_roaming_ips": False}
    paged, before = [], None
    while True:
        cursor: dict[str, Any] = {} if before is None else {"before": before}
        page = get(client, "/admin/logs", host_id=host_id, limit=4, **cursor)
        paged += page["logs"]
        before = page["next_before"]
        if before is None:
            break
    assert paged == everything["logs"]
    assert len(get(client, "/admin/logs", limit="x")["logs"]) == min(50, len(get(client, "/admin/logs")["logs"]))


def test_usage_page_by_page(fleet: Fleet, client: Client) -> None:
    mine, other = next(names), next(names)
    with fleet.client(fleet.key(mine)) as host, fleet.client(fleet.key(other)) as second:
        host.call("POST", "/usage", json={"usages": [{"total": number} for number in range(5)]})
        second.call("POST", "/usage", json={"total": 99})
    host_id = fleet.host(mine)["id"]
    first = get(client, "/admin/usage", host_id=host_id, limit=3)
    rest = get(client, "/admin/usage", host_id=host_id, limit=3, before=first["next_before"])
    assert [row["total"] for row in first["usages"] + rest["usages"]] == [4, 3, 2, 1, 0]
    assert rest["next_before"] is None
    assert {(row["fqdn"], row["host_id"]) for row in first["usages"]} == {(mine, host_id)}
    assert get(client, "/admin/usage", limit=1)["usages"][0]["total"] == 99


@pytest.mark.parametrize("path", ["/admin/logs", "/admin/usage"])
def test_filters_that_are_none(client: Client, path: str) -> None:
    for params, field in (({"before": "x"}, "before"), ({"before": "0"}, "before"), ({"host_id": "web1"}, "host_id")):
        response = client.call("GET", path, params=params)
        assert response.status_code == 422
        assert set(response.json()["errors"]) == {field}
    assert client.call("GET", path, params={"host_id": 999999}).status_code == 404


@pytest.mark.parametrize(("limit", "rows"), [("2", 2), ("0", 50), ("-3", 50), ("02", 50), ("1000", 60), ("", 50)])
def test_limits(fresh_limits: Client, limit: str, rows: int) -> None:
    assert len(get(fresh_limits, "/admin/tokens", limit=limit)["tokens"]) == rows


@pytest.fixture(scope="module")
def fresh_limits(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[Client]:
    with running_fleet(tmp_path_factory.mktemp("limits") / "home", env=engine.environment()) as fleet:
        with fleet.client(fleet.key("a.example.net")) as host:
            host.call("POST", "/usage", json={"usages": [{"total": n, "line": f"run {n}"} for n in range(60)]})
        with fleet.client(certificate="admin") as opened:
            yield opened


def test_totals_by_line(fresh_fleet: Fleet) -> None:
    entries: list[dict[str, Any]] = [
        {"line": "Token usage: total=1,000 input=900 (+ 50 cached) output=50 (reasoning 20)"},
        {"line": "short", "total": 7, "output": 2},
        {"line": "short", "total": 8},
        {"total": 5000},
    ]
    with fresh_fleet.client(fresh_fleet.key("a.example.net")) as host:
        host.call("POST", "/usage", json={"usages": entries[:2]})
        host.call("POST", "/usage", json={"usages": entries[2:]})
    with fresh_fleet.client(certificate="admin") as client:
        assert get(client, "/admin/tokens")["tokens"] == [
            {
                "line": entries[0]["line"],
                **{"total": 1000, "input": 900, "output": 50, "cached": 50, "reasoning": 20, "events": 1},
            },
            {"line": "short", **{"total": 15, "input": 0, "output": 2, "cached": 0, "reasoning": 0, "events": 2}},
        ]
        overview = get(client, "/admin/overview")
        assert overview["tokens"]["total"] == 6015
        assert overview["tokens"]["top_host"] == {"host_id": 1, "fqdn": "a.example.net", "total": 6015}
        assert overview["tokens_month"] == {name: overview["tokens"][name] for name in overview["tokens_month"]}
        assert overview["tokens_month"]["events"] == 4
        fresh_fleet.cli("hosts", "delete", "1", "--yes")
        overview = get(client, "/admin/overview")
        assert overview["tokens"]["total"] == 6015
        assert overview["tokens"]["top_host"] is None


def test_the_overview(fresh_fleet: Fleet) -> None:
    with fresh_fleet.client(certificate="admin") as client:
        empty = get(client, "/admin/overview")
        assert empty["totals"] == {"hosts": 0, "disabled": 0, "blocked": 0, "never_seen": 0, "in_sync": 0, "behind": 0}
        assert empty["canonical"] is None
        assert empty["last_refresh"] is None
        assert empty["avg_refresh_age_days"] is None
        document = make_auth(DATE)
        fresh_fleet.upload(document)
        keys = [fresh_fleet.key(f"h{number}.example.net") for number in range(4)]
        digest = plain_digest(with_auths(document))
        for key, held in ((keys[0], digest), (keys[1], digest), (keys[2], "0" * 64)):
            with fresh_fleet.client(key) as host:
                host.auth(last_refresh=DATE, digest=held)
        with fresh_fleet.client(keys[2]) as host:
            host.auth(last_refresh="2000-01-01T00:00:00Z", digest="0" * 64)
        post(client, "/admin/hosts/2/disable")
        shown = get(client, "/admin/overview")
        assert shown["totals"] == {"hosts": 4, "disabled": 1, "blocked": 0, "never_seen": 1, "in_sync": 1, "behind": 1}
        assert shown["canonical"]["digest"] == digest
        assert shown["canonical"]["source"] == "admin"
        assert shown["last_refresh"] == DATE
        assert 300 < shown["avg_refresh_age_days"] < 3000  # who claims no document has none that could be old
        assert shown["latest_log_at"] == get(client, "/admin/logs", limit=1)["logs"][0]["created_at"]
        assert shown["versions"]["wrapper_url"] == "/wrapper/download"
        assert shown["api_disabled"] is False
        assert shown["mtls"]["subject"] == "CN=admin"
        assert shown["mtls"]["issuer"] == "CN=cdxsync CA"
        assert len(shown["mtls"]["fingerprint"]) == 64


def test_the_flag_is_kept_and_enforced_nowhere(fleet: Fleet, client: Client) -> None:
    assert get(client, "/admin/api/state") == {"disabled": False}
    assert post(client, "/admin/api/state", disabled="yes") == {"disabled": True}
    assert json.loads(fleet.cli("--json", "state", "show").stdout) == {"disabled": True}
    assert get(client, "/admin/overview")["api_disabled"] is True
    with fleet.client(fleet.key(next(names))) as host:
        assert host.auth(last_refresh=DATE, digest="0" * 64).status_code == 200
    assert json.loads(latest(client, "admin.api.state")["details"]) == {"disabled": True}
    for body in ({}, {"disabled": "maybe"}, {"disabled": 3}):
        assert client.call("POST", "/admin/api/state", json=body).status_code == 422
    assert post(client, "/admin/api/state", disabled=0) == {"disabled": False}
    fleet.cli("state", "disable")
    assert "marked as disabled" in fleet.cli("state", "show").stdout
    fleet.cli("state", "enable")
    assert get(client, "/admin/api/state") == {"disabled": False}


def test_prompts_of_admins(fleet: Fleet, client: Client) -> None:
    stored = post(
        client, "/admin/slash-commands/store", filename="Review.md", prompt="---\ndescription: d\n---\nText\n"
    )
    assert stored["status"] == "created"
    listed = get(client, "/admin/slash-commands")["commands"]
    assert [(row["filename"], row["description"]) for row in listed] == [("Review.md", "d")]
    assert "prompt" not in listed[0]
    shown = get(client, "/admin/slash-commands/review.md")
    assert shown["prompt"] == "---\ndescription: d\n---\nText\n"
    assert client.call("GET", "/admin/slash-commands/none.md").status_code == 404
    assert client.call("POST", "/admin/slash-commands/store", json={"filename": "a/b"}).status_code == 422
    assert client.call("DELETE", "/admin/slash-commands/review.md").json()["data"] == {"deleted": "Review.md"}
    assert client.call("DELETE", "/admin/slash-commands/review.md").status_code == 404
    assert get(client, "/admin/slash-commands") == {"commands": []}


@pytest.mark.sqlite_only("who acts is told apart before anything is stored")
def test_every_change_names_who_made_it(fresh_fleet: Fleet) -> None:
    """By its certificate over HTTP, by the user of the operating system on the command line."""
    serial = next(
        row["serial"]
        for row in json.loads(fresh_fleet.cli("--json", "pki", "list").stdout)["certificates"]
        if row["name"] == "admin"
    )
    with fresh_fleet.client(certificate="admin") as client:
        host_id = post(client, "/admin/hosts/register", fqdn="a.example.net")["host"]["id"]
        for action in ("clear", "unbind", "disable", "enable"):
            post(client, f"/admin/hosts/{host_id}/{action}")
        post(client, f"/admin/hosts/{host_id}/roaming", allow=True)
        post(client, "/admin/api/state", disabled=False)
        post(client, "/admin/auth/upload", auth=make_auth())
        post(client, "/admin/slash-commands/store", filename="a.md", prompt="x")
        client.call("DELETE", "/admin/slash-commands/a.md")
        client.call("DELETE", f"/admin/hosts/{host_id}")
        over_http = get(client, "/admin/logs", limit=500)["logs"]
    changes = [row for row in over_http if not row["action"].startswith("slash.list")]
    assert {row["actor"] for row in changes} == {f"cert:CN=admin#{serial.lower()}"}
    assert len(changes) == 12
    fresh_fleet.cli("hosts", "register", "b.example.net")
    for arguments in (["clear", "--yes"], ["unbind"], ["disable"], ["enable"], ["roaming", "on"], ["delete", "--yes"]):
        fresh_fleet.cli("hosts", arguments[0], "b.example.net", *arguments[1:])
    fresh_fleet.cli("state", "disable")
    rows = fresh_fleet.rows("SELECT actor FROM logs WHERE id > ?", over_http[0]["id"])
    assert {row[0] for row in rows} == {f"os-user:{getpass.getuser()}"}
    assert len(rows) == 9


def test_a_trusted_proxy_names_the_admin(tmp_path: Path) -> None:
    import requests

    args = ("--plain-http", "--trusted-proxy", "127.0.0.1/32")
    with running_fleet(tmp_path / "home", serve_args=args) as fleet:
        headers = {"X-mTLS-Present": "1", "X-mTLS-Subject": "CN=alice\x9b31m", "X-mTLS-Serial": "1f"}
        headers |= {"X-mTLS-Fingerprint": "ab" * 32}
        data = requests.get(f"{fleet.url}/admin/overview", headers=headers, timeout=30).json()["data"]
        fingerprint = "ab" * 32
        assert data["mtls"] == {"subject": "CN=alice31m", "issuer": None, "serial": "1f", "fingerprint": fingerprint}
        requests.post(f"{fleet.url}/admin/api/state", json={"disabled": True}, headers=headers, timeout=30)
        shown = json.loads(fleet.cli("--json", "logs", "--limit", "1").stdout)["logs"][0]
    assert shown["actor"] == "proxy:CN=alice31m#1f"
