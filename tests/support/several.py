"""Servers with homes of their own on one database behind a balancer; load that remembers what was acknowledged."""

import collections
import contextlib
import functools
import hashlib
import itertools
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from tests.support.balancer import Balancer
from tests.support.documents import make_auth, with_auths
from tests.support.fleet import Client, Fleet, free_port
from tests.support.together import at_once

FIRST_DAY = datetime(2024, 1, 1)
LONG_AGO = {"last_refresh": "2000-01-01T00:00:00Z", "digest": "0" * 64}
RETRY_SECONDS = 0.05
"""After which a client tries again; hosts wait longer."""


@dataclass(frozen=True)
class Site:
    """The servers, and the balancer under whose URL hosts know them."""

    servers: tuple[Fleet, ...]
    balancer: Balancer

    @property
    def first(self) -> Fleet:
        """One of them; its clients too go through the balancer."""
        return self.servers[0]

    @contextlib.contextmanager
    def directly(
        self, server: Fleet, api_key: str | None = None, *, certificate: str | None = None
    ) -> Iterator[Client]:
        """A client of one server, past the balancer."""
        with server.client(api_key, certificate=certificate) as client:
            client.url = f"https://localhost:{server.port}"
            yield client

    def start(self) -> None:
        """Start both at the same time."""
        at_once([functools.partial(_start, server) for server in self.servers])

    def log(self) -> str:
        """What both have logged."""
        return "".join("".join(server.output) for server in self.servers)


def _start(server: Fleet) -> None:
    server.start()


@contextlib.contextmanager
def site(folder: Path, env: dict[str, str], count: int = 2) -> Iterator[Site]:
    """Homes as an admin makes them on several machines: certificates, keyring and settings of the first are copied.

    Nothing is started yet.
    """
    ports = [free_port() for _ in range(count)]
    with Balancer(ports) as balancer:
        url = f"https://localhost:{balancer.port}"
        servers: list[Fleet] = []
        for number, port in enumerate(ports):
            home = folder / f"server{number}" / "home"
            server = Fleet(home, env=env)
            server.port, server.url = port, url
            if number == 0:
                server.cli("init", "--public-url", url)
            else:
                shutil.copytree(servers[0].home, home, ignore=shutil.ignore_patterns("cdxsync.db*", "throttle.db*"))
            servers.append(server)
        try:
            yield Site(tuple(servers), balancer)
        finally:
            for server in servers:
                server.stop()


@dataclass
class Load:
    """Hosts that store, report, read and are registered through the balancer, whatever becomes of what is behind it.

    What gets no answer, or 503, is sent again until it is acknowledged. Everything that must not be goes to `wrong`.
    """

    site: Site
    keys: list[str]
    sent: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Documents as the server keeps them, by their date."""
    lines: list[str] = field(default_factory=list)
    registered: dict[str, str] = field(default_factory=dict)
    wrong: list[Any] = field(default_factory=list)
    newest: str = ""
    """The latest date of a document that a server has acknowledged or served."""
    acknowledged: int = 0
    refused: int = 0
    cut_off: int = 0
    server_kills: int = 0

    def __post_init__(self) -> None:
        self.changed = threading.Condition()
        self.killing = threading.Lock()
        self.over = threading.Event()
        self._turns: dict[object, itertools.count[int]] = collections.defaultdict(itertools.count)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Under load; at the end each client finishes what it is at. A further time it goes on from there."""
        self.over.clear()
        clients = [
            functools.partial(self._go_on, key, functools.partial(self._host, number), number)
            for number, key in enumerate(self.keys)
        ]
        clients += [functools.partial(self._go_on, self.keys[0], self._reader, "reader")]
        clients += [functools.partial(self._go_on, None, self._admin, "admin")]
        with ThreadPoolExecutor(1) as one:
            done = one.submit(at_once, clients)
            try:
                yield
            finally:
                self.over.set()
            done.result()

    def wait_for(self, more: int) -> None:
        """Wait until so many more calls were acknowledged."""
        with self.changed:
            wanted = self.acknowledged + more
            found = self.changed.wait_for(lambda: self.acknowledged >= wanted or self.wrong, 120)
        assert self.wrong == []
        assert found, f"no progress: {self.acknowledged} of {wanted}; {self.site.log()[-3000:]}"

    def kill(self, server: Fleet) -> None:
        """Kill a server, which ends the connections to it."""
        with self.killing:
            process = server.processes.pop()
            process.kill()
            process.wait(30)
            self.server_kills += 1

    def _go_on(self, api_key: str | None, step: Callable[["_Insisting", int], None], name: object) -> None:
        with self.site.first.client(api_key, certificate=None if api_key else "admin") as client:
            insisting = _Insisting(self, client)
            while not self.over.is_set():
                step(insisting, next(self._turns[name]))

    def _host(self, number: int, client: "_Insisting", turn: int) -> None:
        moment = FIRST_DAY + timedelta(seconds=turn, microseconds=number)
        document = make_auth(moment.isoformat(timespec="microseconds") + "Z", f"{turn}/{number}")
        self.sent[document["last_refresh"]] = with_auths(document)
        answer = client.until_done("POST", "/auth", json={"command": "store", "auth": document})
        self._see(answer, document["last_refresh"])
        line = f"turn {turn} host {number}"
        headers = {"Idempotency-Key": secrets.token_hex(8)}
        client.until_done("POST", "/usage", json={"total": 1, "line": line}, headers=headers)
        self.lines.append(line)

    def _reader(self, client: "_Insisting", turn: int) -> None:
        newest = self.newest
        answer = client.until_done("POST", "/auth", json=LONG_AGO)
        if newest or answer["status"] != "missing":
            self._see(answer, newest)

    def _see(self, answer: dict[str, Any], least: str) -> None:
        """What any server says from now on is whole, and as new as what any of them has acknowledged before.

        A store that is sent again, as its answer was lost, is `unchanged` and brings no document.
        """
        date = answer["canonical_last_refresh"]
        with self.changed:
            whole = answer["status"] == "unchanged" or answer["auth"] == self.sent.get(date)
            if date is None or date < least or not whole:
                self.wrong.append(("not the newest, or not whole", least, answer))
            else:
                self.newest = max(self.newest, date)

    def _admin(self, client: "_Insisting", turn: int) -> None:
        fqdn = f"n{turn}.example.net"
        data = client.until_done("POST", "/admin/hosts/register", json={"fqdn": fqdn})
        self.registered[fqdn] = data["host"]["api_key"]

    def check(self) -> None:
        """After the storm, with everything running: nothing acknowledged is lost, and both servers agree."""
        assert self.wrong == []
        first = self.site.first
        answers = []
        for server in self.site.servers:
            with self.site.directly(server, self.keys[0]) as client:
                data = client.auth(**LONG_AGO).json()["data"]
            answers.append((data["canonical_digest"], data["auth"]))
            assert data["auth"] == self.sent[data["canonical_last_refresh"]]
            assert data["canonical_last_refresh"] >= self.newest
            checked = server.cli("db", "check", check=False)
            assert (checked.returncode, checked.stdout) == (0, ""), checked
        assert all(answer == answers[0] for answer in answers)
        found = [line for (line,) in first.rows("SELECT line FROM token_usages")]
        assert len(found) == len(set(found)), "usage was counted twice"
        assert set(self.lines) <= set(found)
        assert [int(row[0]) for row in first.rows("SELECT sum(events) FROM usage_fleet_days")] == [len(found)]
        kept = dict(first.rows("SELECT fqdn, api_key_sha256 FROM hosts"))
        for fqdn, key in self.registered.items():
            assert kept[fqdn] == hashlib.sha256(key.encode()).hexdigest()
        dates = [date for (date,) in first.rows("SELECT last_refresh FROM auth_payloads ORDER BY id")]
        assert dates == sorted(set(dates)), "the history goes back, or has one twice"
        assert "Traceback" not in self.site.log()


class _Insisting:
    """A client that sends a call until it is acknowledged."""

    def __init__(self, load: Load, client: Client) -> None:
        self._load, self._client = load, client
        self._seen_kills = load.server_kills

    def until_done(self, method: str, path: str, **call: Any) -> dict[str, Any]:
        """`data` of the answer. Before it there may be 503, and the end of a connection to a server that was killed."""
        load = self._load
        end = time.monotonic() + 120
        while time.monotonic() < end:
            kills = load.server_kills
            try:
                answer = self._client.call(method, path, **call)
            except requests.RequestException as error:
                load.cut_off += 1
                with load.killing:
                    if load.server_kills == self._seen_kills:
                        load.wrong.append(("no answer although no server was killed", repr(error)))
                load.over.wait(RETRY_SECONDS)
                continue
            self._seen_kills = kills  # the connection has outlived these, and none since
            with load.changed:
                load.acknowledged += answer.status_code == 200
                load.changed.notify_all()
            if answer.status_code == 200:
                data: dict[str, Any] = answer.json()["data"]
                return data
            load.refused += 1
            if answer.status_code != 503 or not answer.headers.get("Retry-After"):
                load.wrong.append((method, path, answer.status_code, answer.text))
                break
            load.over.wait(RETRY_SECONDS)
        raise AssertionError(f"{method} {path} was never acknowledged: {load.wrong}")
