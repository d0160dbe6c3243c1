"""What the dashboard asks for beside the rest of the admin API: sums, filters of the log, doctor, certificates."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.documents import make_auth
from tests.support.engines import Engine
from tests.support.fleet import Fleet, running_fleet

pytestmark = pytest.mark.every_engine
MONTH = datetime.now(UTC).strftime("%Y-%m")


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[Fleet]:
    """Three hosts with usage; the last was deleted since."""
    with running_fleet(tmp_path_factory.mktemp("used") / "home", env=engine.environment()) as fleet:
        fleet.upload(make_auth())
        reports = [
            [{"total": 3000, "input": 2000, "output": 1000, "model": "gpt-5.1"}],
            [{"total": 500, "input": 500, "cached": 100}, {"total": 40, "model": "unheard-of"}],
            [{"total": 7, "input": 7, "model": "gpt-5.1"}],
        ]
        for number, entries in enumerate(reports):
            with fleet.client(fleet.key(f"h{number}.example.net")) as host:
                assert host.call("POST", "/usage", json={"usages": entries}).status_code == 200
        fleet.admin_call("DELETE", "/admin/hosts/3")
        yield fleet


def test_a_month_is_summed_by_day_model_and_host(used: Fleet) -> None:
    data = used.admin_call("GET", "/admin/usage/summary")
    assert (data["month"], data["currency"], data["unpriced"]) == (MONTH, "USD", ["unheard-of"])
    assert len(data["days"]) == 1
    assert data["days"][0]["day"].startswith(MONTH)
    # 2507 input at 0.00125, 1000 output at 0.01 and 100 cached at 0.000125 for each thousand.
    cost = pytest.approx(2.507 * 0.00125 + 0.01 + 0.1 * 0.000125, abs=1e-6)
    totals = {"total": 3547, "input": 2507, "output": 1000, "cached": 100, "reasoning": 0, "events": 4}
    assert data["totals"] == totals | {"cost": cost}
    assert data["days"][0] == totals | {"cost": cost, "day": data["days"][0]["day"]}
    assert data["costs"] == {"USD": cost}
    models = {row["model"]: (row["total"], row["cost"]) for row in data["models"]}
    assert list(models) == ["gpt-5.1", None, "unheard-of"]
    assert models["gpt-5.1"][0] == 3007
    assert models["unheard-of"] == (40, None)
    hosts = [(row["host_id"], row["fqdn"], row["total"]) for row in data["hosts"]]
    assert hosts == [(1, "h0.example.net", 3000), (2, "h1.example.net", 540), (None, None, 7)]
    assert sum(row["cost"] for row in data["hosts"]) == pytest.approx(data["totals"]["cost"], abs=1e-5)


def test_a_month_of_one_host(used: Fleet) -> None:
    data = used.admin_call("GET", "/admin/usage/summary?host_id=2")
    assert data["totals"]["total"] == 540
    assert [row["fqdn"] for row in data["hosts"]] == ["h1.example.net"]
    empty = used.admin_call("GET", "/admin/usage/summary?month=2001-02")
    assert (empty["days"], empty["models"], empty["hosts"]) == ([], [], [])
    assert empty["totals"]["total"] == 0
    shown = used.cli("usage", "summary", "--by", "host")
    assert [line.split("\t")[:2] for line in shown.stdout.splitlines()] == [
        ["h0.example.net", "3000"],
        ["h1.example.net", "540"],
        ["(deleted)", "7"],
    ]
    assert "unheard-of" in shown.stderr


@pytest.mark.parametrize(
    ("query", "field"), [("month=2026-13", "month"), ("host_id=x", "host_id"), ("host_id=0", "host_id")]
)
def test_wrong_questions_name_their_field(used: Fleet, query: str, field: str) -> None:
    with used.client(certificate="admin") as client:
        answer = client.call("GET", f"/admin/usage/summary?{query}")
        assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])
        assert client.call("GET", "/admin/usage/summary?host_id=999").status_code == 404


def rows(fleet: Fleet, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = fleet.admin_call("GET", f"/admin/logs?{query}")["logs"]
    return found


def test_the_log_goes_on_after_an_id(used: Fleet) -> None:
    last = rows(used)[0]["id"]
    assert rows(used, f"after={last}") == []
    used.admin_call("POST", "/admin/hosts/1/disable")
    used.admin_call("POST", "/admin/hosts/1/enable")
    news = used.admin_call("GET", f"/admin/logs?after={last}&limit=1")
    assert [row["id"] for row in news["logs"]] == [last + 2]
    gap = used.admin_call("GET", f"/admin/logs?after={last}&before={news['next_before']}")
    assert ([row["id"] for row in gap["logs"]], gap["next_before"]) == ([last + 1], None)
    assert len(rows(used, "after=0&limit=500")) == last + 2
    with used.client(certificate="admin") as client:
        answer = client.call("GET", "/admin/logs?after=-1")
        assert (answer.status_code, list(answer.json()["errors"])) == (422, ["after"])


def test_the_log_is_filtered(used: Fleet) -> None:
    everything = rows(used, "limit=500")
    for query, belongs in (
        ("action=token.", lambda row: row["action"].startswith("token.")),
        ("action=admin.host", lambda row: row["action"].startswith("admin.host")),
        ("actor=h1.example", lambda row: "h1.example" in row["actor"]),
        ("q=H1.EXAMPLE", lambda row: "h1.example" in row["actor"] + (row["details"] or "")),
        ("q=h0&action=admin&host_id=1", lambda row: row["host_id"] == 1 and row["action"].startswith("admin")),
    ):
        found = rows(used, f"limit=500&{query}")
        if query != "q=h0&action=admin&host_id=1":
            assert found == [row for row in everything if belongs(row)]
            assert 0 < len(found) < len(everything)
        assert all(belongs(row) for row in found)
    for pattern in ("%25", "_", "%5C"):
        assert all(
            pattern.replace("%25", "%").replace("%5C", "\\") in (row["actor"] + (row["details"] or ""))
            for row in rows(used, f"q={pattern}")
        )


def test_doctor_says_the_same_in_the_server(used: Fleet) -> None:
    data = used.admin_call("GET", "/admin/doctor")
    printed = json.loads(used.cli("--json", "doctor", "--skip", "public-url", "--skip", "token-endpoint").stdout)
    assert [(check["check"], check["level"]) for check in data["checks"]] == [
        (check["check"], check["level"]) for check in printed["checks"] if check["check"] != "database"
    ]
    assert data["level"] == printed["level"] != "fail"
    # Nothing of the server's own was closed or locked by it.
    used.admin_call("POST", "/admin/hosts/1/roaming", json={"allow": True})
    (used.home / "keyring.json").chmod(0o644)
    try:
        found = used.admin_call("GET", "/admin/doctor")
    finally:
        (used.home / "keyring.json").chmod(0o600)
    assert found["level"] == "fail"
    assert [check["mend"] for check in found["checks"] if check["level"] == "fail"] == [
        f"chmod 600 {used.home / 'keyring.json'}"
    ]


def test_certificates_and_their_ends(used: Fleet) -> None:
    issued = json.loads(used.cli("--json", "pki", "issue", "bob", "--days", "3").stdout)
    used.cli("pki", "revoke", "bob", "--yes")
    listed = used.admin_call("GET", "/admin/certificates")["certificates"]
    assert (listed[0]["kind"], listed[0]["name"]) == ("ca", "cdxsync CA")
    mine = next(row for row in listed if row["name"] == "bob")
    assert (mine["serial"], mine["not_after"], mine["subject"]) == (issued["serial"], issued["not_after"], "CN=bob")
    assert mine["status"] == "revoked"
    assert datetime.fromisoformat(mine["revoked_at"]).tzinfo is not None
    assert "PRIVATE" not in json.dumps(listed)


def bound_elsewhere(fleet: Fleet, host_id: int, address: str = "192.0.2.7") -> None:
    fleet.execute("UPDATE hosts SET ip = ? WHERE id = ?", address, host_id)


def test_a_host_that_is_refused_for_its_address_is_blocked(fresh_fleet: Fleet) -> None:
    fleet = fresh_fleet
    key = fleet.key("moved.example.net")

    def state() -> tuple[int, bool]:
        totals = fleet.admin_call("GET", "/admin/overview")["totals"]
        assert totals["hosts"] == sum(totals[name] for name in totals if name != "hosts") == 1
        return totals["blocked"], fleet.admin_call("GET", "/admin/hosts/1")["host"]["blocked_at"] is not None

    for lift in ("unbind", "roaming", "rotate"):
        with fleet.client(key) as host:
            assert host.call("GET", "/wrapper").status_code == 200
            assert state() == (0, False)
            bound_elsewhere(fleet, 1)
            assert host.call("GET", "/wrapper").status_code == 403
            assert state() == (1, True)
        if lift == "rotate":
            key = fleet.key("moved.example.net")
        else:
            fleet.admin_call("POST", f"/admin/hosts/1/{lift}", json={"allow": True})
        assert state() == (0, False)
        fleet.admin_call("POST", "/admin/hosts/1/roaming", json={"allow": False})
        fleet.admin_call("POST", "/admin/hosts/1/unbind")
    bound_elsewhere(fleet, 1)
    fleet.admin_call("POST", "/admin/hosts/1/disable")
    with fleet.client(key) as host:
        assert host.call("GET", "/wrapper").status_code == 403
    assert state() == (0, False)


def store(fleet: Fleet, text: str, status: str, name: str = "plan.md") -> None:
    body = {"filename": name, "prompt": text}
    assert fleet.admin_call("POST", "/admin/slash-commands/store", json=body)["status"] == status


def test_what_prompts_said_before_is_kept(used: Fleet) -> None:
    store(used, "one", "created")
    store(used, "one", "unchanged")
    assert used.admin_call("GET", "/admin/slash-commands/plan.md/history") == {"history": []}
    with used.client(used.key("author.example.net")) as host:
        body = {"filename": "Plan.md", "prompt": "two"}
        assert host.call("POST", "/slash-commands/store", json=body).json()["data"]["status"] == "updated"
    used.admin_call("DELETE", "/admin/slash-commands/plan.md")
    history = used.admin_call("GET", "/admin/slash-commands/PLAN.md/history")["history"]
    assert [row["source"].partition("#")[0] for row in history] == ["host:author.example.net", "cert:CN=admin"]
    texts = [used.admin_call("GET", f"/admin/slash-commands/plan.md/history/{row['id']}")["prompt"] for row in history]
    assert texts == ["two", "one"]
    assert used.cli("prompts", "history", "plan.md", "--id", str(history[1]["id"])).stdout == "one"
    assert used.cli("prompts", "history", "plan.md").stdout.count("\n") == 2
    store(used, "three", "created")
    assert len(used.admin_call("GET", "/admin/slash-commands/plan.md/history")["history"]) == 2
    store(used, "else", "created", "other.md")
    with used.client(certificate="admin") as client:
        for path in ("never.md/history", f"other.md/history/{history[0]['id']}", "plan.md/history/999999"):
            assert client.call("GET", f"/admin/slash-commands/{path}").status_code == 404
    for number in range(60):
        store(used, f"text {number}", "updated", "other.md")
    kept = used.admin_call("GET", "/admin/slash-commands/other.md/history")["history"]
    assert len(kept) == 50
    assert used.admin_call("GET", f"/admin/slash-commands/other.md/history/{kept[0]['id']}")["prompt"] == "text 58"
