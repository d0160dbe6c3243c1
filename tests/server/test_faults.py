"""A server that is killed, out of space, locked out of its database, or whose clock jumps, and what is left then.

`FAULT_ROUNDS` says how often it is killed; a release is worth 50.
"""

import contextlib
import ctypes
import ctypes.util
import functools
import hashlib
import os
import random
import resource
import signal
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from cdxsync.server import tls
from tests.support.documents import make_auth, with_auths
from tests.support.fleet import Fleet, children, running_fleet
from tests.support.running import RESET, Running, ask, open_tls, read_all, running, trusting
from tests.support.together import at_once, until

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "5"))
HOSTS = 4
FIRST_DAY = datetime(2024, 1, 1)


def rows(fleet: Fleet, statement: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(fleet.home / "cdxsync.db", timeout=30)) as database:
        return database.execute(statement).fetchall()


class Load:
    """Hosts that store, report usage and are registered; remembers what was acknowledged.

    After so many acknowledgements it kills what `kill` kills, and ends when `go_on` more have come.
    """

    def __init__(
        self, fleet: Fleet, keys: list[str], turn: int, kill: Callable[[], None], *, kill_after: int, go_on: int = 0
    ) -> None:
        self.fleet, self.keys, self.turn, self.kill = fleet, keys, turn, kill
        self.sent: list[dict[str, Any]] = []
        self.stored: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self.registered: dict[str, str] = {}
        self.served: list[Any] = []
        self.unexpected: list[Any] = []
        self._count, self._kill_after, self._end_after = 0, kill_after, kill_after + go_on
        self._lock = threading.Lock()
        self._killed, self._over = threading.Event(), threading.Event()

    def run(self) -> None:
        at_once(
            [functools.partial(self._until_over, self._host, number) for number in range(HOSTS)]
            + [functools.partial(self._until_over, self._admin, 0)]
        )

    def _until_over(self, step: Any, number: int) -> None:
        client = self.fleet.client(self.keys[number]) if step == self._host else self.fleet.client(certificate="admin")
        with client as session:
            turn = 0
            while not self._over.is_set():
                try:
                    step(session, number, turn)
                except requests.RequestException:
                    assert self._killed.wait(60), "a request failed although nothing was killed"
                turn += 1

    def _host(self, client: Any, number: int, turn: int) -> None:
        moment = FIRST_DAY + timedelta(days=self.turn, seconds=turn, microseconds=number)
        stamp = moment.isoformat(timespec="microseconds") + "Z"
        document = make_auth(stamp, f"{self.turn}/{turn}/{number}")
        with self._lock:
            self.sent.append(document)
        answer = client.auth(command="store", auth=document)
        data = self._acknowledged(answer)
        self.served.append(data["auth"])
        self.stored.append(document)
        line = f"round {self.turn} turn {turn} host {number}"
        self._acknowledged(client.call("POST", "/usage", json={"total": 1, "line": line}))
        self.lines.append(line)

    def _admin(self, client: Any, number: int, turn: int) -> None:
        fqdn = f"r{self.turn}n{turn}.example.net"
        data = self._acknowledged(client.call("POST", "/admin/hosts/register", json={"fqdn": fqdn}))
        self.registered[fqdn] = data["host"]["api_key"]

    def _acknowledged(self, answer: requests.Response) -> dict[str, Any]:
        if answer.status_code != 200:
            self.unexpected.append((answer.status_code, answer.text))
        data: dict[str, Any] = answer.json()["data"]
        with self._lock:
            self._count += 1
            kill, over = self._count == self._kill_after, self._count >= self._end_after
        if kill:
            self.kill()
            self._killed.set()
        if over and self._killed.wait(60):
            self._over.set()
        return data

    def check(self, fleet: Fleet, sent: list[dict[str, Any]]) -> None:
        """What was acknowledged is there, and what was served is one of all documents ever `sent`, whole."""
        newest = max((document["last_refresh"] for document in self.stored), default="")
        canonical = fleet.canonical()
        whole = [with_auths(document) for document in sent]
        assert (canonical is None and not newest) or canonical in whole
        assert newest <= str((canonical or {"last_refresh": ""})["last_refresh"])
        assert all(document in whole for document in self.served), "half a document was served"
        known = {line for (line,) in rows(fleet, "SELECT line FROM token_usages")}
        assert set(self.lines) <= known
        kept = dict(rows(fleet, "SELECT fqdn, api_key_sha256 FROM hosts"))
        for fqdn, key in self.registered.items():
            assert kept[fqdn] == hashlib.sha256(key.encode()).hexdigest()


def test_what_was_acknowledged_outlives_a_kill(fresh_fleet: Fleet) -> None:
    fleet = fresh_fleet
    keys = [fleet.key(f"load{number}.example.net") for number in range(HOSTS)]
    sent: list[dict[str, Any]] = []
    for turn in range(ROUNDS):
        load = Load(fleet, keys, turn, fleet.processes[-1].kill, kill_after=random.randint(5, 60))
        load.run()
        fleet.processes.pop().wait(30)
        sent += load.sent
        assert load.unexpected == []
        check = fleet.cli("db", "check", check=False)
        assert (check.returncode, check.stdout) == (0, ""), check
        fleet.start()
        load.check(fleet, sent)


AT_ONCE = (
    "from cdxsync.server import supervisor; supervisor.STEADY_SECONDS = 0; from cdxsync.cli.main import run; run()"
)


def test_what_was_acknowledged_outlives_kills_of_workers(tmp_path: Path) -> None:
    """One of two is killed, the other goes on, and the first is replaced; without a pause, which a round would wait."""
    fleet = Fleet(tmp_path / "home", serve_args=("--workers", "2"))
    server = fleet.start(program=("-c", AT_ONCE))
    try:
        keys = [fleet.key(f"load{number}.example.net") for number in range(HOSTS)]
        sent: list[dict[str, Any]] = []
        for turn in range(ROUNDS):
            victims: list[int] = []

            def kill(victims: list[int] = victims) -> None:
                victims.append(random.choice(children(server)))
                os.kill(victims[0], signal.SIGKILL)

            load = Load(fleet, keys, turn, kill, kill_after=random.randint(5, 60), go_on=40)
            load.run()
            sent += load.sent
            assert load.unexpected == []
            fleet.wait_for(rf"process {victims[0]}\) was ended by SIGKILL; restarting it now")
            until(lambda victims=victims: len(children(server)) == 2 and victims[0] not in children(server))  # type: ignore[misc]
            check = fleet.cli("db", "check", check=False)
            assert (check.returncode, check.stdout) == (0, ""), check
            load.check(fleet, sent)
        assert server.poll() is None, "the supervisor lives"
    finally:
        fleet.stop()


def refused(answer: requests.Response) -> str:
    """The message of an answer that the database is away."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    message: str = answer.json()["message"]
    assert message.startswith("The database cannot be used now: ")
    return message


def report(client: Any) -> requests.Response:
    answer: requests.Response = client.call("POST", "/usage", json={"total": 1})
    return answer


def test_a_file_that_cannot_grow(fresh_fleet: Fleet) -> None:
    """All that wait for a commit that fails are told; without a restart it goes on when there is room."""
    key = fresh_fleet.key("full.example.net")
    process = fresh_fleet.processes[-1].pid
    answers: list[requests.Response] = []
    with fresh_fleet.client(key) as client:
        assert report(client).status_code == 200
        resource.prlimit(process, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

        def one() -> None:
            with fresh_fleet.client(key) as mine:
                answers.append(report(mine))

        at_once([one] * 8)
        assert {refused(answer) for answer in answers} == {"The database cannot be used now: disk I/O error"}
        assert client.call("GET", "/versions").status_code == 200, "reading goes on"
        resource.prlimit(process, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert report(client).status_code == 200
    assert rows(fresh_fleet, "SELECT count(*), sum(total) FROM token_usages") == [(2, 2)]
    assert fresh_fleet.cli("db", "check").returncode == 0


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    if libc.mount(b"none", str(folder).encode(), b"tmpfs", 0, b"size=6m,mode=700") != 0:
        pytest.skip(f"a small file system cannot be mounted here: {os.strerror(ctypes.get_errno())}")
    try:
        yield folder
    finally:
        libc.umount2(str(folder).encode(), 2)


def test_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, running_fleet(disk / "home") as fleet:
        key = fleet.key("full.example.net")
        filler = disk / "filler"
        with fleet.client(key) as client:
            client.auth(command="store", auth=make_auth())
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
            answered: list[requests.Response] = []
            until(lambda: answered.append(report(client)) or answered[-1].status_code != 200)  # type: ignore[func-returns-value]
            assert refused(answered[-1]).endswith("database or disk is full")
            assert "database or disk is full" in refused(
                client.auth(last_refresh="2026-01-01T00:00:00Z", digest="0" * 64)
            )
            filler.unlink()
            assert report(client).status_code == 200
            assert client.auth(command="store", auth=make_auth("2026-01-02T00:00:00Z")).status_code == 200
        assert rows(fleet, "SELECT count(*) FROM token_usages") == [(len(answered),)]
        assert fleet.cli("db", "check").returncode == 0


IMPATIENT = (
    "from cdxsync.store import writer; writer.BUSY_TIMEOUT_SECONDS = 0.5; from cdxsync.cli.main import run; run()"
)


def test_a_database_that_another_process_has_locked(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "home")
    fleet.start(program=("-c", IMPATIENT))
    try:
        key = fleet.key("locked.example.net")
        answers: list[requests.Response] = []

        def one() -> None:
            with fleet.client(key) as mine:
                answers.append(report(mine))

        with fleet.client(key) as client:
            assert report(client).status_code == 200
            with contextlib.closing(sqlite3.connect(fleet.home / "cdxsync.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                at_once([one] * 6)
                assert {refused(answer) for answer in answers} == {
                    "The database cannot be used now: database is locked"
                }
                # Those who only read do not wait.
                assert client.call("GET", "/versions").status_code == 200
                other.execute("ROLLBACK")
            assert report(client).status_code == 200
        assert rows(fleet, "SELECT count(*) FROM token_usages") == [(2,)]
    finally:
        fleet.stop()


MOVED_CLOCK = """
import datetime, pathlib, time
from cdxsync.base import clock
ahead, real = pathlib.Path({file!r}), time.time
time.time = lambda: real() + float(ahead.read_text())
clock.now = lambda: datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
from cdxsync.cli.main import run
run()
"""
DAY = 86400


def test_clock_jumps(tmp_path: Path) -> None:
    """Two days back, a year ahead and back again: nothing is lost, and jobs neither spin nor stop for ever.

    The server's own clock is moved, by seconds that it reads from a file; the machine's cannot be.
    """
    clock = tmp_path / "clock"

    def set_clock(seconds: int) -> None:
        (tmp_path / "next").write_text(str(seconds))
        (tmp_path / "next").replace(clock)  # never read half-written

    set_clock(0)
    fleet = Fleet(tmp_path / "home")
    fleet.start(program=("-c", MOVED_CLOCK.format(file=str(clock))))
    with contextlib.ExitStack() as stack:
        stack.callback(fleet.stop)
        keys = [fleet.key(f"clock{number}.example.net") for number in range(2)]

        def retention_runs() -> int:
            found = rows(fleet, "SELECT runs FROM jobs WHERE name = 'retention'")
            return int(found[0][0]) if found else 0

        until(retention_runs)
        with fleet.client(keys[0]) as one, fleet.client(keys[1]) as two:
            answer = one.auth(command="store", auth=make_auth())
            assert answer.status_code == 200, answer.text
            digests = [fleet.host("clock0.example.net")["recent_digests"]]
            for turn, jump in enumerate((-2 * DAY, 365 * DAY, 0), 1):
                before = retention_runs()
                set_clock(jump)
                document = make_auth(f"2026-01-01T00:00:00.{turn + 5}Z", str(jump))
                answer = one.auth(command="store", auth=document)
                assert answer.json()["data"]["status"] == "updated", answer.text
                assert two.auth(last_refresh="2025-01-01T00:00:00Z", digest="0" * 64).json()["data"]["auth"] == (
                    with_auths(document)
                )
                assert report(one).status_code == 200
                digests.append(fleet.host("clock0.example.net")["recent_digests"])
                assert digests[-1][1:] == digests[-2][:2], "the newest first"
                if jump >= 0:  # it is due: a year has passed, or the last run lies a year ahead
                    until(lambda before=before: retention_runs() > before)  # type: ignore[misc]
        runs = retention_runs()
        assert runs <= 5, "it spins"
        assert [row[0] for row in rows(fleet, "SELECT fqdn FROM hosts ORDER BY id")] == [
            "clock0.example.net",
            "clock1.example.net",
        ]
        assert rows(fleet, "SELECT sum(events) FROM usage_fleet_days") == [(3,)]
        assert fleet.canonical() == with_auths(document)
        newest = [row[0] for row in rows(fleet, "SELECT last_refresh FROM auth_payloads ORDER BY id DESC")]
        assert newest == sorted(newest, reverse=True)


def test_a_thousand_connections_opened_and_dropped(tls_server: Running, pki_folder: Path) -> None:
    for number in range(1000):
        with tls_server.connect() as connection:
            if number % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with open_tls(tls_server, trusting(pki_folder)) as connection:
        ask(connection)


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
def test_random_bytes_on_the_port(secured: bool, server_context: tls.ServerContext, pki_folder: Path) -> None:
    source = random.Random(7)
    context = trusting(pki_folder)
    with running(server_context if secured else None) as server:
        for _ in range(100):
            noise = source.randbytes(source.randint(1, 3000))
            with server.connect() as connection, contextlib.suppress(OSError):
                connection.sendall(noise)
                connection.shutdown(socket.SHUT_WR)
                assert not read_all(connection).startswith(b"HTTP/1.1 2")
        assert server.app.paths == []
        with open_tls(server, context) if secured else server.connect() as connection:
            ask(connection)
