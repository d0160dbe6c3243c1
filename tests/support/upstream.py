"""The services outside, as a local process, and ways to make them fail."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from tests.support.codex_upstream import RUNNER_SECRET
from tests.support.together import until

if TYPE_CHECKING:
    from tests.support.fleet import Fleet

RELEASES = "/repos/openai/codex/releases/latest"
QUOTA = "/wham/usage"
PRICES = "/pricing.json"
VERIFY = "/verify"
JOBS = {"versions": RELEASES, "chatgpt": QUOTA, "pricing": PRICES, "runner": VERIFY}


class Upstream:
    """GitHub, ChatGPT, a price list, a runner, a model and a token endpoint on one loopback port."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("codex_upstream.py")), "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.communicate(timeout=30)

    def count(self, path: str) -> int:
        """How many times a path was called."""
        log: list[list[str]] = requests.get(f"{self.url}/log", timeout=30).json()
        return sum(called == path for _, called in log)

    def fail(self, path: str, **plan: Any) -> None:
        """Plan what the next calls of a path get; see `codex_upstream`."""
        requests.post(f"{self.url}/fail", json={"path": path, "times": 1000, **plan}, timeout=30).raise_for_status()

    def release(self) -> None:
        """Let calls that are held go on; from now on all is well."""
        requests.post(f"{self.url}/release", timeout=30).raise_for_status()

    def environment(self) -> dict[str, str]:
        """The settings with which a server calls all of it; a remote runner, no local one. Hosts refresh."""
        return {
            "CDXSYNC_REFRESH": "hosts",
            "GITHUB_API_URL": self.url,
            "CHATGPT_BASE_URL": self.url,
            "PRICING_URL": self.url + PRICES,
            "CDXSYNC_RUNNER": "remote",
            "AUTH_RUNNER_URL": self.url + VERIFY,
            "CDXSYNC_AUTH_RUNNER_SECRET": RUNNER_SECRET,
        }


def job(fleet: "Fleet", name: str) -> dict[str, Any]:
    rows = fleet.admin_call("GET", "/admin/jobs")["jobs"]
    return next(row for row in rows if row["name"] == name)


def run_job(fleet: "Fleet", name: str) -> dict[str, Any]:
    """Run a job to its end; what a service has asked to wait is over."""
    fleet.execute("UPDATE jobs SET not_before = NULL WHERE name = ?", name)
    until(lambda: job(fleet, name)["state"] != "running")
    data = fleet.admin_call("POST", f"/admin/jobs/{name}/run")
    assert data["pending"] is False, data
    return dict(data["job"])


def expire_quota(fleet: "Fleet") -> None:
    """As after the cool-down."""
    past = "2026-01-01T00:00:00+00:00"
    fleet.execute("UPDATE chatgpt_usage_snapshots SET next_eligible_at = ?", past)
    fleet.execute("UPDATE jobs SET next_run = ?, not_before = NULL WHERE name = 'chatgpt'", past)


def retrieve(fleet: "Fleet", key: str) -> dict[str, Any]:
    with fleet.client(key) as host:
        response = host.auth(digest="0" * 64, last_refresh="2025-01-01T00:00:00Z")
    assert response.status_code == 200, response.text
    return dict(response.json()["data"])


def known(fleet: "Fleet", key: str) -> dict[str, Any]:
    """What a host and an admin are told of the outside."""
    data = retrieve(fleet, key)
    return {
        "version": data["versions"]["client_version"],
        "quota": data["chatgpt_usage"],
        "document": data["canonical_digest"],
    }
