"""Hosts of a fleet: separate homes on this machine, with a `codex` on their PATH."""

import itertools
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cdxsync.wrapper import baking
from tests.support.fleet import BASE_ENVIRONMENT, Fleet
from tests.support.stub_server import with_stub_keys
from tests.support.terminal import set_size, spawn

CDX = Path(__file__).parents[2] / "cdxsync" / "wrapper" / "cdx"
_numbers = itertools.count()

STUB_KEY = "cdx_" + "5" * 64
"""The API key in `stub_cdx`."""
STUB_CODEX = """#!/bin/sh
case "$1" in --version) echo "codex-cli 0.169.0"; exit 0;; esac
echo "ran with: $*"
if [ -n "$NEW_AUTH" ]; then cp "$NEW_AUTH" "${CODEX_HOME:-$HOME/.codex}/auth.json"; fi
exit "${CODEX_EXIT:-0}"
"""
# As root the installer writes /usr/local/bin; a host of these tests keeps to its own home.
NOT_ROOT = '#!/bin/sh\nif [ "$1" = -u ]; then echo 1000; else exec /usr/bin/id "$@"; fi\n'


def stub_cdx(url: str, *, ca: str = "", github: str = "") -> bytes:
    """A cdx whose server is at `url`, which is no fleet's, and that looks for releases of Codex at `github`."""
    return baking.bake(url, STUB_KEY, "stub.example.net", ca, github).body


def write_program(path: Path, text: str) -> Path:
    """An executable script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class Machine:
    """A home with a PATH of its own."""

    def __init__(self, root: Path, *, codex: str | None = STUB_CODEX, path: str | None = None) -> None:
        self.root = root
        self.home = root / "home"
        self.bin = root / "bin"
        self.home.mkdir(parents=True)
        write_program(self.bin / "id", NOT_ROOT)
        # Version managers put shims on PATH that take longer than all else.
        (self.bin / "python3").symlink_to(Path(sys.executable).resolve())
        if codex is not None:
            write_program(self.bin / "codex", codex)
        search = path if path is not None else os.environ["PATH"]
        self.env = BASE_ENVIRONMENT | {"HOME": str(self.home), "PATH": f"{self.bin}:{search}", "NO_PROXY": "*"}

    @property
    def cdx(self) -> Path:
        """The installed wrapper."""
        return self.home / ".local" / "bin" / "cdx"

    def put_cdx(self, body: bytes) -> None:
        """Install a wrapper."""
        self.cdx.parent.mkdir(parents=True, exist_ok=True)
        self.cdx.write_bytes(body)
        self.cdx.chmod(0o700)

    @property
    def auth_file(self) -> Path:
        """This host's auth.json."""
        return self.home / ".codex" / "auth.json"

    def auth(self) -> dict[str, Any]:
        """The content of auth.json."""
        document: dict[str, Any] = json.loads(self.auth_file.read_text())
        return document

    def put_auth(self, document: object) -> None:
        """Lay an auth.json, as Codex does."""
        self.auth_file.parent.mkdir(mode=0o700, exist_ok=True)
        self.auth_file.write_text(json.dumps(document, indent=2))
        self.auth_file.chmod(0o600)

    def shell(self, command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command line in sh, as an admin who pastes it."""
        return self.run("sh", "-c", command, **env)

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a program on this host."""
        return subprocess.run(
            command,
            env=with_stub_keys(self.env | env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def run_cdx(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the wrapper."""
        return self.run(str(self.cdx), *arguments, **env)

    def note(self, name: str) -> dict[str, Any]:
        """One of cdx's own notes."""
        value: dict[str, Any] = json.loads((self.home / ".codex" / ".cdx" / name).read_text())
        return value

    def spooled(self) -> list[dict[str, Any]]:
        """The calls that wait to be sent."""
        return [json.loads(path.read_text()) for path in sorted(self.home.glob(".codex/.cdx/spool/*.json"))]


def host(fleet: Fleet, root: Path, **kwargs: Any) -> Machine:
    """A machine with this fleet's wrapper."""
    machine = Machine(root / f"machine{next(_numbers)}", **kwargs)
    machine.cdx.parent.mkdir(parents=True)
    name = f"wrapped{next(_numbers)}.example.net"
    fleet.wrapper(name, fleet.key(name), machine.cdx)
    machine.cdx.chmod(0o700)
    machine.env["NAME"] = name
    return machine


def seeing_mounts(script: str) -> list[str]:
    """The words before a command that alone is to see what a script of sh mounts; skips the test where it may not."""
    words = ["unshare", "-rm", "sh", "-c", f'{script} && exec "$@"', "sh"]
    if subprocess.run([*words, "true"], capture_output=True).returncode != 0:
        pytest.skip("this user cannot mount a file system")
    return words


def everyday_programs(root: Path) -> Path:
    """A folder with the programs of /usr/bin, but without a Codex or an npm that may be among them."""
    folder = root / "programs"
    folder.mkdir()
    programs = {path.name: path for place in ("/usr/bin", "/bin") for path in Path(place).iterdir()}
    for name in programs.keys() - {"cdx", "codex", "node", "nodejs", "npm", "npx"}:
        (folder / name).symlink_to(programs[name])
    return folder


def only_its_own_codex(machine: Machine) -> Machine:
    """Let the machine's cdx find no Codex of the whole machine that the tests run on."""
    places = '("/usr/local/bin", "/opt/codex/bin", ".local/bin", "/opt/homebrew/bin")'
    text = machine.cdx.read_text()
    assert f"USUAL_PLACES = {places}" in text
    machine.cdx.write_text(text.replace(f"USUAL_PLACES = {places}", 'USUAL_PLACES = (".local/bin",)'))
    (machine.home / ".codex" / ".cdx" / "state.json").unlink(missing_ok=True)  # it remembers where Codex was
    # It is not what its server has; but with a setting in the environment it does not update itself.
    name = next(line for line in text.splitlines() if line.startswith("CODEX_SYNC_FQDN="))
    machine.env["CODEX_SYNC_FQDN"] = name.split('"')[1]
    return machine


def machine_key(machine: Machine) -> str:
    """The API key in a machine's wrapper."""
    line = next(line for line in machine.cdx.read_text().splitlines() if line.startswith("CODEX_SYNC_API_KEY="))
    return line.split('"')[1]


class Terminal:
    """A program on a pseudo-terminal, of which it is the foreground job."""

    def __init__(self, machine: Machine, *arguments: str, **env: str) -> None:
        self.pid, self.descriptor = spawn(
            [str(machine.cdx), *(arguments or ("exec",))], with_stub_keys(machine.env | env)
        )
        self.seen = ""

    def read_until(self, text: str) -> None:
        """Read what the program writes until `text` has come."""
        deadline = time.monotonic() + 30
        while text not in self.seen:
            assert select.select([self.descriptor], [], [], deadline - time.monotonic())[0], self.seen
            try:
                self.seen += os.read(self.descriptor, 4096).decode()
            except OSError:  # the terminal's other end was closed
                break
        assert text in self.seen, self.seen

    def resize(self, columns: int, lines: int) -> None:
        """Give the window another size."""
        set_size(self.descriptor, columns, lines)

    def type(self, text: bytes) -> None:
        """Type on the keyboard."""
        os.write(self.descriptor, text)

    def wait(self) -> int:
        """Wait for the end; returns the wait status."""
        try:
            while data := os.read(self.descriptor, 4096):
                self.seen += data.decode()
        except OSError:
            pass
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.descriptor)
        return status
