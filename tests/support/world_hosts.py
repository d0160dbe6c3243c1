"""Hosts of a world: the real `cdx` with a stand-in for Codex, each with a home, an address and a state of its own."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests.support.balancer import Balancer
from tests.support.fleet import Fleet
from tests.support.machines import Machine
from tests.support.provider import Provider

STANDIN = Path(__file__).with_name("standin_codex.py")
FLEET_ACCOUNT, OTHER_ACCOUNT = "acc-1", "acc-2"
OTHER_LIFE = 86400
"""Seconds that an access token of a private login lives: whose Codex refreshes it is no part of a world."""
GRANT = "cdxr_"
CLOCK = "STANDIN_CLOCK_AHEAD"
TOLERANCE_SECONDS = 300
"""What a document may be dated ahead of the server's clock."""


class State(StrEnum):
    """What a host is to do when `cdx exec` is started there."""

    SHARED = "shared"
    """Works with the fleet's login."""
    OWN = "own"
    """Works with a private login."""
    LOGGED_OUT = "logged out"
    DISABLED = "disabled"
    MOVED = "moved"
    """The server knows it under another address."""


WORKS = frozenset([State.SHARED, State.OWN])


@dataclass
class Kill:
    """SIGKILL for a run, so many seconds after its start; for `cdx` alone, or for its Codex, too."""

    after: float
    codex_too: bool

    @classmethod
    def drawn(cls, chance: random.Random, longest: float = 0.5) -> "Kill":
        return cls(chance.uniform(0, longest), chance.random() < 0.5)


@dataclass
class Run:
    """A command on a host, and what came of it."""

    host: str
    command: str
    must_work: bool
    """Whether it has to end well, unless it is killed or a server is away meanwhile."""
    killed: bool = False
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    status: int = 0
    output: str = ""

    @property
    def is_cdx(self) -> bool:
        return self.command.startswith("cdx")

    @property
    def saw_dead_login(self) -> bool:
        return "dead login" in self.output

    def __str__(self) -> str:
        killed = ", killed" if self.killed else ""
        took = f"after {self.ended - self.began:.1f} s"
        return f"{self.host}: {self.command} ended with {self.status}{killed} {took}:\n{self.output}"


class Host:
    """One host. Its address is that of a gateway of its own, through which it reaches every server."""

    def __init__(self, number: int, fleet: Fleet, ports: list[int], root: Path, env: dict[str, str]) -> None:
        self.name = f"h{number}.example.net"
        self.state = State.SHARED
        self.must_sync = False
        """Whether it may hold a login that the fleet has, too: then nothing but a sync comes next."""
        self.private: dict[str, Any] | None = None
        self.keeps = True
        """Whether it may keep credentials after a run."""
        self.busy = threading.Lock()
        self._home_address = f"127.0.1.{number + 1}"
        self._moves = 0
        self.gateway = Balancer(ports, self._home_address)
        self.machine = Machine(root / f"host{number}", codex=standin())
        self.machine.env |= env | {"CODEX_SYNC_BASE_URL": f"https://localhost:{self.gateway.port}", "CDX_QUIET": "1"}
        self.machine.cdx.parent.mkdir(parents=True)
        registered = fleet.register(self.name)["host"]
        self.id = int(registered["id"])
        # The wrapper is fetched by another address than the host's own, which the server is to forget.
        fleet.wrapper(self.name, registered["api_key"], self.machine.cdx)
        self.machine.cdx.chmod(0o700)
        fleet.admin_call("POST", f"/admin/hosts/{self.id}/unbind")

    def __enter__(self) -> "Host":
        self.gateway.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.gateway.__exit__(None, None, None)

    @property
    def is_dated_wrong(self) -> bool:
        """Whether its clock is so far ahead that no date of it is taken."""
        return int(self.machine.env.get(CLOCK, "0")) > TOLERANCE_SECONDS

    def set_clock(self, ahead: int) -> None:
        """Let its Codex write dates that are so many seconds ahead."""
        self.machine.env[CLOCK] = str(ahead)

    def move(self) -> None:
        """Have another address from now on."""
        self._moves += 1
        self.gateway.source = self._home_address.replace("127.0.1.", f"127.0.{self._moves % 200 + 2}.")

    def auth(self) -> dict[str, Any] | None:
        """The content of auth.json, None without a whole one."""
        try:
            found = json.loads(self.machine.auth_file.read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def tokens(self) -> dict[str, Any]:
        """The tokens in auth.json."""
        return (self.auth() or {}).get("tokens") or {}

    def holds_grant(self) -> bool:
        return str(self.tokens().get("refresh_token", "")).startswith(GRANT)

    def cdx(
        self, *arguments: str, kill: Kill | None = None, must_work: bool = True, env: dict[str, str] | None = None
    ) -> Run:
        """Run `cdx`."""
        return self._run("cdx", str(self.machine.cdx), arguments, kill, env or {}, must_work=must_work)

    def codex(self, *arguments: str, must_work: bool = False, env: dict[str, str] | None = None) -> Run:
        """Run Codex without `cdx`."""
        return self._run("codex", str(self.machine.bin / "codex"), arguments, None, env or {}, must_work=must_work)

    def exec(self, *, kill: Kill | None = None, turns: int = 1, pause: float = 0) -> Run:
        """`cdx exec`, which works as the host's state says; it asks for so many messages, with pauses between."""
        env = {"STANDIN_TURNS": str(turns), "STANDIN_PAUSE": str(pause)}
        return self.cdx("exec", "say hi", kill=kill, must_work=self.state in WORKS, env=env)

    def _run(
        self,
        name: str,
        program: str,
        arguments: tuple[str, ...],
        kill: Kill | None,
        env: dict[str, str],
        *,
        must_work: bool,
    ) -> Run:
        run = Run(self.name, " ".join([name, *arguments]), must_work)
        process = subprocess.Popen(
            [program, *arguments],
            env=self.machine.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        timer = None
        if kill is not None:
            timer = threading.Timer(kill.after, _kill, (process, run, kill))
            timer.start()
        try:
            # Also of a Codex whose cdx was killed: it has the same end of the pipe.
            run.output = process.communicate(timeout=120)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            run.output = f"{process.communicate()[0]}\nit did not end within two minutes"
        if timer is not None:
            timer.cancel()
            timer.join()
        run.status, run.ended = process.returncode, time.monotonic()
        return run


def _kill(process: subprocess.Popen[str], run: Run, kill: Kill) -> None:
    if process.poll() is None:
        run.killed = True
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if kill.codex_too else os.kill)(process.pid, signal.SIGKILL)


def standin() -> str:
    """The stand-in for Codex as an executable script."""
    return f"#!{sys.executable} -IS\n" + STANDIN.read_text().partition("\n")[2]


def environment(provider: Provider, margin: float) -> dict[str, str]:
    """The variables with which the stand-in finds the provider."""
    return {"STANDIN_PROVIDER": provider.url, "STANDIN_MARGIN": str(margin)}
