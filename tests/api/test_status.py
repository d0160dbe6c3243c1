"""Health, readiness, metrics, the access log, and the ids of requests."""

import json
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cdxsync.api import app, health
from cdxsync.base.errors import Failed, Unavailable
from cdxsync.base.settings import Settings
from cdxsync.store.database import Database
from cdxsync.store.fleet import Fleet as OpenedFleet
from tests.support.documents import make_auth
from tests.support.fleet import Fleet, running_fleet
from tests.support.running import answer

GIVEN = "given-by.proxy_1"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A server behind a trusted proxy on this machine, with a JSON log; 192.0.2.1 may read the metrics."""
    env = {"CDXSYNC_ACCESS_LOG": "json", "CDXSYNC_METRICS_ALLOW": "192.0.2.0/24"}
    args = ("--plain-http", "--trusted-proxy", "127.0.0.1")
    with running_fleet(tmp_path_factory.mktemp("behind") / "home", serve_args=args, env=env) as started:
        yield started


def logged(fleet: Fleet, request_id: str) -> str:
    """The line of the access log about a request."""
    fleet.wait_for(re.escape(request_id))
    return next(line for line in fleet.output if request_id in line)


def entry(fleet: Fleet, request_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(logged(fleet, request_id))
    return found


# Health


def test_health_is_open_to_anyone_and_tells_nothing(fleet: Fleet) -> None:
    with fleet.client() as client:
        for path, data in (("/healthz", {"alive": True}), ("/readyz", {"ready": True})):
            answered = client.call("GET", path)
            assert (answered.status_code, answered.json()) == (200, {"status": "ok", "data": data})
            head = client.call("HEAD", path)
            assert (head.status_code, head.content) == (200, b"")
            assert client.call("POST", path).status_code == 405


@pytest.mark.every_engine
def test_without_its_database_a_server_lives_but_is_not_ready(fresh_fleet: Fleet) -> None:
    fresh_fleet.execute("ALTER TABLE versions RENAME TO away")
    with fresh_fleet.client() as client:
        assert client.call("GET", "/healthz").status_code == 200
        answered = client.call("GET", "/readyz")
        assert answered.status_code == 503
        assert answered.json()["message"].startswith("The database cannot be used")
        assert answered.headers["Retry-After"]
        fresh_fleet.execute("ALTER TABLE away RENAME TO versions")
        assert client.call("GET", "/readyz").status_code == 200


class BrokenKeyring:
    """A keyring that opens nothing that it has sealed."""

    def seal(self, plaintext: bytes, context: str) -> str:
        return "sealed"

    def open(self, sealed: str, context: str) -> bytes:
        raise Failed("the key is gone")


def test_a_server_that_is_stopping_or_cannot_unseal_is_not_ready(tmp_path: Path) -> None:
    database = Database.open("", tmp_path, make=True)
    opened = OpenedFleet(Settings(home=tmp_path), BrokenKeyring(), database, "", None)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="keyring"):
        health.check_keyring(opened)
    told: list[str] = []
    environ: dict[str, Any] = {"PATH_INFO": "/readyz", "REMOTE_ADDR": "192.0.2.1"}
    setup_testing_defaults(environ)
    answered = app.build(opened, None, lambda: True)(environ, lambda status, headers, exc_info: told.append(status))
    assert told[0].startswith("503")
    assert json.loads(b"".join(answered))["message"] == "The server is stopping"
    database.close()


# Metrics


def scrape(fleet: Fleet, **headers: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Samples by name, then by the values of their labels in the order of the labels' names."""
    with fleet.client(certificate="admin") as client:
        answered = client.call("GET", "/metrics", headers=headers)
    assert answered.status_code == 200, answered.text
    assert answered.headers["Content-Type"].startswith("text/plain")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answered.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels[key] for key in sorted(sample.labels))] = sample.value
    return found


def test_metrics_are_for_admins(fleet: Fleet) -> None:
    with fleet.client() as client:
        assert client.call("GET", "/metrics").status_code == 403
        assert client.call("GET", "/metrics", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 403


def test_metrics_are_for_networks_that_a_setting_names(behind: Fleet) -> None:
    with behind.client() as client:
        for source, status in (("192.0.2.1", 200), ("192.0.3.1", 403), ("192.0.2.1, 192.0.3.1", 403)):
            assert client.call("GET", "/metrics", headers={"X-Forwarded-For": source}).status_code == status
        assert client.call("GET", "/metrics").status_code == 403
        assert client.call("HEAD", "/metrics", headers={"X-Forwarded-For": "192.0.2.1"}).content == b""


def test_metrics(fresh_fleet: Fleet) -> None:
    fleet = fresh_fleet
    document = make_auth("2026-01-01T00:00:00Z")
    fleet.upload(document)
    key = fleet.key("a.example.net")
    fleet.key("b.example.net")
    fleet.cli("hosts", "disable", "b.example.net")
    secret = str(uuid.uuid4())
    with fleet.client(key) as client:
        assert client.auth(command="store", auth=document).status_code == 200
        for path in ("/wrapper", "/wrapper/", "/nothing/a", "/nothing/b", f"/install/{secret}"):
            client.call("GET", path)
        client.call("BREW", "/wrapper")
    found = scrape(fleet)
    requests = found["cdxsync_requests_total"]
    assert requests["POST", "/auth", "200"] == 1
    assert requests["GET", "/wrapper", "200"] == 2
    assert requests["GET", "unmatched", "404"] == 2, "unknown paths are one"
    assert requests["GET", "/install/{token}", "404"] == 1
    assert requests["other", "unmatched", "405"] == 1
    assert found["cdxsync_request_seconds_count"]["/auth",] == 1
    assert found["cdxsync_handshakes_total"]["ok",] >= 3
    assert found["cdxsync_connections_open"][()] >= 0
    assert found["cdxsync_threads"][()] == 16
    assert 0 <= found["cdxsync_queue_length"][()] < 16
    assert found["cdxsync_hosts"] == {
        ("in_sync",): 1,
        ("behind",): 0,
        ("blocked",): 0,
        ("never_seen",): 0,
        ("disabled",): 1,
    }
    assert found["cdxsync_canonical_age_seconds"][()] > 86400
    assert found["cdxsync_job_failures"]["retention",] == 0
    assert ("retention",) in found["cdxsync_job_last_success_timestamp_seconds"]
    assert found["cdxsync_certificate_expiry_timestamp_seconds"].keys() == {("ca",), ("server",)}
    assert found["cdxsync_database_up"][()] == 1
    told = json.dumps([list(samples) for samples in ([*map(list, values)] for values in found.values())])
    for unbounded in ("a.example.net", key, secret):
        assert unbounded not in told


@pytest.mark.every_engine
def test_metrics_without_a_database(fresh_fleet: Fleet) -> None:
    fresh_fleet.execute("ALTER TABLE jobs RENAME TO away")
    assert scrape(fresh_fleet)["cdxsync_database_up"][()] == 0


# Access log and request ids


def test_the_plain_log(fleet: Fleet) -> None:
    key = fleet.key("plain.example.net")
    with fleet.client(key) as client:
        answered = client.call("GET", "/wrapper?token=in-the-query")
        line = logged(fleet, answered.headers["X-Request-ID"])
        form = r"\S+T\S+\+00:00 127\.0\.0\.1 host:plain\.example\.net GET /wrapper 200 (\d+) [\d.]+ms [0-9a-f]{16}\n"
        match = re.fullmatch(form, line)
        assert match, line
        assert int(match[1]) == len(answered.content)
        answered = client.call("GET", "/a%0ab%20c")
        line = logged(fleet, answered.headers["X-Request-ID"])
        assert " GET /a%0Ab%20c 404 " in line
    with fleet.client(certificate="admin") as client:
        answered = client.call("GET", "/admin/logs")
        assert " cert:CN=admin#" in logged(fleet, answered.headers["X-Request-ID"])


def test_the_json_log(behind: Fleet) -> None:
    key = json.loads(behind.cli("--json", "hosts", "register", "json.example.net").stdout)["host"]["api_key"]
    with behind.client(key) as client:
        headers = {"X-Forwarded-For": "198.51.100.7", "X-Request-ID": GIVEN}
        answered = client.call("HEAD", "/wrapper", headers=headers)
    assert answered.headers["X-Request-ID"] == GIVEN
    shown = entry(behind, GIVEN)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", shown.pop("time"))
    assert shown.pop("duration_ms") > 0
    assert shown == {
        "request_id": GIVEN,
        "client": "198.51.100.7",
        "actor": "host:json.example.net",
        "method": "HEAD",
        "path": "/wrapper",
        "status": 200,
        "bytes": 0,
    }


@pytest.mark.parametrize("given", ["a b", "x" * 65, "é", '"', ""])
def test_an_id_that_is_none_is_not_taken(behind: Fleet, given: str) -> None:
    with behind.client() as client:
        answered = client.call("GET", "/healthz", headers={"X-Request-ID": given.encode("utf-8")})
    assert re.fullmatch(r"[0-9a-f]{16}", answered.headers["X-Request-ID"])


def test_ids_lead_from_answers_to_the_audit_log(fleet: Fleet) -> None:
    with fleet.client(fleet.key("audited.example.net")) as client:
        given = client.call("GET", "/nothing", headers={"X-Request-ID": GIVEN})
        assert given.headers["X-Request-ID"] != GIVEN, "anybody could name one"
        assert given.json()["request_id"] == given.headers["X-Request-ID"]
        stored = client.auth(command="store", auth=make_auth())
    rows = fleet.admin_call("GET", "/admin/logs", params={"limit": 500})["logs"]
    of_store = {row["action"] for row in rows if row["request_id"] == stored.headers["X-Request-ID"]}
    assert any(action.startswith("auth.") for action in of_store), rows[:5]
    with fleet.client("cdx_" + "0" * 64) as client:
        refused = client.call("GET", "/wrapper").json()
    rows = fleet.admin_call("GET", "/admin/logs", params={"limit": 500})["logs"]
    assert [row["action"] for row in rows if row["request_id"] == refused["request_id"]] == ["access.refused"]
    fleet.cli("hosts", "disable", "audited.example.net")
    assert fleet.admin_call("GET", "/admin/logs")["logs"][0]["request_id"] is None


def test_no_secret_in_the_log(fresh_fleet: Fleet) -> None:
    fleet = fresh_fleet
    document = make_auth()
    data = fleet.register("secret.example.net")
    key, command = data["host"]["api_key"], data["installer"]["command"]
    token = re.search(r"/install/([0-9a-f-]{36})", command)[1]  # type: ignore[index]
    with fleet.client(key) as client:
        assert client.auth(command="store", auth=document).status_code == 200
        assert client.call("GET", f"/install/{token}").status_code == 200
        client.call("GET", f"/wrapper/{key}?key={key}")
        last = client.call("GET", f"/installed/{token}/x?auth={key}", headers={"Authorization": f"Bearer {key}"})
    logged(fleet, last.headers["X-Request-ID"])
    log = "".join(fleet.output)
    assert "GET /install/… 200" in log
    for secret in (key, key.removeprefix("cdx_"), document["tokens"]["access_token"], token):
        assert secret not in log


def test_requests_that_are_none_are_told_too(behind: Fleet) -> None:
    with socket.create_connection(("127.0.0.1", behind.port), 30) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        status, _, body = answer(connection)
    shown = entry(behind, json.loads(body)["request_id"])
    assert (status, shown["status"], shown["method"], shown["client"]) == (400, 400, "-", "127.0.0.1")


FLOOD = """
import os, sys
from cdxsync.base import logs
from cdxsync.api import access_log
log = access_log.AccessLog(sys.argv[1])
for number in range(100_000):
    log.write(
        request_id=f"id{number}", client="::1", actor=None, method="GET", path="/", status=200, size=1, seconds=0.1
    )
print("done", flush=True)
os.read(0, 1)
logs.drain()
"""


@pytest.mark.parametrize("form", ["plain", "json"])
def test_a_log_that_nobody_reads_stops_no_request(form: str) -> None:
    """What does not fit is left out, and counted; lines stay whole."""
    command = [sys.executable, "-c", FLOOD, form]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"done\n", "although the reader has stopped"
        process.stdin.close()
        lines = process.stderr.read().decode().splitlines()
    left_out = sum(int(found[1]) for line in lines if (found := re.match(r"log: (\d+) lines dropped", line)))
    ids = [found[1] for line in lines if (found := re.search(r"\b(id\d+)\b", line))]
    assert len(ids) + left_out == 100_000
    assert left_out > 0
    assert ids == [f"id{number}" for number in sorted(int(one[2:]) for one in ids)]
