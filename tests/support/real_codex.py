"""The real Codex binary, and the services that it calls."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.machines import Machine
from tests.support.upstream import Upstream


def real_codex() -> str | None:
    """The folder of the real Codex on PATH."""
    found = shutil.which("codex")
    if found is None:
        return None
    printed = subprocess.run([found, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    return str(Path(found).parent) if printed.startswith("codex-cli ") else None


CODEX = real_codex()
needs_codex = [
    pytest.mark.codex,
    pytest.mark.skipif(CODEX is None, reason="codex is not on PATH (npm install -g @openai/codex)"),
]
"""Marks of tests that run it."""


def install(fleet: Fleet, upstream: Upstream, root: Path, name: str) -> Machine:
    """Install a host by piping its installer to bash, with the real Codex on its PATH."""
    machine = Machine(root, codex=None)
    machine.env["CODEX_REFRESH_TOKEN_URL_OVERRIDE"] = f"{upstream.url}/oauth/token"
    (machine.home / ".codex").mkdir()
    (machine.home / ".codex" / "config.toml").write_text(
        f"""model = "gpt-5.1"
model_provider = "fake"
[model_providers.fake]
name = "fake"
base_url = "{upstream.url}/v1"
wire_api = "responses"
requires_openai_auth = true
"""
    )
    done = machine.shell(fleet.cli("hosts", "register", name).stdout)
    assert done.returncode == 0, done.stderr
    assert f"Codex is already installed: {CODEX}/codex" in done.stdout
    return machine
