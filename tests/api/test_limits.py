"""Throttling, the audit of refused calls, what admins change on hosts, and what is forgotten with time."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.security import addresses, throttle
from tests.support.calls import from_address
from tests.support.documents import make_auth
from tests.support.fleet import BASE_ENVIRONMENT, Fleet, run_cli, running_fleet
from tests.support.together import at_once

pytestmark = pytest.mark.every_engine


def refusals(fleet: Fleet) -> list[dict[str, Any]]:
    return [json.loads(row[0]) for row in fleet.rows("SELECT details FROM logs WHERE action = 'access.refused'")]


@pytest.mark.sqlite_only("throttles lie in a file of the home on every engine")
def test_guessing_keys_is_slowed_down_over_all_servers_of_a_home(tmp_path: Path) -> None:
    with running_fleet(tmp_path / "home", env={"CDXSYNC_FAILURES_PER_MINUTE": "5"}) as fleet:
        other = Fleet(fleet.home, env={"CDXSYNC_FAILURES_PER_MINUTE": "5"})
        other.start()
        try:
            key = fleet.key("good.example.net")
            statuses = []
            for turn in range(12):
                with (fleet, other)[turn % 2].client(f"cdx_{turn:064}") as client:
                    response = client.call("GET", "/wrapper")
                    statuses.append(response.status_code)
                    if response.status_code == 429:
                        assert 1 <= int(response.headers["Retry-After"]) <= 60
                        assert response.json()["status"] == "error"
            assert statuses == [401] * 5 + [429] * 7
            # Hosts behind the same address go on.
            with fleet.client(key) as client:
                assert client.call("GET", "/wrapper").status_code == 200
            # Guessing installers counts too, and so does guessing the admin key.
            with other.client() as client:
                response = client.call("GET", "/install/00000000-0000-4000-8000-000000000000")
            assert response.status_code == 429
            assert response.text.startswith("#!/bin/sh")
            assert "Retry-After" in response.headers
        finally:
            other.stop()
        assert "00000000-0000-4000-8000-000000000000" not in json.dumps(refusals(fleet))
        about_keys = [row for row in refusals(fleet) if row["reason"] == "Invalid API key"]
        assert about_keys == [{"reason": "Invalid API key", "ip": "127.0.0.1", "path": "/wrapper"}]


@pytest.mark.sqlite_only("throttles lie in a file of the home on every engine")
def test_a_busy_host_is_slowed_down_alone(tmp_path: Path) -> None:
    with running_fleet(tmp_path / "home", env={"CDXSYNC_CALLS_PER_MINUTE": "3"}) as fleet:
        with fleet.client(fleet.key("busy.example.net")) as client:
            statuses = [client.call("GET", "/slash-commands").status_code for _ in range(5)]
            assert statuses == [200, 200, 200, 429, 429]
            assert int(client.call("GET", "/wrapper").headers["Retry-After"]) >= 1
        with fleet.client(fleet.key("calm.example.net")) as client:
            assert client.call("GET", "/wrapper").status_code == 200


@pytest.mark.sqlite_only("throttles lie in a file of the home on every engine")
def test_a_stolen_key_does_not_shut_its_host_out(tmp_path: Path) -> None:
    with running_fleet(tmp_path / "home", env={"CDXSYNC_CALLS_PER_MINUTE": "5"}) as fleet:
        key = fleet.key("right.example.net")
        assert from_address(fleet, "127.0.0.2", key)[0] == 200
        assert [from_address(fleet, "127.0.0.3", key)[0] for _ in range(8)] == [403] * 5 + [429] * 3
        assert [from_address(fleet, "127.0.0.2", key)[0] for _ in range(4)] == [200] * 4
        assert from_address(fleet, "127.0.0.2", key)[0] == 429


def test_limits_can_be_off(tmp_path: Path) -> None:
    env = {"CDXSYNC_FAILURES_PER_MINUTE": "0", "CDXSYNC_CALLS_PER_MINUTE": "0"}
    with running_fleet(tmp_path / "home", env=env) as fleet, fleet.client("cdx_no") as client:
        assert [client.call("GET", "/wrapper").status_code for _ in range(30)] == [401] * 30


def test_admin_keys_that_are_guessed_count_and_missing_ones_do_not(tmp_path: Path) -> None:
    """A browser's first calls have none: who loads the dashboard some times a minute is still asked for the key."""
    env = {"CDXSYNC_FAILURES_PER_MINUTE": "3", "DASHBOARD_ADMIN_KEY": "open sesame, wide"}
    with running_fleet(tmp_path / "home", env=env) as fleet, fleet.client(certificate="admin") as client:
        assert [client.call("GET", "/admin/hosts").status_code for _ in range(6)] == [401] * 6
        wrong = {"X-Admin-Key": "wrong"}
        statuses = [client.call("GET", "/admin/hosts", headers=wrong).status_code for _ in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        right = {"X-Admin-Key": "open sesame, wide"}
        answer = client.call("GET", "/admin/hosts", headers=right)
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_failures"), "it could be guessed"
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        # Other admins go on behind the same address, and so do hosts.
        fleet.cli("pki", "issue", "colleague")
        with fleet.client(certificate="colleague") as other:
            assert other.call("GET", "/admin/hosts", headers=right).status_code == 200
        with fleet.client("cdx_" + "0" * 64) as host:
            assert host.call("GET", "/wrapper").status_code == 401


def test_a_weak_admin_key_is_refused_at_the_start(tmp_path: Path) -> None:
    done = run_cli(
        "--home", str(tmp_path), "serve", check=False, env=BASE_ENVIRONMENT | {"DASHBOARD_ADMIN_KEY": "short"}
    )
    assert done.returncode == 2
    assert "DASHBOARD_ADMIN_KEY" in done.stderr
    assert "must have at least 16 bytes" in done.stderr
    assert "short" not in done.stderr.replace("shorter", "")


def test_refusals_are_audited_with_their_host(fresh_fleet: Fleet) -> None:
    data = fresh_fleet.register("seen.example.net")
    sql = "UPDATE hosts SET ip = '192.0.2.1' WHERE fqdn = 'seen.example.net'"
    fresh_fleet.execute(sql)
    with fresh_fleet.client(data["host"]["api_key"]) as client:
        for _ in range(3):
            assert client.call("GET", "/wrapper").status_code == 403
        fresh_fleet.cli("hosts", "disable", "seen.example.net")
        assert client.call("GET", "/wrapper").json()["message"] == "Host is disabled"
    with fresh_fleet.client() as client:
        client.call("GET", "/admin/hosts")
    logged = fresh_fleet.rows("SELECT host_id, actor FROM logs WHERE action = 'access.refused' ORDER BY id")
    host_id = data["host"]["id"]
    assert logged == [(host_id, "host:seen.example.net"), (host_id, "host:seen.example.net"), (None, "anyone")]
    assert [row["path"] for row in refusals(fresh_fleet)] == ["/wrapper", "/wrapper", "/admin/hosts"]


def test_the_audit_log_cannot_be_flooded(tmp_path: Path) -> None:
    limits = throttle.Throttle(tmp_path / "t.db", failures_per_minute=5, calls_per_minute=5)
    allowed = sum(limits.may_audit("x", f"source {number}") for number in range(500))
    assert allowed == throttle.AUDIT_ROWS_PER_MINUTE
    assert (tmp_path / "t.db").stat().st_mode & 0o777 == 0o600


def test_counting_is_exact_over_threads(tmp_path: Path) -> None:
    limits = throttle.Throttle(tmp_path / "t.db", failures_per_minute=50, calls_per_minute=0)
    passed: list[bool] = []

    def fail() -> None:
        for _ in range(25):
            passed.append(limits.failed(addresses.parse("192.0.2.1")) is None)

    at_once([fail] * 6)
    assert sum(passed) == 50


def test_a_broken_counter_file_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_bytes(b"no database" * 200)
    limits = throttle.Throttle(tmp_path / "t.db", failures_per_minute=1, calls_per_minute=1)
    assert limits.called(1) is None
    assert limits.called(1) is None


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_an_ipv6_client_is_one_source_however_it_numbers_itself(address: Any, suffix: int) -> None:
    neighbour = type(address)((int(address) >> 64 << 64) | suffix)
    assert throttle.source_of(address) == throttle.source_of(neighbour)


def test_admins_change_hosts(fresh_fleet: Fleet) -> None:
    name = "changed.example.net"
    key = fresh_fleet.key(name)

    def shown(*arguments: str) -> dict[str, Any]:
        host: dict[str, Any] = json.loads(fresh_fleet.cli("--json", "hosts", *arguments).stdout)["host"]
        return host

    with fresh_fleet.client(key) as client:
        assert client.call("GET", "/wrapper").status_code == 200
        assert shown("disable", name)["status"] == "disabled"
        assert client.call("GET", "/wrapper").status_code == 403
        assert shown("enable", name)["status"] == "active"
        assert client.call("GET", "/wrapper").status_code == 200
        assert shown("roaming", name, "on")["allow_roaming_ips"] is True
        assert shown("roaming", name, "off")["allow_roaming_ips"] is False
        assert shown("unbind", name)["ip"] is None
    assert f"{name} is disabled" in fresh_fleet.cli("hosts", "disable", name).stderr
    assert fresh_fleet.cli("hosts", "roaming", name, "maybe", check=False).returncode == 2
    for command in (["disable"], ["enable"], ["unbind"]):
        assert fresh_fleet.cli("hosts", *command, "nobody", check=False).returncode == 3
    actions = [row[0] for row in fresh_fleet.rows("SELECT action FROM logs WHERE actor LIKE 'os-user:%' ORDER BY id")]
    assert actions == [
        "admin.host.disable",
        "admin.host.enable",
        "admin.host.roaming",
        "admin.host.roaming",
        "admin.host.unbind",
        "admin.host.disable",
    ]


def test_versions_are_open_to_anyone(fleet: Fleet) -> None:
    with fleet.client() as client:
        data = client.call("GET", "/versions").json()["data"]
    assert set(data) == {
        "client_version",
        "client_version_checked_at",
        "client_version_source",
        "wrapper_version",
        "wrapper_sha256",
        "wrapper_url",
        "reported_client_version",
    }
    assert json.loads(fleet.cli("--json", "versions", "show").stdout) == data


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")


@pytest.mark.parametrize("keep", ["30", "0"])
def test_what_has_had_its_time_is_pruned_and_roll_ups_stay(fresh_fleet: Fleet, keep: str) -> None:
    key = fresh_fleet.key("old.example.net")
    with fresh_fleet.client(key) as client:
        for minute in range(4):
            client.auth(command="store", auth=make_auth(f"2026-01-01T00:0{minute}:00Z", str(minute)))
        client.call("POST", "/usage", json={"usages": [{"total": 5}] * 3}, headers={"Idempotency-Key": "k"})
    fresh_fleet.register("unused.example.net")
    fresh_fleet.stop()
    with fresh_fleet.database() as execute:
        host_id = execute("SELECT id FROM hosts ORDER BY id").fetchone()[0]
        execute("UPDATE logs SET created_at = ?", days_ago(31))
        execute("UPDATE token_usages SET created_at = ? WHERE id < 3", days_ago(31))
        execute("UPDATE idempotency_keys SET created_at = ?", days_ago(7.01))
        execute("UPDATE install_tokens SET expires_at = ?", days_ago(7.1))
        # One that has only just expired keeps its row, to say so, but not its key.
        execute("UPDATE install_tokens SET expires_at = ? WHERE fqdn LIKE 'unused%'", days_ago(0.1))
        values = [host_id, "token.usage", "x", days_ago(31)]
        marks = ", ".join(["(?, ?, ?, ?)"] * 1000)
        for _ in range(5):
            execute(f"INSERT INTO logs (host_id, action, actor, created_at) VALUES {marks}", *values * 1000)
    fresh_fleet.env |= {"CDXSYNC_KEEP_LOG_DAYS": keep, "CDXSYNC_KEEP_USAGE_DAYS": keep, "CDXSYNC_PAYLOAD_HISTORY": "2"}
    fresh_fleet.start()
    fresh_fleet.cli("jobs", "run", "retention")
    assert fresh_fleet.rows("SELECT count(*) FROM auth_payloads") == [(2,)]

    def left(table: str) -> int:
        return int(fresh_fleet.rows(f"SELECT count(*) FROM {table}")[0][0])

    assert left("idempotency_keys") == 0
    assert fresh_fleet.rows("SELECT fqdn, api_key FROM install_tokens") == [("unused.example.net", None)]
    assert left("token_usages") == (1 if keep == "30" else 3)
    old = fresh_fleet.rows("SELECT count(*) FROM logs WHERE action <> 'admin.job.run'")[0][0]
    assert old == 0 if keep == "30" else old > 5000
    assert fresh_fleet.rows("SELECT total, events FROM usage_days") == [(15, 3)]
    assert fresh_fleet.canonical() is not None
