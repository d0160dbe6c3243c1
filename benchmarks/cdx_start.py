"""The time that `cdx` adds before Codex starts, against Codex alone.

Codex is a stub that does nothing, so that its own start does not hide the difference. Each figure is the median over
runs that alternate with the bare stub. For comparison there is what no client in Python can do without: loading the
modules for HTTPS and JSON, and one call to the server. `python -m benchmarks.cdx_start [--runs N]` prints them.
"""

import argparse
import json
import os
import secrets
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

STUB = '#!/bin/sh\n[ "$1" = --version ] && echo "codex-cli 0.169.0"\nexit 0\n'
PROMPTS = 100
# A host keeps the compiled code of cdx, as of Python's own modules.
LEFT_OUT = ("CDXSYNC_", "CODEX_", "PYTHONDONTWRITEBYTECODE", "XDG_CACHE_HOME")
BASE = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT)}
MODULES = "import ssl, json, http.client"
CALL = """
connection = http.client.HTTPSConnection("localhost", {port}, context=ssl.create_default_context(cafile={ca!r}))
connection.request("GET", "/versions")
connection.getresponse().read()
"""


def run(runs: int = 15) -> list[dict[str, Any]]:
    """Measure; a list of {name, value (ms added), unit, ratio (of cdx's whole time to bare Codex's)}."""
    with tempfile.TemporaryDirectory() as folder, Fleet(Path(folder)).serving() as fleet:
        host = Host(fleet)
        rows = [
            host.measure("cdx_start.nothing_changed", runs),
            host.measure("cdx_start.nothing_compiled", runs, before=host.forget_compiled),
            host.measure("cdx_start.interpreter_alone", runs, lambda: host.python("-c", "pass")),
            host.measure("cdx_start.modules_alone", runs, lambda: host.python("-c", MODULES)),
            host.measure("cdx_start.modules_and_one_call", runs, lambda: host.python("-c", MODULES + host.call)),
            host.measure("cdx_start.refused_connection", runs, lambda: host.start_without(free_port())),
        ]
        with silent_port() as port:
            # The first start waits for the time-out; those within two minutes after it do not.
            host.answered()
            rows.append(host.measure("cdx_start.silent_server_first", 1, lambda: host.start_without(port)))
            rows.append(host.measure("cdx_start.silent_server_again", 3, lambda: host.start_without(port)))
        host.answered()
        fleet.import_prompts(PROMPTS)
        rows.append(host.measure(f"cdx_start.{PROMPTS}_prompts_to_pull", max(3, runs // 3), before=host.forget_prompts))
        return rows


class Fleet:
    """A server of its own with a document."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"

    def cli(self, *arguments: str) -> str:
        """Run `cdxsync` on this server's home."""
        command = [sys.executable, "-m", "cdxsync", "--home", str(self.home), *arguments]
        return subprocess.run(command, env=BASE, check=True, capture_output=True, text=True).stdout

    @contextmanager
    def serving(self) -> Iterator["Fleet"]:
        """The server, until the end of the block."""
        command = [sys.executable, "-m", "cdxsync", "--home", str(self.home), "serve"]
        command += ["--listen", f"127.0.0.1:{self.port}", "--public-url", self.url]
        server = subprocess.Popen(command, env=BASE, stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            while not server.stderr.readline().startswith("Listening on "):
                assert server.poll() is None, "the server did not start"
            document = self.root / "auth.json"
            stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            tokens = {"access_token": secrets.token_hex(40), "refresh_token": secrets.token_hex(20)}
            document.write_text(json.dumps({"OPENAI_API_KEY": None, "tokens": tokens, "last_refresh": stamp}))
            self.cli("auth", "upload", str(document))
            yield self
        finally:
            server.terminate()
            server.wait(30)

    def import_prompts(self, number: int) -> None:
        """Store prompts of a usual length."""
        folder = self.root / "prompts"
        folder.mkdir()
        for index in range(number):
            (folder / f"prompt{index}.md").write_text(
                f"---\ndescription: Prompt {index}\n---\n" + "Do it well.\n" * 100
            )
        self.cli("prompts", "import", str(folder))


class Host:
    """A host with its `cdx`, and the stub as its Codex."""

    def __init__(self, fleet: Fleet) -> None:
        self.home = fleet.root / "host"
        self.bin = self.home / ".local" / "bin"
        self.bin.mkdir(parents=True)
        self.codex = self.bin / "codex"
        self.codex.write_text(STUB)
        self.codex.chmod(0o700)
        # A version manager's shim would be measured instead of us.
        (self.bin / "python3").symlink_to(Path(sys.executable).resolve())
        self.env = BASE | {"HOME": str(self.home), "PATH": f"{self.bin}:/usr/bin:/bin"}
        self.cdx = self.bin / "cdx"
        key = json.loads(fleet.cli("--json", "hosts", "register", "bench.example.net"))["host"]["api_key"]
        request = urllib.request.Request(f"{fleet.url}/wrapper/download", headers={"X-API-Key": key})
        trust = ssl.create_default_context(cafile=str(fleet.home / "pki" / "ca.pem"))
        with urllib.request.urlopen(request, context=trust) as response:
            self.cdx.write_bytes(response.read())
        self.cdx.chmod(0o700)
        self.call = CALL.format(port=fleet.port, ca=str(fleet.home / "pki" / "ca.pem"))
        self.start()

    def start(self, **env: str) -> None:
        """Run cdx, and through it Codex."""
        subprocess.run(
            [self.cdx, "exec"], env=self.env | env, check=True, stdin=subprocess.DEVNULL, capture_output=True
        )

    def bare(self) -> None:
        """Run Codex alone."""
        subprocess.run([self.codex, "exec"], env=self.env, check=True, stdin=subprocess.DEVNULL, capture_output=True)

    def python(self, *arguments: str) -> None:
        """Run the interpreter alone."""
        subprocess.run([self.bin / "python3", *arguments], env=self.env, check=True, capture_output=True)

    def start_without(self, port: int) -> None:
        """Run cdx where no server answers."""
        self.start(CODEX_SYNC_BASE_URL=f"https://127.0.0.1:{port}")

    def answered(self) -> None:
        """Be a host whose server answered the last time."""
        self.start()

    def forget_prompts(self) -> None:
        """Be a host that has no prompts yet."""
        home = self.home / ".codex"
        shutil.rmtree(home / "prompts", ignore_errors=True)
        for path in (home / ".prompt-baseline.json", home / ".cdx" / "prompts.json"):
            path.unlink(missing_ok=True)

    def forget_compiled(self) -> None:
        """Be a host whose cdx was never started."""
        shutil.rmtree(self.home / ".cache", ignore_errors=True)

    def measure(
        self,
        name: str,
        runs: int,
        start: Callable[[], None] | None = None,
        before: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """The median added time of a way to start, in milliseconds."""
        ours, bare = [], []
        for _ in range(runs):
            before()
            ours.append(timed(start or self.start))
            bare.append(timed(self.bare))
        added = statistics.median(ours) - statistics.median(bare)
        ratio = statistics.median(ours) / statistics.median(bare)
        return {"name": name, "value": round(added * 1000, 1), "unit": "ms added", "ratio": round(ratio, 2)}


def timed(work: Callable[[], None]) -> float:
    """Seconds that it takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@contextmanager
def silent_port() -> Iterator[int]:
    """A port whose connections are accepted by the system and never answered, until the end of the block."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield int(listener.getsockname()[1])


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Time that cdx adds before Codex starts.")
    parser.add_argument("--runs", type=int, default=15)
    for row in run(parser.parse_args().runs):
        print(json.dumps(row))
