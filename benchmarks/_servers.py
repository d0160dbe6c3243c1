"""Servers to measure, as processes of their own: cdxsync on a home made for it, and the bare one."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

THREADS = 16
HOSTS = 100
"""Hosts that call in turn, as a fleet does."""


@dataclass
class Home:
    """An initialised home with hosts, a canonical document and usage rows."""

    path: Path
    keys: list[str] = field(repr=False, default_factory=list)
    digest: str = ""
    database_url: str = field(repr=False, default="")

    @property
    def pki(self) -> Path:
        """Its certificates."""
        return self.path / "pki"


@dataclass(frozen=True)
class Running:
    """A server that listens."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://localhost:{self.port}"


def environment(database_url: str = "") -> dict[str, str]:
    """This one, without settings of cdxsync; it calls no other service, and its throttle counts but never refuses."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CDXSYNC_", "OPENAI_"))}
    quiet = {"GITHUB_API_URL": "", "CHATGPT_BASE_URL": "", "CDXSYNC_RUNNER": "off", "CDXSYNC_TOKEN_URL": ""}
    given = {"CDXSYNC_DATABASE_URL": database_url} if database_url else {}
    return kept | quiet | {"CDXSYNC_CALLS_PER_MINUTE": "1000000"} | given


def document() -> dict[str, Any]:
    """A document as Codex writes it."""
    access = ".".join(secrets.token_urlsafe(size) for size in (30, 900, 40))
    return {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {
            "id_token": ".".join(secrets.token_urlsafe(size) for size in (30, 900, 40)),
            "access_token": access,
            "refresh_token": secrets.token_urlsafe(60),
            "account_id": secrets.token_hex(16),
        },
        "last_refresh": "2026-01-01T00:00:00.123456789Z",
    }


@contextlib.contextmanager
def home(*, hosts: int = HOSTS, usage_rows: int = 0, prompts: int = 0, database_url: str = "") -> Iterator[Home]:
    """A home in a folder that goes at the end, on its own SQLite file or on the empty database of a URL."""
    with tempfile.TemporaryDirectory(prefix="cdxsync-bench-") as folder:
        path = Path(folder) / "home"
        command = [sys.executable, "-m", "benchmarks._fill", str(path)]
        command += [f"--hosts={hosts}", f"--usage-rows={usage_rows}", f"--prompts={prompts}"]
        done = subprocess.run(command, env=environment(database_url), check=True, capture_output=True, text=True)
        digest, *keys = done.stdout.split()
        yield Home(path, keys, digest, database_url)


@contextlib.contextmanager
def same_home(where: Home) -> Iterator[Home]:
    """A copy of a home, as on another machine, for a further server on its database."""
    with tempfile.TemporaryDirectory(prefix="cdxsync-bench-") as folder:
        path = Path(folder) / "home"
        shutil.copytree(where.path, path, ignore=shutil.ignore_patterns("throttle.db*", "server.log"))
        yield replace(where, path=path)


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _stopped_at_end(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def cdxsync(where: Home, *arguments: str) -> Iterator[Running]:
    """`cdxsync serve` on a home."""
    port = free_port()
    command = [sys.executable, "-m", "cdxsync", "--home", str(where.path), "serve", "--listen", f"127.0.0.1:{port}"]
    log = where.path / "server.log"
    # Into a file, as a pipe without a reader would fill with the access log.
    with log.open("w") as errors:
        process = subprocess.Popen([*command, *arguments], env=environment(where.database_url), stderr=errors)
    with _stopped_at_end(process):
        while "Listening on " not in log.read_text():
            if process.poll() is not None:
                raise RuntimeError(f"the server did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield Running(port, process.pid)


@contextlib.contextmanager
def bare(where: Home, *, size: int) -> Iterator[Running]:
    """The baseline with the same certificate and as many threads; its answers have `size` bytes."""
    command = [sys.executable, "-m", "benchmarks._bare", f"--threads={THREADS}", f"--size={size}"]
    command += [f"--certificate={where.pki / 'server.pem'}", f"--key={where.pki / 'server.key'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with _stopped_at_end(process):
        assert process.stdout is not None
        yield Running(int(process.stdout.readline()), process.pid)


def processor_seconds(pid: int) -> float:
    """What a process and those that it has started have used of the processors so far."""
    total, waiting = 0.0, [pid]
    while waiting:
        one = Path(f"/proc/{waiting.pop()}")
        try:
            times = (one / "stat").read_text().rpartition(")")[2].split()[11:15]  # of its own, and of ended children
            waiting += map(int, (one / "task" / one.name / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
    return total


def memory_mb(pid: int) -> float:
    """The resident memory of a process, in MB, without what it shares with others."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    found = {line.split(":")[0]: line.split()[1] for line in text.splitlines()[1:]}
    return (int(found["Private_Clean"]) + int(found["Private_Dirty"])) / 1024
