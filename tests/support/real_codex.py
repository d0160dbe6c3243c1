"""The real Codex, of two versions, and the services that it calls.

`.ci/run` and `just set-up-npm` install both beside this Python; the newer one may also be on PATH.
The variable TEST_CODEX_NEWEST names a folder with another one in its place.
"""

import functools
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.fleet import Fleet
from tests.support.machines import Machine, host
from tests.support.provider import Provider
from tests.support.upstream import Upstream

NAMES = ("newest", "older")
PLACES = {name: Path(sys.prefix) / folder for name, folder in (("newest", "codex"), ("older", "codex-older"))}
OLDEST = (0, 169, 0)
"""What tests expect of Codex was seen with this version."""


@dataclass(frozen=True)
class RealCodex:
    """A Codex that is installed."""

    folder: str
    version: str

    @property
    def program(self) -> str:
        """The path of the program."""
        return f"{self.folder}/codex"

    def path(self, rest: str) -> str:
        """PATH with it before all else."""
        return f"{self.folder}:{rest}"


@functools.cache
def find(name: str) -> RealCodex | None:
    """The real Codex of a name of `NAMES`, if it is here."""
    folders = [PLACES[name] / "node_modules" / ".bin"]
    if name == "newest" and (other := os.environ.get("TEST_CODEX_NEWEST")):
        folders.insert(0, Path(other))
    if name == "newest" and (on_path := shutil.which("codex")) is not None:
        folders.append(Path(on_path).parent)
    found = (RealCodex(str(folder), version) for folder in folders if (version := _version(folder / "codex")))
    return next(found, None)


def missing(name: str) -> str:
    """Why a test is skipped."""
    if name == "newest":
        return "Codex is neither installed by `just set-up-npm` nor on PATH (npm install -g @openai/codex)"
    return "no second Codex is installed by `just set-up-npm`"


def _version(program: Path) -> str:
    """The version of a Codex that tests can run; empty for what is none, or is too old.

    Stand-ins print a version too, but have not the help of a command whose option tests use.
    """
    if not program.exists():
        return ""
    printed = re.fullmatch(r"codex-cli ((\d+)\.(\d+)\.(\d+)\S*)\n", _output(program, "--version"))
    if printed is None or tuple(map(int, printed.groups()[1:])) < OLDEST:
        return ""
    return printed[1] if "--skip-git-repo-check" in _output(program, "exec", "--help") else ""


def _output(program: Path, *arguments: str) -> str:
    try:
        return subprocess.run(
            [program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        ).stdout
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""


def install(codex: RealCodex, fleet: Fleet, upstream: Upstream, root: Path, name: str) -> Machine:
    """Install a host by piping its installer to bash, with the real Codex on its PATH."""
    machine = Machine(root, codex=None)
    machine.env["PATH"] = codex.path(machine.env["PATH"])
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
    assert f"Codex is already installed: {codex.program}" in done.stdout
    return machine


def codex_host(codex: RealCodex, fleet: Fleet, root: Path, provider: Provider, model: str = "") -> Machine:
    """A host with cdx and the real Codex, whose requests go to the provider, or those to the model elsewhere."""
    machine = host(fleet, root, codex=None)
    machine.env["PATH"] = codex.path(machine.env["PATH"])
    folder = machine.home / ".codex"
    folder.mkdir(mode=0o700)
    write_config(folder, provider.url, model or provider.url, "request_max_retries = 0\nstream_max_retries = 0\n")
    # What a Codex that is not told otherwise would call.
    machine.env["CODEX_REFRESH_TOKEN_URL_OVERRIDE"] = provider.token_url
    return machine


def give_up_login(program: str | Path, env: dict[str, str]) -> int:
    """Run `login` of Codex, or of cdx, and end it by Ctrl-C when it waits for the browser; returns its exit status."""
    process = subprocess.Popen([program, "login"], env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "authenticate" not in (line := process.stderr.readline()) and line:
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    return process.returncode


def write_config(folder: Path, backend: str, model: str, more: str = "") -> None:
    """The config.toml of a Codex that makes its requests to the URL `model`, and all else to `backend`."""
    (folder / "config.toml").write_text(
        f"""model = "gpt-5.1"
model_provider = "fake"
check_for_update_on_startup = false
chatgpt_base_url = "{backend}/backend-api/"
[analytics]
enabled = false
[model_providers.fake]
name = "fake"
base_url = "{model}/v1"
wire_api = "responses"
requires_openai_auth = true
{more}"""
    )
