"""The services outside, as a local process, and ways to make them fail."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import requests
from codex_upstream import RUNNER_SECRET

RELEASES = "/repos/openai/codex/releases/latest"
QUOTA = "/wham/usage"
PRICES = "/pricing.json"
VERIFY = "/verify"


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
        self.process.wait(30)

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
        """The settings with which a server calls all of it; a remote runner, no local one."""
        return {
            "GITHUB_API_URL": self.url,
            "CHATGPT_BASE_URL": self.url,
            "PRICING_URL": self.url + PRICES,
            "CDXSYNC_RUNNER": "remote",
            "AUTH_RUNNER_URL": self.url + VERIFY,
            "CDXSYNC_AUTH_RUNNER_SECRET": RUNNER_SECRET,
        }
