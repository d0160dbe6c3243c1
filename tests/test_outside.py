"""Services outside, well and failing in every way: hosts are answered meanwhile, what was known stays, errors show."""

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import Fleet, free_port, running_fleet
from documents import make_auth
from together import at_once, until
from upstream import PRICES, QUOTA, RELEASES, VERIFY, Upstream

from cdxsync import deployment, settings
from cdxsync.domain import outside as domain_outside
from cdxsync.outside import client
from cdxsync.store import database

JOBS = {"versions": RELEASES, "chatgpt": QUOTA, "pricing": PRICES, "runner": VERIFY}


@pytest.fixture(scope="module")
def outside() -> Iterator[Upstream]:
    started = Upstream()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, outside: Upstream) -> Iterator[Fleet]:
    """A server that has read everything once, and holds a document."""
    env = outside.environment() | {
        "CDXSYNC_OUTSIDE_TIMEOUT": "3",
        "CHATGPT_USAGE_TIMEOUT": "3",
        "AUTH_RUNNER_TIMEOUT": "3",
    }
    with running_fleet(tmp_path_factory.mktemp("outside") / "home", env=env) as started:
        started.upload(make_auth())
        for name in JOBS:
            run_job(started, name)
        yield started


@pytest.fixture
def well(outside: Upstream) -> Iterator[Upstream]:
    """The services, well again after the test."""
    yield outside
    outside.release()


def job(fleet: Fleet, name: str) -> dict[str, Any]:
    rows = fleet.admin_call("GET", "/admin/jobs")["jobs"]
    return next(row for row in rows if row["name"] == name)


def run_job(fleet: Fleet, name: str) -> dict[str, Any]:
    """Run a job to its end; what a service has asked to wait is over."""
    execute(fleet, "UPDATE jobs SET not_before = NULL WHERE name = ?", name)
    until(lambda: job(fleet, name)["state"] != "running")
    data = fleet.admin_call("POST", f"/admin/jobs/{name}/run")
    assert data["pending"] is False, data
    return dict(data["job"])


def execute(fleet: Fleet, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(fleet.home / "cdxsync.db", timeout=30)) as database, database:
        database.execute(statement, values)


def expire_quota(fleet: Fleet) -> None:
    """As after the cool-down."""
    past = "2026-01-01T00:00:00+00:00"
    execute(fleet, "UPDATE chatgpt_usage_snapshots SET next_eligible_at = ?", past)
    execute(fleet, "UPDATE jobs SET next_run = ?, not_before = NULL WHERE name = 'chatgpt'", past)


def retrieve(fleet: Fleet, key: str) -> dict[str, Any]:
    with fleet.client(key) as host:
        response = host.auth(digest="0" * 64, last_refresh="2025-01-01T00:00:00Z")
    assert response.status_code == 200, response.text
    return dict(response.json()["data"])


def known(fleet: Fleet, key: str) -> dict[str, Any]:
    """What a host and an admin are told of the outside."""
    data = retrieve(fleet, key)
    return {
        "version": data["versions"]["client_version"],
        "quota": data["chatgpt_usage"],
        "document": data["canonical_digest"],
    }


FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "400": ({"status": 400}, "HTTP 400|without a status"),
    "401": ({"status": 401}, "HTTP 401"),
    "429": ({"status": 429, "headers": {"Retry-After": "700"}}, "HTTP 429"),
    "500": ({"status": 500}, "HTTP 500"),
    "malformed": ({"status": 200, "body": '{"tag_name": '}, "did not answer with JSON"),
    "no object": ({"status": 200, "body": "[]"}, "not a JSON object|without a status|names no"),
    "huge": ({"status": 200, "body": " " * 1000, "repeat": 3000}, "more than 2097152 bytes"),
    "redirect loop": ({"status": 302, "headers": {"Location": "/loop"}}, "redirects"),
    "slow": ({"hold": True, "status": 200}, "did not answer in time"),
}


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_service(server: Fleet, well: Upstream, name: str, failure: str) -> None:
    plan, text = FAILURES[failure]
    key = server.key(f"{name}-{failure.replace(' ', '-')}.example.net")
    before = known(server, key)
    well.fail(JOBS[name], **plan)
    if failure == "redirect loop":
        well.fail("/loop", **plan)
    row = run_job(server, name)
    assert any(part in row["last_error"] for part in text.split("|")), row["last_error"]
    assert row["failures"] >= 1
    assert row["last_succeeded_at"] is not None
    if failure == "429":
        assert row["not_before"] > row["last_finished_at"]
    assert before["quota"]["plan_type"] == "pro"
    assert known(server, key) == before
    for secret in (make_auth()["tokens"]["access_token"], "runner-secret"):
        assert secret not in json.dumps(row)
        assert secret not in "".join(server.output)


@pytest.mark.parametrize("name", JOBS)
def test_it_is_well_again(server: Fleet, well: Upstream, name: str) -> None:
    row = run_job(server, name)
    assert (row["last_error"], row["failures"]) == (None, 0)
    assert row["last_duration_ms"] >= 0


@pytest.mark.parametrize("name", JOBS)
def test_hosts_are_answered_while_a_service_hangs(server: Fleet, well: Upstream, name: str) -> None:
    key = server.key(f"hang-{name}.example.net")
    execute(server, "UPDATE jobs SET not_before = NULL WHERE name = ?", name)
    well.fail(JOBS[name], hold=True)
    calls = well.count(JOBS[name])
    answers: list[requests.Response] = []

    def ask() -> None:
        with server.client(certificate="admin") as admin:
            answers.append(admin.call("POST", f"/admin/jobs/{name}/run"))

    def meanwhile() -> None:
        until(lambda: well.count(JOBS[name]) > calls)
        statuses = [retrieve(server, key)["status"] for _ in range(5)]
        running = job(server, name)
        well.release()
        assert statuses == ["outdated"] * 5
        assert (running["state"], running["last_started_at"] is not None) == ("running", True)
        assert running["owner"].split(":")[1] == str(server.processes[0].pid)

    at_once([ask, meanwhile])
    assert answers[0].status_code == 200


def test_fifty_hosts_on_an_expired_quota_cause_one_call(server: Fleet, well: Upstream) -> None:
    """With two servers on one database."""
    keys = [server.key(f"many{number}.example.net") for number in range(50)]
    second = free_port()
    process = server.start(second)
    before = well.count(QUOTA)
    runs = job(server, "chatgpt")["runs"]
    well.fail(QUOTA, hold=True)
    expire_quota(server)

    def call(number: int) -> None:
        port = second if number % 2 else server.port
        with requests.Session() as session:
            session.trust_env = False
            response = session.post(
                f"https://localhost:{port}/auth",
                json={"digest": "0" * 64, "last_refresh": "2025-01-01T00:00:00Z"},
                headers={"X-API-Key": keys[number]},
                verify=str(server.ca_file),
                timeout=30,
            )
        assert response.status_code == 200
        assert response.json()["data"]["chatgpt_usage"]["plan_type"] == "pro"

    at_once([lambda number=number: call(number) for number in range(50)])  # type: ignore[misc]
    until(lambda: well.count(QUOTA) > before)
    at_once([lambda number=number: call(number) for number in range(50)])  # type: ignore[misc]
    well.release()
    until(lambda: job(server, "chatgpt")["runs"] > runs)
    at_once([lambda number=number: call(number) for number in range(50)])  # type: ignore[misc]
    process.terminate()
    process.wait(30)
    server.processes.remove(process)
    assert well.count(QUOTA) == before + 1
    assert job(server, "chatgpt")["runs"] == runs + 1


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
    try:
        return domain_outside.overview(deployment.open_fleet(settings.load(fleet.home, environ=fleet.env)))
    finally:
        database.close_database()


def test_the_overview_has_prices_cost_and_quota(server: Fleet, well: Upstream) -> None:
    with server.client(server.key("spends.example.net")) as host:
        for entry in (
            {"model": "gpt-5.1", "input": 4320, "output": 560, "cached": 120, "reasoning": 160},
            {"input": 1000},
            {"model": "gpt-9", "input": 10**9},
        ):
            assert host.call("POST", "/usage", json=entry).status_code == 200
    data = overview(server)
    assert data["pricing"]["source_url"] == well.url + PRICES
    assert data["pricing"]["input_price_per_1k"] == 0.00125
    assert data["pricing_month_cost"] == pytest.approx(0.011015 + 0.00125)
    assert data["pricing_unpriced_models"] == ["gpt-9"]
    assert data["chatgpt_usage"]["plan_type"] == "pro"
    assert data["chatgpt_cached"] is True
    assert data["chatgpt_next_eligible_at"] is not None
    assert [row["name"] for row in data["jobs"]] == ["versions", "chatgpt", "pricing", "runner", "retention"]


def test_a_refused_login_is_a_warning_until_it_works(server: Fleet, well: Upstream) -> None:
    well.fail(QUOTA, status=401)
    run_job(server, "chatgpt")
    warnings = {warning["code"]: warning["message"] for warning in overview(server)["warnings"]}
    assert "cdx login" in warnings["canonical_suspect"]
    assert "HTTP 401" in warnings["job_failed"]
    well.release()
    run_job(server, "chatgpt")
    assert overview(server)["warnings"] == []


def test_without_a_price_list_the_settings_count(tmp_path: Path) -> None:
    given = {"GPT51_INPUT_PER_1K": "2.5", "PRICING_CURRENCY": "EUR", "CDXSYNC_RUNNER": "off", "CHATGPT_BASE_URL": ""}
    fleet = Fleet(tmp_path / "home", env=given)
    fleet.cli("init", "--public-url", "https://localhost:1")
    row = overview(fleet)["pricing"]
    assert (row["source_url"], row["currency"], row["input_price_per_1k"]) == ("env", "EUR", 2.5)
    assert (row["model"], row["output_price_per_1k"]) == ("gpt-5.1", 0.01)


@pytest.fixture
def fresh(tmp_path: Path, upstream: Upstream) -> Iterator[Fleet]:
    """A server that has a document, and has read nothing of the account yet."""
    with running_fleet(tmp_path / "home", env=upstream.environment()) as started:
        started.upload(make_auth())
        yield started


def test_without_anything_outside_the_server_starts_and_says_so(tmp_path: Path) -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    env = {"GITHUB_API_URL": closed, "CHATGPT_BASE_URL": closed, "PRICING_URL": closed, "AUTH_RUNNER_URL": closed}
    env |= {"CDXSYNC_RUNNER": "remote", "CDXSYNC_OUTSIDE_TIMEOUT": "1", "CHATGPT_USAGE_TIMEOUT": "1"}
    with running_fleet(tmp_path / "home", env=env) as fleet:
        fleet.upload(make_auth())
        data = retrieve(fleet, fleet.key("alone.example.net"))
        assert "chatgpt_usage" not in data
        assert data["versions"]["client_version_source"] == "unknown"
        for name in JOBS:
            assert "cannot be reached: Connection refused" in run_job(fleet, name)["last_error"]
        report = fleet.admin_call("GET", "/admin/chatgpt/usage")
        assert report["snapshot"]["status"] == "error"
        assert "Connection refused" in report["last_error"]["error"]
        checked = fleet.admin_call("POST", "/admin/versions/check")
        assert checked["available_client"] == {"version": None, "updated_at": None, "source": "unknown"}
        assert "Connection refused" in checked["error"]
        done = fleet.cli("versions", "check", check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Connection refused" in done.stderr
        assert "Traceback" not in done.stderr + "".join(fleet.output)


def test_checking_versions(server: Fleet, well: Upstream) -> None:
    data = server.admin_call("POST", "/admin/versions/check")
    assert data["available_client"]["version"] == data["versions"]["client_version"] == "0.169.0"
    assert data["available_client"]["source"] == data["versions"]["client_version_source"] == "github"
    printed = json.loads(server.cli("--json", "versions", "check").stdout)
    assert printed.keys() == data.keys()
    assert printed["available_client"]["source"] == "github"
    with server.client() as anyone:
        assert anyone.call("GET", "/versions").json()["data"]["client_version_source"] == "cache"
    execute(server, "UPDATE versions SET updated_at = '2026-01-01T00:00:00+00:00' WHERE name = 'client_available'")
    with server.client() as anyone:
        shown = anyone.call("GET", "/versions").json()["data"]
    assert (shown["client_version"], shown["client_version_source"]) == ("0.169.0", "cache_stale")


def test_a_release_that_has_not_changed_is_not_sent_again(server: Fleet, well: Upstream) -> None:
    run_job(server, "versions")
    assert run_job(server, "versions")["last_result"] == "unchanged"


def test_a_pre_release_never_wins(server: Fleet, well: Upstream) -> None:
    well.fail(RELEASES, status=200, body='{"tag_name": "rust-v9.0.0-alpha.1", "prerelease": true}')
    assert "pre-release" in run_job(server, "versions")["last_error"]
    assert retrieve(server, server.key("pre.example.net"))["versions"]["client_version"] == "0.169.0"
    printed = server.cli("jobs", "list").stdout
    assert "pre-release" in next(line for line in printed.splitlines() if line.startswith("versions\t"))


def test_github_is_left_alone_until_its_limit_is_over(server: Fleet, well: Upstream) -> None:
    well.fail(RELEASES, status=403, headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999"})
    held = run_job(server, "versions")
    assert (held["state"], held["last_error"].endswith("HTTP 403")) == ("idle", True)
    calls = well.count(RELEASES)
    data = server.admin_call("POST", "/admin/versions/check")
    assert (data["pending"], data["available_client"]["version"]) == (True, "0.169.0")
    done = server.cli("versions", "check", check=False)
    assert done.returncode == 4
    assert f"not to be called before {held['not_before']}" in done.stderr
    assert well.count(RELEASES) == calls
    execute(server, "UPDATE jobs SET wanted = NULL, not_before = NULL WHERE name = 'versions'")


def test_the_quota_for_admins(server: Fleet, well: Upstream) -> None:
    data = server.admin_call("POST", "/admin/chatgpt/usage/refresh")
    assert (data["cached"], data["pending"], data["last_error"]) == (False, False, None)
    row = data["snapshot"]
    assert (row["primary_used_percent"], row["secondary_used_percent"], row["plan_type"]) == (37, 81, "pro")
    assert row["raw"]["rate_limit"]["primary_window"]["used_percent"] == 37
    assert data["next_eligible_at"] == row["next_eligible_at"]
    calls = well.count(QUOTA)
    again = server.admin_call("GET", "/admin/chatgpt/usage")
    assert (again["cached"], again["snapshot"]["id"]) == (True, row["id"])
    printed = json.loads(server.cli("--json", "usage", "quota").stdout)
    assert printed == again
    assert well.count(QUOTA) == calls
    with server.client(certificate="admin") as admin:
        assert admin.call("HEAD", "/admin/chatgpt/usage?force=1").status_code == 200
    assert well.count(QUOTA) == calls
    forced = server.admin_call("GET", "/admin/chatgpt/usage?force=1")
    assert forced["snapshot"]["id"] > row["id"]
    assert json.loads(server.cli("--json", "usage", "quota", "--force").stdout)["cached"] is False
    text = server.cli("usage", "quota").stdout
    assert "5-hour window\t[#######.............] 37 % used, reset 20" in text
    assert "Weekly window\t[################....] 81 % used, reset 20" in text


def test_an_error_stands_beside_the_last_good_quota(server: Fleet, well: Upstream) -> None:
    good = server.admin_call("POST", "/admin/chatgpt/usage/refresh")["snapshot"]
    well.fail(QUOTA, status=401)
    data = server.admin_call("POST", "/admin/chatgpt/usage/refresh")
    assert data["snapshot"] == good
    assert data["last_error"]["http_status"] == 401
    done = server.cli("usage", "quota", "--force", check=False)
    assert done.returncode == 1
    assert "37 % used" in done.stdout
    assert "HTTP 401" in done.stderr


def test_only_the_last_raw_answers_are_kept(tmp_path: Path, upstream: Upstream) -> None:
    env = upstream.environment() | {"CDXSYNC_CHATGPT_RAW_HISTORY": "2"}
    fleet = Fleet(tmp_path / "home", env=env)
    fleet.cli("init", "--public-url", "https://localhost:1")
    (tmp_path / "auth.json").write_text(json.dumps(make_auth()))
    fleet.cli("auth", "upload", str(tmp_path / "auth.json"))
    for _ in range(4):
        fleet.cli("jobs", "run", "chatgpt")
    with contextlib.closing(sqlite3.connect(fleet.home / "cdxsync.db")) as database:
        rows = database.execute("SELECT raw IS NOT NULL, primary_used_percent FROM chatgpt_usage_snapshots ORDER BY id")
        assert rows.fetchall() == [(0, 37), (0, 37), (1, 37), (1, 37)]


def test_the_remote_runner(server: Fleet, well: Upstream) -> None:
    data = server.admin_call("POST", "/admin/runner/run")
    assert (data["applied"], data["pending"]) == (False, False)
    assert (data["validation"]["status"], data["validation"]["details"]["trigger"]) == ("ok", "manual")
    status = server.admin_call("GET", "/admin/runner")
    assert (status["enabled"], status["backend"], status["runner_url"]) == (True, "remote", well.url + VERIFY)
    assert status["counts"]["validations_24h"] >= 1
    assert status["last_daily_check"] == status["latest_validation"]["created_at"][:10]
    assert "secret" not in json.dumps(status).lower()
    assert json.loads(server.cli("--json", "runner", "status").stdout) == status
    assert server.cli("runner", "run").stdout.startswith("ok (")


def test_a_document_that_the_remote_runner_refreshed_is_stored_when_newer(fresh: Fleet, upstream: Upstream) -> None:
    def answer(document: object) -> str:
        return json.dumps({"status": "ok", "latency_ms": 1, "updated_auth": document})

    until(lambda: fresh.admin_call("GET", "/admin/runner")["latest_validation"])
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
    with contextlib.closing(sqlite3.connect(fresh.home / "cdxsync.db")) as database:
        actions = [row[0] for row in database.execute("SELECT action FROM logs ORDER BY id")]
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


def test_a_killed_holder_of_a_lease_is_replaced_when_it_is_over(tmp_path: Path, upstream: Upstream) -> None:
    fleet = Fleet(tmp_path / "home", env=upstream.environment())
    fleet.cli("init", "--public-url", "https://localhost:1")
    upstream.fail(RELEASES, hold=True)
    command = [sys.executable, "-m", "cdxsync", "--home", str(fleet.home), "jobs", "run", "versions"]
    holder = subprocess.Popen(command, env=fleet.env, stderr=subprocess.DEVNULL)
    until(lambda: upstream.count(RELEASES) == 1)
    holder.send_signal(signal.SIGKILL)
    holder.wait(30)
    upstream.release()
    done = fleet.cli("--json", "jobs", "run", "versions", "--wait", "0")
    row = json.loads(done.stdout)
    assert (row["pending"], row["job"]["state"]) == (True, "running")
    assert row["job"]["lease_until"] > row["job"]["last_started_at"]
    assert f":{holder.pid}:" in done.stderr
    assert upstream.count(RELEASES) == 1
    execute(fleet, "UPDATE jobs SET lease_until = last_started_at WHERE name = 'versions'")
    assert fleet.cli("jobs", "run", "versions").stdout == "versions: Codex 0.169.0\n"
    assert upstream.count(RELEASES) == 2


def test_redirects_keep_credentials_on_their_server(upstream: Upstream) -> None:
    other = Upstream()
    try:
        upstream.fail(QUOTA, status=302, headers={"Location": other.url + QUOTA})
        with pytest.raises(client.OutsideError, match="another server") as caught:
            client.get(upstream.url + QUOTA, timeout=10, headers={"Authorization": "Bearer hidden"}, secret=True)
        assert "hidden" not in caught.value.message
        assert other.count(QUOTA) == 0
        assert client.get(upstream.url + QUOTA, timeout=10).status == 200
        upstream.fail(QUOTA, status=302, headers={"Location": PRICES})
        assert b"gpt-5.1" in client.get(upstream.url + QUOTA, timeout=10, secret=True).body
        upstream.fail(QUOTA, status=302, headers={"Location": "http://[::1"})
        with pytest.raises(client.OutsideError, match="an address that is none"):
            client.get(upstream.url + QUOTA, timeout=10)
        upstream.fail(QUOTA, status=302, headers={"Location": PRICES}, body=" " * 1000, repeat=3000)
        with pytest.raises(client.OutsideError, match="more than 2097152 bytes"):
            client.get(upstream.url + QUOTA, timeout=10)
        upstream.fail(QUOTA, status=302, headers={"Location": "file:///etc/passwd"})
        with pytest.raises(client.OutsideError, match="redirects to where no TLS"):
            client.get(upstream.url + QUOTA, timeout=10)
    finally:
        other.stop()


def test_what_may_pass_is_tried_again(upstream: Upstream) -> None:
    upstream.fail(PRICES, status=502, times=2)
    assert client.get(upstream.url + PRICES, timeout=30).status == 200
    assert upstream.count(PRICES) == 3
    upstream.fail(PRICES, status=404)
    with pytest.raises(client.OutsideError, match="HTTP 404"):
        client.get(upstream.url + PRICES, timeout=30)
    assert upstream.count(PRICES) == 4


def test_a_proxy_of_the_environment_is_used(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:hidden@127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(client.OutsideError, match="proxy of the environment") as caught:
        client.get("http://prices.example.net/", timeout=5)
    assert "hidden" not in caught.value.message


def test_a_netrc_does_not_replace_the_credentials(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    answer = client.post_json(
        upstream.url + VERIFY,
        {"auth_json": {}},
        timeout=10,
        headers={"Authorization": "Bearer runner-secret"},
    )
    assert answer.status == 200
