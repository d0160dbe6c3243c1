"""Hosts of a fleet: separate homes on this machine, with a `codex` on their PATH."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from conftest import BASE_ENVIRONMENT

STUB_CODEX = """#!/bin/sh
case "$1" in --version) echo "codex-cli 0.169.0"; exit 0;; esac
echo "ran with: $*"
if [ -n "$NEW_AUTH" ]; then cp "$NEW_AUTH" "${CODEX_HOME:-$HOME/.codex}/auth.json"; fi
exit "${CODEX_EXIT:-0}"
"""
# As root the installer writes /usr/local/bin; a host of these tests keeps to its own home.
NOT_ROOT = '#!/bin/sh\nif [ "$1" = -u ]; then echo 1000; else exec /usr/bin/id "$@"; fi\n'


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
        if codex is not None:
            write_program(self.bin / "codex", codex)
        search = path if path is not None else os.environ["PATH"]
        self.env = BASE_ENVIRONMENT | {"HOME": str(self.home), "PATH": f"{self.bin}:{search}", "NO_PROXY": "*"}

    @property
    def cdx(self) -> Path:
        """The installed wrapper."""
        return self.home / ".local" / "bin" / "cdx"

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
            command, env=self.env | env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
        )

    def run_cdx(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the wrapper."""
        return self.run(str(self.cdx), *arguments, **env)
