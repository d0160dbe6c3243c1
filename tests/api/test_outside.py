"""What is learnt outside, as hosts and admins are told of it."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cdxsync.background import status as domain_outside
from cdxsync.base import settings
from cdxsync.ops import homes
from tests.support.documents import make_auth
from tests.support.engines import Engine
from tests.support.fleet import Fleet, running_fleet
from tests.support.together import until
from tests.support.upstream import (
    PRICES,
    QUOTA,
    RELEASES,
    VERIFY,
    Upstream,
    job,
    retrieve,
    run_job,
)

pytestmark = pytest.mark.every_engine


def test_a_host_gets_the_quota_that_it_made_the_server_read(fresh: Fleet, upstream: Upstream) -> None:
    key = fresh.key("one.example.net")
    assert "chatgpt_usage" not in retrieve(fresh, key)
    until(lambda: "chatgpt_usage" in retrieve(fresh, key))
    usage = retrieve(fresh, key)["chatgpt_usage"]
    assert usage["status"] == "ok"
    assert usage["primary_window"]["used_percent"] == 37
    assert usage["primary_window"]["limit_seconds"] == 18000
    assert isinstance(usage["secondary_window"]["reset_at"], str)
    assert upstream.count(QUOTA) == 1


def overview(fleet: Fleet) -> dict[str, Any]:
    """The overview's part, within this process."""
    opened = homes.open_fleet(settings.load(fleet.home, environ=fleet.env))
    with contextlib.closing(opened.database), opened.database.scope():
        report: dict[str, Any] = msgspec.to_builtins(domain_outside.report(opened))
        return report


def test_the_overview_has_prices_cost_and_quota(connected: Fleet, well: Upstream) -> None:
    with connected.client(connected.key("spends.example.net")) as host:
        for entry in (
            {"model": "gpt-5.1", "input": 4320, "output": 560, "cached": 120, "reasoning": 160},
            {"input": 1000},
            {"model": "gpt-9", "input": 10**9},
        ):
            assert host.call("POST", "/usage", json=entry).status_code == 200
    data = overview(connected)
    assert data["pricing"]["source_url"] == well.url + PRICES
    assert data["pricing"]["input_price_per_1k"] == 0.00125
    assert data["pricing_month_cost"] == pytest.approx(0.011015 + 0.00125)
    assert data["pricing_unpriced_models"] == ["gpt-9"]
    assert data["chatgpt_usage"]["plan_type"] == "pro"
    assert data["chatgpt_cached"] is True
    assert data["chatgpt_next_eligible_at"] is not None
    assert [row["name"] for row in data["jobs"]] == ["versions", "chatgpt", "pricing", "runner", "refresh", "retention"]


def test_a_refused_login_is_a_warning_until_it_works(connected: Fleet, well: Upstream) -> None:
    well.fail(QUOTA, status=401)
    run_job(connected, "chatgpt")
    warnings = {warning["code"]: warning["message"] for warning in overview(connected)["warnings"]}
    assert "cdx login" in warnings["canonical_suspect"]
    assert "HTTP 401" in warnings["job_failed"]
    well.release()
    run_job(connected, "chatgpt")
    assert overview(connected)["warnings"] == []


def test_without_a_price_list_the_settings_count(tmp_path: Path) -> None:
    given = {"GPT51_INPUT_PER_1K": "2.5", "PRICING_CURRENCY": "EUR", "CDXSYNC_RUNNER": "off", "CHATGPT_BASE_URL": ""}
    fleet = Fleet(tmp_path / "home", env=given)
    fleet.cli("init", "--public-url", "https://localhost:1")
    row = overview(fleet)["pricing"]
    assert (row["source_url"], row["currency"], row["input_price_per_1k"]) == ("env", "EUR", 2.5)
    assert (row["model"], row["output_price_per_1k"]) == ("gpt-5.1", 0.01)


@pytest.fixture
def fresh(tmp_path: Path, upstream: Upstream, engine: Engine) -> Iterator[Fleet]:
    """A server that has a document, and has read nothing of the account yet."""
    with running_fleet(tmp_path / "home", env=upstream.environment() | engine.environment()) as started:
        started.upload(make_auth())
        yield started


def test_checking_versions(connected: Fleet, well: Upstream) -> None:
    data = connected.admin_call("POST", "/admin/versions/check")
    assert data["available_client"]["version"] == data["versions"]["client_version"] == "0.169.0"
    assert data["available_client"]["source"] == data["versions"]["client_version_source"] == "github"
    printed = json.loads(connected.cli("--json", "versions", "check").stdout)
    assert printed.keys() == data.keys()
    assert printed["available_client"]["source"] == "github"
    with connected.client() as anyone:
        assert anyone.call("GET", "/versions").json()["data"]["client_version_source"] == "cache"
    connected.execute("UPDATE versions SET updated_at = '2026-01-01T00:00:00+00:00' WHERE name = 'client_available'")
    with connected.client() as anyone:
        shown = anyone.call("GET", "/versions").json()["data"]
    assert (shown["client_version"], shown["client_version_source"]) == ("0.169.0", "cache_stale")


def test_a_release_that_has_not_changed_is_not_sent_again(connected: Fleet, well: Upstream) -> None:
    run_job(connected, "versions")
    assert run_job(connected, "versions")["last_result"] == "unchanged"


def test_a_pre_release_never_wins(connected: Fleet, well: Upstream) -> None:
    well.fail(RELEASES, status=200, body='{"tag_name": "rust-v9.0.0-alpha.1", "prerelease": true}')
    assert "pre-release" in run_job(connected, "versions")["last_error"]
    assert retrieve(connected, connected.key("pre.example.net"))["versions"]["client_version"] == "0.169.0"
    printed = connected.cli("jobs", "list").stdout
    assert "pre-release" in next(line for line in printed.splitlines() if line.startswith("versions\t"))


def test_github_is_left_alone_until_its_limit_is_over(connected: Fleet, well: Upstream) -> None:
    well.fail(RELEASES, status=403, headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999"})
    held = run_job(connected, "versions")
    assert (held["state"], held["last_error"].endswith("HTTP 403")) == ("idle", True)
    calls = well.count(RELEASES)
    data = connected.admin_call("POST", "/admin/versions/check")
    assert (data["pending"], data["available_client"]["version"]) == (True, "0.169.0")
    done = connected.cli("versions", "check", check=False)
    assert done.returncode == 4
    assert f"waits until {held['not_before']} before it tries again" in done.stderr
    assert well.count(RELEASES) == calls
    connected.execute("UPDATE jobs SET wanted = NULL, not_before = NULL WHERE name = 'versions'")


def test_the_quota_for_admins(connected: Fleet, well: Upstream) -> None:
    data = connected.admin_call("POST", "/admin/chatgpt/usage/refresh")
    assert (data["cached"], data["pending"], data["last_error"]) == (False, False, None)
    row = data["snapshot"]
    assert (row["primary_used_percent"], row["secondary_used_percent"], row["plan_type"]) == (37, 81, "pro")
    assert row["raw"]["rate_limit"]["primary_window"]["used_percent"] == 37
    assert data["next_eligible_at"] == row["next_eligible_at"]
    calls = well.count(QUOTA)
    again = connected.admin_call("GET", "/admin/chatgpt/usage")
    assert (again["cached"], again["snapshot"]["id"]) == (True, row["id"])
    printed = json.loads(connected.cli("--json", "usage", "quota").stdout)
    assert printed == again
    assert well.count(QUOTA) == calls
    with connected.client(certificate="admin") as admin:
        assert admin.call("HEAD", "/admin/chatgpt/usage?force=1").status_code == 200
    assert well.count(QUOTA) == calls
    forced = connected.admin_call("GET", "/admin/chatgpt/usage?force=1")
    assert forced["snapshot"]["id"] > row["id"]
    assert json.loads(connected.cli("--json", "usage", "quota", "--force").stdout)["cached"] is False
    text = connected.cli("usage", "quota").stdout
    assert "5-hour window\t[#######.............] 37 % used, reset 20" in text
    assert "Weekly window\t[################....] 81 % used, reset 20" in text
    assert re.search(r"\(in 2 h \d+ min\)", text)
    assert re.search(r"\(in 3 d 1[12] h\)", text)


def test_an_error_stands_beside_the_last_good_quota(connected: Fleet, well: Upstream) -> None:
    good = connected.admin_call("POST", "/admin/chatgpt/usage/refresh")["snapshot"]
    well.fail(QUOTA, status=401)
    data = connected.admin_call("POST", "/admin/chatgpt/usage/refresh")
    assert data["snapshot"] == good
    assert data["last_error"]["http_status"] == 401
    done = connected.cli("usage", "quota", "--force", check=False)
    assert done.returncode == 1
    assert "37 % used" in done.stdout
    assert "HTTP 401" in done.stderr


def test_only_the_last_raw_answers_are_kept(tmp_path: Path, upstream: Upstream, engine: Engine) -> None:
    env = upstream.environment() | engine.environment() | {"CDXSYNC_CHATGPT_RAW_HISTORY": "2"}
    fleet = Fleet(tmp_path / "home", env=env)
    fleet.cli("init", "--public-url", "https://localhost:1")
    (tmp_path / "auth.json").write_text(json.dumps(make_auth()))
    fleet.cli("auth", "upload", str(tmp_path / "auth.json"))
    for _ in range(4):
        fleet.cli("jobs", "run", "chatgpt")
    rows = fleet.rows("SELECT raw IS NOT NULL, primary_used_percent FROM chatgpt_usage_snapshots ORDER BY id")
    assert rows == [(0, 37), (0, 37), (1, 37), (1, 37)]


def test_the_remote_runner(connected: Fleet, well: Upstream) -> None:
    data = connected.admin_call("POST", "/admin/runner/run")
    assert (data["applied"], data["pending"]) == (False, False)
    assert (data["validation"]["status"], data["validation"]["details"]["trigger"]) == ("ok", "manual")
    status = connected.admin_call("GET", "/admin/runner")
    assert (status["enabled"], status["backend"], status["runner_url"]) == (True, "remote", well.url + VERIFY)
    assert status["counts"]["validations_24h"] >= 1
    assert status["last_daily_check"] == status["latest_validation"]["created_at"][:10]
    assert "secret" not in json.dumps(status).lower()
    assert json.loads(connected.cli("--json", "runner", "status").stdout) == status
    assert connected.cli("runner", "run").stdout.startswith("ok (")


def test_a_document_that_the_remote_runner_refreshed_is_stored_when_newer(fresh: Fleet, upstream: Upstream) -> None:
    def answer(document: object) -> str:
        return json.dumps({"status": "ok", "latency_ms": 1, "updated_auth": document})

    # The run at the start and the one for the document have ended, be they one or two.
    until(lambda: fresh.admin_call("GET", "/admin/runner")["latest_validation"])
    until(lambda: job(fresh, "runner")["state"] == "idle")
    newer = make_auth("2026-02-01T00:00:00Z", "newer")
    upstream.fail(VERIFY, status=200, body=answer(newer))
    data = fresh.admin_call("POST", "/admin/runner/run")
    assert (data["applied"], data["canonical_last_refresh"]) == (True, "2026-02-01T00:00:00Z")
    assert newer["tokens"]["access_token"] not in json.dumps(data)
    upstream.fail(VERIFY, status=200, body=answer(make_auth("2025-02-01T00:00:00Z", "older")))
    assert fresh.admin_call("POST", "/admin/runner/run")["applied"] is False
    assert fresh.admin_call("GET", "/admin/runner")["latest_runner_store"]["status"] == "skipped"
    upstream.fail(VERIFY, status=200, body=answer({"tokens": {"access_token": "short"}}))
    assert fresh.admin_call("POST", "/admin/runner/run")["applied"] is False
    stored = fresh.admin_call("GET", "/admin/runner")["latest_runner_store"]
    assert (stored["status"], "auth.last_refresh" in stored["reason"]) == ("failed", True)
    actions = [row[0] for row in fresh.rows("SELECT action FROM logs ORDER BY id")]
    assert actions.count("auth.runner_store") == 3
    assert actions.count("auth.validate") >= 3


def test_a_new_document_is_checked_in_the_background(fresh: Fleet, upstream: Upstream) -> None:
    until(lambda: fresh.admin_call("GET", "/admin/runner")["latest_validation"])
    key = fresh.key("stores.example.net")
    newer = make_auth("2026-03-01T00:00:00Z", "stored")
    with fresh.client(key) as host:
        data = host.auth(command="store", auth=newer).json()["data"]
    assert (data["status"], data["runner_applied"], data["validation"]["status"]) == ("updated", False, "pending")
    until(lambda: fresh.admin_call("GET", "/admin/runner")["latest_validation"]["digest"] == data["canonical_digest"])
    with fresh.client(key) as host:
        again = host.auth(command="store", auth=newer).json()["data"]
    assert (again["status"], again["validation"]["status"]) == ("unchanged", "ok")


def test_without_a_runner_there_is_none(fleet: Fleet) -> None:
    with fleet.client(certificate="admin") as admin:
        response = admin.call("POST", "/admin/runner/run")
        assert (response.status_code, "There is no runner" in response.json()["message"]) == (503, True)
        assert admin.call("POST", "/admin/jobs/dance/run").status_code == 404
    assert fleet.admin_call("GET", "/admin/runner")["enabled"] is False
    done = fleet.cli("runner", "run", check=False)
    assert done.returncode in (1, 3)
