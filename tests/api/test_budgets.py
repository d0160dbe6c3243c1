"""What one key can fill: bounds on usage and prompts, audit rows of refused calls, and undoing what a host has done."""

import json
from pathlib import Path
from typing import Any

import pytest

from cdxsync.security import throttle
from tests.support.calls import from_address, logs
from tests.support.engines import Engine
from tests.support.fleet import Client, Fleet, running_fleet

BOUNDS = {
    "CDXSYNC_USAGE_ROWS_PER_DAY": "5",
    "CDXSYNC_USAGE_BYTES_PER_DAY": "1000",
    "CDXSYNC_MAX_PROMPTS": "3",
    "CDXSYNC_MAX_PROMPTS_BYTES": "2000",
    "CDXSYNC_PROMPT_BYTES_PER_DAY": "2500",
}


def report(client: Client, *lines: str, key: str | None = None) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return client.call("POST", "/usage", json={"usages": [{"line": line} for line in lines]}, headers=headers)


def prompt(client: Client, name: str, size: int, letter: str = "x") -> Any:
    return client.call("POST", "/slash-commands/store", json={"filename": name, "prompt": letter * size})


@pytest.mark.every_engine
def test_one_key_fills_no_more_than_its_bounds(engine: Engine, tmp_path: Path) -> None:
    with running_fleet(tmp_path / "home", env=engine.environment() | BOUNDS) as fleet:
        with fleet.client(fleet.key("one.example.net")) as one:
            assert report(one, "a", "b", "c", key="k").status_code == 200
            refused = report(one, "d", "e", "f")
            assert (refused.status_code, refused.json()["code"]) == (429, "daily_bound_reached")
            assert (
                "3 usage entries today, and may store 5 usage entries a day (setting usage_rows_per_day)"
                in refused.text
            )
            assert 1 <= int(refused.headers["Retry-After"]) <= 86400
            # A repetition is answered, and takes nothing; nothing of what was refused was kept.
            again = report(one, "a", "b", "c", key="k")
            assert (again.status_code, again.json()["data"]["recorded"]) == (200, 3)
            assert [row["line"] for row in again.json()["data"]["usages"]] == ["a", "b", "c"]
            assert report(one, "d", "e").status_code == 200
            refused = report(one, *"abcdef")
            assert (refused.status_code, refused.json()["code"]) == (413, "over_daily_bound")
        with fleet.client(fleet.key("two.example.net")) as two:  # another host has bounds of its own
            assert report(two, "x" * 900).status_code == 200
            refused = report(two, "x" * 900)
            assert (refused.status_code, "usage_bytes_per_day" in refused.text) == (429, True)
            assert prompt(two, "a.md", 500).status_code == 200
            assert prompt(two, "b.md", 1000).status_code == 200
            refused = prompt(two, "c.md", 600)
            assert (refused.status_code, refused.json()["code"]) == (413, "too_many_prompts")
            assert "max_prompts_bytes" in refused.json()["message"]
            assert prompt(two, "c.md", 100).status_code == 200
            refused = prompt(two, "d.md", 1)
            assert (refused.status_code, "max_prompts)" in refused.text) == (413, True)
            refused = prompt(two, "a.md", 990)
            assert (refused.status_code, "prompt_bytes_per_day" in refused.text) == (429, True)
            assert prompt(two, "a.md", 500).json()["data"]["status"] == "unchanged"  # costs nothing
        assert fleet.rows("SELECT COUNT(*) FROM token_usages") == [(6,)]
        assert sorted(name for (name,) in fleet.rows("SELECT filename FROM slash_commands")) == ["a.md", "b.md", "c.md"]
        # The next day begins at nothing.
        fleet.execute("UPDATE host_budgets SET day = '2026-01-01'")
        with fleet.client() as client:
            client.session.headers["X-API-Key"] = fleet.register("one.example.net")["host"]["api_key"]
            assert report(client, *"abcde").status_code == 200


@pytest.mark.every_engine
def test_usage_is_kept_once(fresh_fleet: Fleet) -> None:
    """Its text stands in the row and, once for all, in the totals of lines; not in answers, nor in the audit log."""
    line = "y" * 60_000
    with fresh_fleet.client(fresh_fleet.key("one.example.net")) as client:
        answer = report(client, line, key="k")
        assert answer.json()["data"]["line"] == line
        assert report(client, line, key="k").json() == answer.json()
    answers, details = fresh_fleet.rows("SELECT answer FROM idempotency_keys"), logs(fresh_fleet, "token.usage")
    assert len(answers[0][0]) < 200
    assert details[0]["line"] == "y" * 200 + "…"


@pytest.mark.every_engine
def test_what_a_host_has_done_is_undone(fresh_fleet: Fleet) -> None:
    good, bad = (fresh_fleet.key(f"{name}.example.net") for name in ("good", "bad"))
    entries = [{"total": 5, "model": "m"}, {"line": "same", "total": 3}, {"line": "own", "total": 2}]
    with fresh_fleet.client(good) as client:
        client.call("POST", "/usage", json={"usages": entries[:2]})
        prompt(client, "shared.md", 10, "g")
        prompt(client, "good.md", 10, "g")
    with fresh_fleet.client(bad) as client:
        for _ in range(3):
            client.call("POST", "/usage", json={"usages": entries})
        prompt(client, "shared.md", 10, "b")
        prompt(client, "shared.md", 11, "b")
        prompt(client, "bad.md", 10, "b")
    reference = "2" if fresh_fleet.host("bad.example.net")["id"] == 2 else "1"
    refused = fresh_fleet.cli("hosts", "purge", "bad.example.net", "--usage", check=False)
    assert (refused.returncode, "--yes" in refused.stderr) == (4, True)
    with fresh_fleet.client(certificate="admin") as client:
        assert client.call("POST", f"/admin/hosts/{reference}/purge", json={}).status_code == 422
        assert client.call("POST", f"/admin/hosts/{reference}/purge", json={"usage": False}).status_code == 422
        assert client.call("POST", "/admin/hosts/99/purge", json={"usage": True}).status_code == 404
    answer = fresh_fleet.admin_call("POST", f"/admin/hosts/{reference}/purge", json={"prompts": True})
    assert (answer["prompts_restored"], answer["prompts_deleted"], answer["usage_rows"]) == (1, 1, 0)
    done = json.loads(fresh_fleet.cli("--json", "hosts", "purge", "bad.example.net", "--usage", "--yes").stdout)
    assert (done["prompts_restored"], done["usage_rows"]) == (0, 9)
    texts = dict(fresh_fleet.rows("SELECT filename, prompt FROM slash_commands"))
    assert texts == {"shared.md": "g" * 10, "good.md": "g" * 10}
    assert fresh_fleet.rows("SELECT COUNT(*) FROM slash_command_versions") == [(0,)]
    # All totals are those of what is left.
    assert fresh_fleet.rows("SELECT SUM(total), SUM(events) FROM usage_fleet_days") == [(8, 2)]
    assert fresh_fleet.rows("SELECT SUM(total), SUM(events) FROM usage_days") == [(8, 2)]
    assert fresh_fleet.rows("SELECT line, total, events FROM usage_lines") == [("same", 3, 1)]
    assert fresh_fleet.rows("SELECT usage_total FROM hosts WHERE fqdn = 'bad.example.net'") == [(0,)]
    assert json.loads(fresh_fleet.cli("--json", "db", "check").stdout)["ok"] is True
    rows = logs(fresh_fleet, "admin.host.purge")
    assert [(row["prompts"], row["usage"], row["usage_rows"]) for row in rows] == [(True, False, 0), (False, True, 9)]


def test_a_flood_hides_no_known_caller(tmp_path: Path) -> None:
    """Rows about a stolen key come through whatever others do; what has none is counted."""
    with running_fleet(tmp_path / "home", env={"CDXSYNC_FAILURES_PER_MINUTE": "0"}) as fleet:
        stolen = fleet.key("stolen.example.net")
        assert from_address(fleet, "127.0.0.1", stolen)[0] == 200
        for number in range(throttle.AUDIT_ROWS_PER_MINUTE + 20):
            assert from_address(fleet, f"127.0.1.{number}", "wrong")[0] == 401
        for number in range(throttle.AUDIT_ROWS_OF_ONE + 5):
            assert from_address(fleet, f"127.0.2.{number}", stolen)[0] == 403
        rows = fleet.rows("SELECT actor, ip FROM logs WHERE action = 'access.refused' ORDER BY id")
        mine = [ip for actor, ip in rows if actor == "host:stolen.example.net"]
        assert mine[0] == "127.0.2.0"
        assert throttle.AUDIT_ROWS_OF_ONE <= len(mine) <= 2 * throttle.AUDIT_ROWS_OF_ONE  # the minute may end meanwhile
        assert len(rows) < 2 * (throttle.AUDIT_ROWS_PER_MINUTE + throttle.AUDIT_ROWS_OF_ONE)
        fleet.stop()
        assert sum(row["calls"] for row in logs(fleet, "access.left_out")) + len(rows) == 80 + 15
