"""A CODEX_HOME of the real Codex alone, whose requests all go to a provider on this machine."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.support.provider import Provider
from tests.support.real_codex import RealCodex, write_config
from tests.support.terminal import Screen

HI = "hi there"
"""What the model says."""


class CodexHome:
    """A home with a config.toml; Codex works in the folder `work` beside it, which it trusts."""

    def __init__(self, codex: RealCodex, folder: Path, provider: Provider, *, model: str = "", more: str = "") -> None:
        self.codex, self.path, self.work = codex, folder / "home", folder / "work"
        self.path.mkdir(parents=True)
        self.work.mkdir()
        trusted = (
            f'request_max_retries = 0\nstream_max_retries = 0\n[projects."{self.work}"]\ntrust_level = "trusted"\n'
        )
        write_config(self.path, provider.url, model or provider.url, trusted + more)
        self.env = {
            "PATH": codex.path(os.environ["PATH"]),
            "HOME": str(folder),
            "CODEX_HOME": str(self.path),
            "CODEX_REFRESH_TOKEN_URL_OVERRIDE": provider.token_url,
            "CODEX_AUTHAPI_BASE_URL": provider.url,
            "NO_PROXY": "*",
        }

    @property
    def auth_file(self) -> Path:
        """Its auth.json."""
        return self.path / "auth.json"

    def auth(self) -> dict[str, Any]:
        """What auth.json holds."""
        document: dict[str, Any] = json.loads(self.auth_file.read_text())
        return document

    def put_auth(self, document: dict[str, Any]) -> None:
        """Write auth.json."""
        self.auth_file.write_text(json.dumps(document))
        self.auth_file.chmod(0o600)

    def run(self, *arguments: str, given: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """Run Codex, with a text on its standard input."""
        return subprocess.run(
            ["codex", *arguments],
            env=self.env | env,
            cwd=self.work,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def exec(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `codex exec` with a prompt."""
        return self.run("exec", "--skip-git-repo-check", *arguments, "say hi", **env)

    def full_screen(self, *arguments: str, **env: str) -> Screen:
        """Start the full-screen program."""
        command = ["env", "-C", str(self.work), self.codex.program, *arguments]
        return Screen(command, self.env | env, columns=100, lines=30)

    def sessions(self) -> list[Path]:
        """The session files, the oldest first."""
        return sorted(self.path.glob("sessions/*/*/*/rollout-*.jsonl"), key=lambda path: path.name)

    def records(self, path: Path) -> list[dict[str, Any]]:
        """What a session file says, as far as it is written."""
        return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def answers(self) -> list[dict[str, Any]]:
        """What the session files say that was used, an object for each answer."""
        records = [record for path in self.sessions() for record in self.records(path)]
        return [record["payload"] for record in records if record["type"] == "token_usage_record"]


def tokens_of_prompt(provider: Provider, prompt: str) -> list[str]:
    """The tokens with which the model was asked this by a person, in order.

    It is asked for other things as well, such as a title, by a daemon also later.
    """
    return [token for token, body in provider.bodies if _last_text(body) == prompt]


def _last_text(body: dict[str, Any]) -> str:
    content = body["input"][-1].get("content")
    return str(content[-1].get("text")) if isinstance(content, list) and content else ""
