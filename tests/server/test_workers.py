"""Several processes on one port: what dies is started again, and all end in order."""

import contextlib
import json
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documents import make_auth
from tests.support.fleet import Fleet, children, running_fleet
from tests.support.kept_connections import health, speak, trusting
from tests.support.running import answer, read_all
from tests.support.together import until

pytestmark = pytest.mark.slow

WORKERS = ("--workers", "2")


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A server of two workers."""
    with running_fleet(tmp_path_factory.mktemp("workers") / "home", serve_args=WORKERS) as started:
        yield started


def test_both_serve_and_share_what_they_must(workers: Fleet) -> None:
    """Credentials, revocations, sealing keys, sessions of TLS, counts, and each job run once."""
    key = workers.key("shared.example.net")
    document = make_auth()
    workers.upload(document)
    workers.cli("keys", "rotate")
    workers.cli("pki", "issue", "alice")
    context = trusting(workers)
    with speak(workers, context) as first:
        assert health(first) == 200
        session = first.session
    for _ in range(12):  # each on a connection of its own, so that both take part
        with workers.client(key) as client:
            answered = client.auth(command="retrieve", last_refresh="2020-01-01T00:00:00Z", digest="0" * 64)
            assert answered.json()["data"]["auth"]["tokens"] == document["tokens"]
        with workers.client(certificate="alice") as client:
            assert client.call("GET", "/admin/hosts").status_code == 200
        with speak(workers, context, session) as resumed:
            assert resumed.session_reused
            assert health(resumed) == 200
    workers.cli("pki", "revoke", "alice", "--yes")
    for _ in range(12):
        with workers.client(certificate="alice") as client:
            assert client.call("GET", "/admin/hosts").status_code == 403
    jobs = json.loads(workers.cli("--json", "jobs", "list").stdout)["jobs"]
    assert {job["name"]: job["runs"] for job in jobs}["retention"] == 1


def count(fleet: Fleet, sample: str) -> float:
    with fleet.client(certificate="admin") as client:
        lines = client.call("GET", "/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(sample)).rpartition(" ")[2])


def test_a_worker_that_is_killed_is_replaced_and_the_others_go_on(workers: Fleet) -> None:
    (server,) = workers.processes
    context = trusting(workers)
    sample = 'cdxsync_requests_total{method="GET",route="/healthz",status="200"}'
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(speak(workers, context)) for _ in range(12)]
        assert [health(connection) for connection in held] == [200] * 12
        before = count(workers, sample)
        victim, survivor = children(server)
        os.kill(victim, signal.SIGKILL)
        workers.wait_for(f"process {victim}\\) was ended by SIGKILL; restarting it")
        alive = 0
        for connection in held:
            with contextlib.suppress(OSError, ssl.SSLError, ValueError):
                alive += health(connection) == 200
        assert 0 < alive < 12, "those of one worker go on"
        for _ in range(12):
            with speak(workers, context) as connection:
                assert health(connection) == 200
    assert victim not in children(server)
    assert survivor in children(server)
    assert count(workers, sample) == before + alive + 12, "counts survive too"
    assert count(workers, "cdxsync_worker_starts_total") >= 3


def test_requests_in_flight_finish_and_idle_connections_end(tmp_path: Path) -> None:
    with running_fleet(tmp_path / "home", serve_args=WORKERS) as fleet:
        key, context = fleet.key("last.example.net"), trusting(fleet)
        body = json.dumps({"command": "store", "auth": make_auth()}).encode()
        with contextlib.ExitStack() as stack:
            busy = [stack.enter_context(speak(fleet, context)) for _ in range(8)]
            idle = [stack.enter_context(speak(fleet, context)) for _ in range(8)]
            head = f"POST /auth HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
            for connection in busy:
                connection.sendall(head.encode() + body[:9])
            assert [health(connection) for connection in idle] == [200] * 8
            (server,) = fleet.processes
            server.send_signal(signal.SIGTERM)
            fleet.wait_for("stopping on SIGTERM", 3)
            for connection in idle:
                assert read_all(connection) == b""
            for connection in busy:
                connection.sendall(body[9:])
                status, headers, _ = answer(connection)
                assert (status, headers["Connection"]) == (200, "close")
        assert server.wait(60) == 0
        assert fleet.canonical() is not None


def test_workers_end_with_their_supervisor_however_that_ends(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "home", serve_args=WORKERS)
    server = fleet.start()
    try:
        with speak(fleet, trusting(fleet)) as connection:
            assert health(connection) == 200
            server.kill()
            server.wait(60)
            assert read_all(connection) == b""
        (left,) = fleet.home.glob("metrics-*")
        again = fleet.start()  # on the same port
        assert len(children(again)) == 2
        assert not left.exists()
    finally:
        fleet.stop()
    assert not list(fleet.home.glob("metrics-*")), "an orderly end leaves nothing"


def test_two_servers_on_one_home_count_apart(workers: Fleet) -> None:
    other = Fleet(workers.home, serve_args=WORKERS)
    other.start()
    try:
        before = count(workers, "cdxsync_worker_starts_total")
        assert count(other, "cdxsync_worker_starts_total") == 2
        assert count(workers, "cdxsync_worker_starts_total") == before >= 2
    finally:
        other.stop()
    assert count(workers, "cdxsync_worker_starts_total") == before


def test_what_prevents_the_start_is_said_once(tmp_path: Path, workers: Fleet) -> None:
    other = Fleet(tmp_path / "home", serve_args=WORKERS)
    done = other.cli("serve", *WORKERS, "--listen", f"127.0.0.1:{workers.port}", check=False)
    assert done.returncode == 1
    assert done.stderr.count(f"cannot listen on 127.0.0.1:{workers.port}") == 1
    (tmp_path / "home" / "keyring.json").write_text("{}")
    done = other.cli("serve", *WORKERS, "--listen", "127.0.0.1:0", check=False)
    assert done.returncode == 1
    assert done.stderr.count("not a keyring") == 1
    assert "Traceback" not in done.stderr
    assert other.cli("serve", "--workers", "0", check=False).returncode == 2


def test_a_worker_that_cannot_start_leaves_its_clients_to_the_others(tmp_path: Path) -> None:
    """Its pauses grow; it is back when its cause is removed."""
    with running_fleet(tmp_path / "home", serve_args=WORKERS) as fleet:
        context, keyring = trusting(fleet), fleet.home / "keyring.json"
        (server,) = fleet.processes
        content = keyring.read_text()
        keyring.write_text("{}")
        os.kill(children(server)[0], signal.SIGKILL)
        fleet.wait_for(r"worker \d .* ended with status 1; restarting it in 2 s")
        for _ in range(12):
            with speak(fleet, context) as connection:
                assert health(connection) == 200
        keyring.write_text(content)
        fleet.wait_for(r"restarting it")
        while len(children(server)) < 2:
            with speak(fleet, context) as connection:
                assert health(connection) == 200
        assert count(fleet, "cdxsync_worker_starts_total") >= 2


def is_stopped(process: int) -> bool:
    """Whether all its threads are."""
    stats = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


IMPATIENT = """
from cdxsync.server import supervisor
supervisor.HANG_SECONDS, supervisor.ALIVE_SECONDS = 8.0, 0.4
from cdxsync.cli.main import run
run()
"""


def test_a_worker_that_hangs_is_replaced_and_its_clients_are_answered(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "home", serve_args=WORKERS)
    server = fleet.start(program=("-c", IMPATIENT))
    try:
        victim = children(server)[0]
        os.kill(victim, signal.SIGSTOP)
        until(lambda: is_stopped(victim))  # before, it may accept what follows
        with contextlib.ExitStack() as stack:
            raw = [socket.create_connection(("127.0.0.1", fleet.port), 60) for _ in range(12)]
            fleet.wait_for(f"process {victim}\\) hangs; killing it")
            for one in raw:
                connection = trusting(fleet).wrap_socket(one, server_hostname="localhost")
                assert health(stack.enter_context(connection)) == 200
        assert victim not in children(server)
    finally:
        fleet.stop()
