"""A fleet as it lives: a strict provider, servers, hosts with the real `cdx`, and what must hold whatever happens.

    with world(folder, env, seed=1, hosts=5) as one:
        one.log_in()
        one.live(10, ALL)               # events drawn from the seed, until so many access tokens were refreshed
        settle(one)                     # every host comes back (`world_frame`)
        assert one.wrong() == []
        print(one.table())

Access tokens live for seconds, and the server refreshes each at half of its life. Around each command of a host the
world knows whether it has to end well: it need not when it was killed, or a server was away meanwhile.
"""

import contextlib
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from tests.support import world_hosts
from tests.support.fleet import Fleet, children
from tests.support.provider import Provider, Refresh, running_provider
from tests.support.several import Site, site
from tests.support.together import at_once, until
from tests.support.world_hosts import FLEET_ACCOUNT, Host, Run, State

LIFE_SECONDS = 3
GRACE_SECONDS = 6.0
"""The API takes a token so long after its expiry: what a call and the start of a program take is as nothing beside the
days that a token lives elsewhere, and is much beside these seconds."""
MARGIN_SECONDS = 0.3
"""The stand-in refreshes a token that has less to go."""
UNLIMITED = {"CDXSYNC_FAILURES_PER_MINUTE": "0", "CDXSYNC_CALLS_PER_MINUTE": "0"}
SECRET = re.compile(r"cdxr_[0-9a-f]{16}|cdx_[0-9a-f]{16}|rt-\d+-\d+|eyJ[\w-]+\.eyJ[\w-]+")
NO_ANSWER = ("does not answer in time", "cannot be reached")
Event = Callable[["World", random.Random], None]


class World:
    """Use `world` to have one."""

    def __init__(self, provider: Provider, servers: Site, hosts: list[Host], seed: int) -> None:
        self.provider, self.site, self.hosts, self.seed = provider, servers, hosts, seed
        self.chance = random.Random(seed)
        self.runs: list[Run] = []
        self.counts: Counter[str] = Counter()
        self.broken: list[str] = []
        """What was seen to be wrong on the way."""
        self._outages: list[list[float]] = []
        self._noting, self._befalling = threading.Lock(), threading.Lock()
        self._begun = time.monotonic()

    @property
    def fleet(self) -> Fleet:
        """One of the servers; its clients reach any."""
        return self.site.first

    def admin(self, method: str, path: str, **call: Any) -> Any:
        """An admin's call, again until a server that is not killed meanwhile answers."""
        end = time.monotonic() + 60
        while True:
            try:
                with self.fleet.client(certificate="admin") as client:
                    answer = client.call(method, path, **call)
            except requests.RequestException:
                answer = None
            if answer is not None and answer.status_code == 200:
                return answer.json()["data"]
            assert time.monotonic() < end, answer and answer.text
            time.sleep(0.1)

    def log_in(self, **login: Any) -> None:
        """Give the fleet a login."""
        self.fleet.upload(self.provider.login(**login))

    def canonical_tokens(self) -> dict[str, Any]:
        """The tokens of the canonical document, as the server alone knows them."""
        tokens: dict[str, Any] = self.admin("GET", "/admin/auth?include_body=1")["auth"]["tokens"]
        return tokens

    def note(self, run: Run) -> Run:
        """Remember a run; for events."""
        with self._noting:
            self.runs.append(run)
        if len(self.runs) % 500 == 0:
            print(f"{len(self.runs)} runs, {self.provider.refreshes} lives, {len(self.lost)} logins lost", flush=True)
        return run

    def saw(self, problem: str, host: Host | None = None) -> None:
        """Note that something must not be, with what has happened on its host."""
        with self._noting:
            mine = [run for run in self.runs if host is not None and run.host == host.name]
            story = [f"  {run.command}: {run.status}{', killed' if run.killed else ''}" for run in mine[-12:]]
            self.broken.append("\n".join([problem, *story]))

    def count(self, what: str) -> None:
        """Count an event."""
        with self._noting:
            self.counts[what] += 1

    @contextlib.contextmanager
    def free_host(self, chance: random.Random, *states: State, only_runs: bool = False) -> Iterator[Host | None]:
        """A host in one of these states with which nothing else happens within the block; None when there is none.

        One that keeps no credentials is among them with `only_runs`.
        """
        hosts = [host for host in self.hosts if host.state in states and (host.keeps or only_runs)]
        for host in chance.sample(hosts, len(hosts)):
            if host.busy.acquire(blocking=False):
                try:
                    if host.state in states:
                        yield host
                        return
                finally:
                    host.busy.release()
        yield None

    @contextlib.contextmanager
    def servers_alone(self) -> Iterator[bool]:
        """Whether nothing else befalls the servers within the block."""
        alone = self._befalling.acquire(blocking=False)
        try:
            yield alone
        finally:
            if alone:
                self._befalling.release()

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """What runs meanwhile need not work."""
        interval = [time.monotonic(), float("inf")]
        with self._noting:
            self._outages.append(interval)
        try:
            yield
        finally:
            interval[1] = time.monotonic()

    def was_away(self, run: Run) -> bool:
        """Whether a server was away while it ran."""
        return any(begin < run.ended and end > run.began for begin, end in self._outages)

    def kill_server(self, server: Fleet) -> None:
        """SIGKILL for a server with all its workers, but for a call to the provider, which has a session of its own."""
        process = server.processes.pop()
        own = [pid for pid in children(process) if _session(pid) == _session(process.pid)]
        for pid in [process.pid, *own]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(30)

    def back_to_work(self) -> None:
        """Wait until a server that was killed has taken up what it left, and the login is refreshed again.

        Once nothing is open, neither the lease of a dead server need be waited for, nor the pause after a failure.
        """
        until(lambda: self.fleet.rows("SELECT count(*) FROM refresh_intents WHERE outcome IS NULL")[0][0] == 0)
        refreshes = self.provider.refreshes
        past = "2026-01-01T00:00:00+00:00"
        [(owner,)] = self.fleet.rows("SELECT owner FROM jobs WHERE name = 'refresh'")
        if owner is not None and not Path(f"/proc/{owner.split(':')[-2]}").exists():
            statement = "UPDATE jobs SET lease_until = ? WHERE name = 'refresh' AND owner = ?"
            self.fleet.execute(statement, past, owner)

        def has_refreshed() -> bool:
            self.fleet.execute("UPDATE jobs SET next_run = ?, not_before = NULL WHERE name = 'refresh'", past)
            return self.provider.refreshes > refreshes or bool(self.provider.ended)

        until(has_refreshed, every=0.2)

    def live(self, lives: int, events: Sequence[tuple[Event, float]], most_at_once: int = 4) -> None:
        """Let events come, by their weights, until so many access tokens were refreshed, or the login is lost."""
        done = self.provider.refreshes + lives
        names = [event for event, _ in events]
        weights = [weight for _, weight in events]
        with ThreadPoolExecutor(most_at_once + 1) as threads:
            while self.provider.refreshes < done and not self.lost and not self.broken:
                drawn = self.chance.choices(names, weights, k=self.chance.randint(1, most_at_once))
                going = [threads.submit(event, self, random.Random(self.chance.random())) for event in drawn]
                for one in going:
                    one.result()

    @property
    def lost(self) -> list[str]:
        """The logins of the fleet's account that have ended."""
        return [f"login {end.login}: {end.how}" for end in self.provider.ended if end.account == FLEET_ACCOUNT]

    @property
    def early(self) -> list[Refresh]:
        """Refreshes of tokens with more than half of their life to go, which no API had refused."""
        taken = [one for one in self.provider.taken if one.reason != "unauthorized_recovery"]
        return [one for one in taken if one.left > one.life / 2]

    def unworked(self) -> list[Run]:
        """Runs that had to work and did not."""
        failed = [run for run in self.runs if run.must_work and run.status != 0 and not self.excused(run)]
        late = [run for run in failed if self.is_late(run)]
        return failed if len(late) > 2 + len(self.runs) / 50 else [run for run in failed if run not in late]

    def excused(self, run: Run) -> bool:
        """Whether a run need not work."""
        return run.killed or self.was_away(run)

    def is_late(self, run: Run) -> bool:
        """Whether `cdx` took a busy server for one that is away, which it soon does after an outage.

        Elsewhere it then goes on with what it has; here that has expired.
        """
        return any(text in run.output for text in NO_ANSWER)

    def dead_runs(self) -> list[Run]:
        """Runs of `cdx` that met a dead login; not even a kill is a reason for that."""
        return [run for run in self.runs if run.is_cdx and run.saw_dead_login]

    def leaks(self) -> list[str]:
        """Secrets in what servers and commands say, in rows that admins see, and in the notes of `cdx`."""
        said = [("a server's log", self.site.log()), *((str(run.command), run.output) for run in self.runs)]
        for table in ("logs", "jobs", "refresh_intents"):
            said += [(table, str(row)) for row in self.fleet.rows(f"SELECT * FROM {table}")]
        for host in self.hosts:
            notes = [path for path in host.machine.auth_file.parent.glob(".cdx/**/*") if path.is_file()]
            said += [(f"{host.name}: {path.name}", path.read_text(errors="replace")) for path in notes]
        found = [(where, SECRET.search(text)) for where, text in said]
        return [f"{where}: {match.group()[:12]}…" for where, match in found if match]

    def wrong(self) -> list[str]:
        """All that must not be."""
        return [
            *self.broken,
            *(f"LOST {one}" for one in self.lost),
            *(f"DEAD {run}" for run in self.dead_runs()),
            *(f"FAILED {run}" for run in self.unworked()),
            *(f"EARLY {one}" for one in self.early),
            *(f"LEAKED {one}" for one in self.leaks()),
            *(["the log has a traceback"] if "Traceback" in self.site.log() else []),
        ]

    def table(self) -> str:
        """What has happened, in figures."""
        worked = sum(run.status == 0 for run in self.runs)
        failed = [run for run in self.runs if run.must_work and run.status != 0]
        excused = [run for run in failed if self.excused(run)]
        late = sum(self.is_late(run) and not self.excused(run) for run in failed)
        forced = sum(one.reason == "unauthorized_recovery" for one in self.provider.taken)
        figures: list[tuple[str, object]] = [
            ("seed", self.seed),
            ("seconds", round(time.monotonic() - self._begun)),
            ("hosts", len(self.hosts)),
            ("servers", len(self.site.servers)),
            ("token lives (upstream refreshes)", self.provider.refreshes),
            ("  forced by a refused token", forced),
            ("  early, or a second one in a life", len(self.early)),
            ("logins lost", len(self.lost)),
            ("runs on hosts", len(self.runs)),
            ("  that worked", worked),
            ("  killed", sum(run.killed for run in self.runs)),
            ("  cut off by an outage", sum(not run.killed for run in excused)),
            ("  that did not wait for a busy server", late),
            (
                "  refused or given up, as they had to be",
                sum(run.status != 0 and not run.must_work for run in self.runs),
            ),
            ("  with a dead login", len(self.dead_runs())),
            ("  that failed otherwise", len(self.unworked())),
            ("requests with a token of a dead login", len(self.provider.dead_requests)),
            *sorted(self.counts.items()),
        ]
        width = max(len(name) for name, _ in figures)
        return "\n".join(f"{name:{width}}  {value:>8}" for name, value in figures)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


@contextlib.contextmanager
def world(
    folder: Path,
    env: dict[str, str],
    *,
    seed: int,
    hosts: int,
    servers: int = 1,
    life: int = LIFE_SECONDS,
) -> Iterator[World]:
    """A world that has no login yet; `env` are settings of the servers."""
    with contextlib.ExitStack() as stack:
        provider = stack.enter_context(running_provider(life, grace=GRACE_SECONDS))
        settings = provider.environment() | UNLIMITED | env
        running = stack.enter_context(site(folder, settings, servers))
        running.start()
        ports = [server.port for server in running.servers]
        codex = world_hosts.environment(provider, MARGIN_SECONDS)
        found = [stack.enter_context(Host(number, running.first, ports, folder, codex)) for number in range(hosts)]
        yield World(provider, running, found, seed)


def together(hosts: Sequence[Host], command: Callable[[Host], None]) -> None:
    """Something on all hosts at the same moment, as their cron does it."""
    barrier = threading.Barrier(len(hosts), timeout=60)

    def one(host: Host) -> None:
        barrier.wait()
        command(host)

    at_once([lambda host=host: one(host) for host in hosts])  # type: ignore[misc]
