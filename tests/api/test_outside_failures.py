"""Services outside that fail in every way: hosts are answered meanwhile, what was known stays, errors show."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support import forkserver
from tests.support.documents import make_auth
from tests.support.fleet import Fleet, free_port, running_fleet
from tests.support.together import at_once, until
from tests.support.upstream import JOBS, QUOTA, RELEASES, Upstream, expire_quota, job, known, retrieve, run_job

FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "400": ({"status": 400}, "HTTP 400|without a status"),
    "401": ({"status": 401}, "HTTP 401"),
    "429": ({"status": 429, "headers": {"Retry-After": "700"}}, "HTTP 429"),
    "500": ({"status": 500}, "HTTP 500"),
    "malformed": ({"status": 200, "body": '{"tag_name": '}, "sent an answer that is not JSON"),
    "no object": ({"status": 200, "body": "[]"}, "not a JSON object|without a status|names no"),
    "huge": ({"status": 200, "body": " " * 1000, "repeat": 3000}, "more than 2097152 bytes"),
    "redirect loop": ({"status": 302, "headers": {"Location": "/loop"}}, "redirects|sent a redirect"),
    "slow": ({"hold": True, "status": 200}, "did not answer in time"),
}


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_service(connected: Fleet, well: Upstream, name: str, failure: str) -> None:
    plan, text = FAILURES[failure]
    key = connected.key(f"{name}-{failure.replace(' ', '-')}.example.net")
    before = known(connected, key)
    well.fail(JOBS[name], **plan)
    if failure == "redirect loop":
        well.fail("/loop", **plan)
    row = run_job(connected, name)
    assert any(part in row["last_error"] for part in text.split("|")), row["last_error"]
    assert row["failures"] >= 1
    assert row["last_succeeded_at"] is not None
    if failure == "429":
        assert row["not_before"] > row["last_finished_at"]
    assert before["quota"]["plan_type"] == "pro"
    assert known(connected, key) == before
    for secret in (make_auth()["tokens"]["access_token"], "runner-secret"):
        assert secret not in json.dumps(row)
        assert secret not in "".join(connected.output)


@pytest.mark.parametrize("name", JOBS)
def test_it_is_well_again(connected: Fleet, well: Upstream, name: str) -> None:
    row = run_job(connected, name)
    assert (row["last_error"], row["failures"]) == (None, 0)
    assert row["last_duration_ms"] >= 0


@pytest.mark.parametrize("name", JOBS)
def test_hosts_are_answered_while_a_service_hangs(connected: Fleet, well: Upstream, name: str) -> None:
    key = connected.key(f"hang-{name}.example.net")
    connected.execute("UPDATE jobs SET not_before = NULL WHERE name = ?", name)
    well.fail(JOBS[name], hold=True)
    calls = well.count(JOBS[name])
    answers: list[requests.Response] = []

    def ask() -> None:
        with connected.client(certificate="admin") as admin:
            answers.append(admin.call("POST", f"/admin/jobs/{name}/run"))

    def meanwhile() -> None:
        until(lambda: well.count(JOBS[name]) > calls)
        statuses = [retrieve(connected, key)["status"] for _ in range(5)]
        running = job(connected, name)
        well.release()
        assert statuses == ["outdated"] * 5
        assert (running["state"], running["last_started_at"] is not None) == ("running", True)
        assert running["owner"].split(":")[1] == str(connected.processes[0].pid)

    at_once([ask, meanwhile])
    assert answers[0].status_code == 200


def test_fifty_hosts_on_an_expired_quota_cause_one_call(connected: Fleet, well: Upstream) -> None:
    """With two servers on one database."""
    keys = [connected.key(f"many{number}.example.net") for number in range(50)]
    second = free_port()
    process = connected.start(second)
    before = well.count(QUOTA)
    runs = job(connected, "chatgpt")["runs"]
    well.fail(QUOTA, hold=True)
    expire_quota(connected)

    def call(number: int) -> None:
        port = second if number % 2 else connected.port
        with requests.Session() as session:
            session.trust_env = False
            response = session.post(
                f"https://localhost:{port}/auth",
                json={"digest": "0" * 64, "last_refresh": "2025-01-01T00:00:00Z"},
                headers={"X-API-Key": keys[number]},
                verify=str(connected.ca_file),
                timeout=30,
            )
        assert response.status_code == 200
        assert response.json()["data"]["chatgpt_usage"]["plan_type"] == "pro"

    at_once([lambda number=number: call(number) for number in range(50)])  # type: ignore[misc]
    until(lambda: well.count(QUOTA) > before)
    at_once([lambda number=number: call(number) for number in range(50)])  # type: ignore[misc]
    well.release()
    until(lambda: job(connected, "chatgpt")["runs"] > runs)
    at_once([lambda number=number: call(number) for number in range(50)])  # type: ignore[misc]
    process.terminate()
    process.wait(30)
    connected.processes.remove(process)
    assert well.count(QUOTA) == before + 1
    assert job(connected, "chatgpt")["runs"] == runs + 1


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


def test_a_killed_holder_of_a_lease_is_replaced_when_it_is_over(tmp_path: Path, upstream: Upstream) -> None:
    fleet = Fleet(tmp_path / "home", env=upstream.environment())
    fleet.cli("init", "--public-url", "https://localhost:1")
    upstream.fail(RELEASES, hold=True)
    command = ["--home", str(fleet.home), "jobs", "run", "versions"]
    holder = forkserver.start(*command, env=fleet.env, stderr=subprocess.DEVNULL)
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
    fleet.execute("UPDATE jobs SET lease_until = last_started_at WHERE name = 'versions'")
    assert fleet.cli("jobs", "run", "versions").stdout == "versions: Codex 0.169.0\n"
    assert upstream.count(RELEASES) == 2
