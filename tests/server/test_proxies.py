"""Behind nginx, Caddy and HAProxy, set up by the files in `examples/proxies`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.documents import make_auth
from tests.support.fleet import Client, Fleet, free_port, run_cli, running_fleet
from tests.support.machines import Machine
from tests.support.proxies import PASSING, TERMINATING, Proxy, need

FORGED = {
    "X-mTLS-Present": "1",
    "X-mTLS-Subject": "CN=forged",
    "X-mTLS-Serial": "abc",
    "X-mTLS-Fingerprint": "ab" * 32,
    "X_mTLS_Present": "1",
    "X-Forwarded-For": "203.0.113.9",
    "X-Request-ID": "mine",
}


class Behind(Fleet):
    """A server without TLS that believes this machine's proxies."""

    def __init__(self, home: Path) -> None:
        super().__init__(
            home,
            serve_args=("--plain-http", "--trusted-proxy", "127.0.0.1"),
            env={"CDXSYNC_HOST_CA": str(home / "pki" / "ca.pem")},
        )
        self.proxy_port = free_port()  # of one proxy after the other: hosts know one URL
        self.url = f"https://localhost:{self.proxy_port}"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    fleet = Behind(tmp_path_factory.mktemp("behind") / "home")
    fleet.start()
    yield fleet
    fleet.stop()


@pytest.fixture(scope="module", params=TERMINATING)
def proxy(behind: Behind, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Each proxy that ends TLS; the fleet's clients call through it."""
    need(request.param)
    folder = tmp_path_factory.mktemp("proxy") / request.param
    started = Proxy(request.param, TERMINATING[request.param], folder, behind, behind.port, behind.proxy_port)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running_fleet(tmp_path_factory.mktemp("direct") / "home") as started:
        yield started


@pytest.fixture(scope="module", params=PASSING)
def passing(direct: Fleet, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Each proxy that passes TCP on."""
    need(request.param, stream=True)
    folder = tmp_path_factory.mktemp("passing") / request.param
    started = Proxy(request.param, PASSING[request.param], folder, direct, direct.port)
    direct.url = started.url
    yield started
    started.stop()


def overview(client: Client, **headers: str) -> tuple[int, Any]:
    response = client.call("GET", "/admin/overview", headers=headers)
    return response.status_code, response.json().get("data")


def log_rows(fleet: Fleet, action: str) -> list[dict[str, Any]]:
    rows = json.loads(fleet.cli("--json", "logs", "--limit", "50").stdout)["logs"]
    return [row for row in rows if row["action"] == action]


def test_admins_are_known_by_the_certificate_that_the_proxy_has_seen(behind: Behind, proxy: Proxy) -> None:
    with behind.client(certificate="admin") as client:
        status, data = overview(client, **FORGED)
        assert status == 200
        assert "admin" in data["mtls"]["subject"]
        assert "cdxsync CA" in data["mtls"]["issuer"]
        assert data["mtls"]["fingerprint"] != FORGED["X-mTLS-Fingerprint"]
        client.call("POST", "/admin/api/state", json={"disabled": False}, headers=FORGED)
    shown = log_rows(behind, "admin.api.state")[0]
    assert shown["actor"].startswith("proxy:CN=admin#")


def test_forged_headers_make_no_admin(behind: Behind, proxy: Proxy, tmp_path: Path) -> None:
    with behind.client() as client:
        assert overview(client)[0] == 403
        assert overview(client, **FORGED)[0] == 403
    run_cli("--home", str(tmp_path / "other"), "init", "--public-url", "https://localhost")
    with behind.client() as client:
        pki = tmp_path / "other" / "pki"
        client.session.cert = (str(pki / "admin.pem"), str(pki / "admin.key"))
        try:
            response = client.call("GET", "/admin/overview", headers=FORGED)
        except requests.ConnectionError:  # refused in the handshake
            return
    assert response.status_code in (400, 403)


def test_a_revoked_certificate_is_refused_at_once(behind: Behind, proxy: Proxy) -> None:
    """The proxy knows of no revocation list: cdxsync looks for the serial number, however the proxy writes it."""
    name = f"leaver-{proxy.program}"
    behind.cli("pki", "issue", name)
    with behind.client(certificate=name) as client:
        assert overview(client)[0] == 200
        behind.cli("pki", "revoke", name, "--yes")
        response = client.call("GET", "/admin/overview")
    assert response.status_code == 403
    assert response.json()["message"].startswith("This client certificate has been revoked")


def test_a_host_is_bound_to_its_own_address_and_calls_have_the_ids_of_the_proxy(behind: Behind, proxy: Proxy) -> None:
    name = f"{proxy.program}.example.net"
    with behind.client(behind.key(name)) as client:
        response = client.call("POST", "/auth", json={"command": "store", "auth": make_auth()}, headers=FORGED)
    assert response.status_code == 200
    assert behind.host(name)["ip"] == "127.0.0.1"
    request_id = response.headers["X-Request-ID"]
    assert request_id != FORGED["X-Request-ID"]
    assert request_id in [row["request_id"] for row in log_rows(behind, "auth.store")]


def test_what_is_too_large_gets_an_answer_that_clients_can_read(behind: Behind, proxy: Proxy) -> None:
    with behind.client(behind.key(f"large-{proxy.program}.example.net")) as client:
        response = client.call("POST", "/auth", data=b"{" + b" " * (2 << 20))
    assert (response.status_code, response.json()["status"]) == (413, "error")


def test_a_host_is_installed_through_the_proxy(behind: Behind, proxy: Proxy, tmp_path: Path) -> None:
    """`public_url` names the proxy: the installer, the baked `cdx` and its first run call there."""
    machine = Machine(tmp_path)
    installer = behind.register(f"installed-{proxy.program}.example.net")["installer"]["command"]
    done = machine.run("sh", "-c", installer)
    assert done.returncode == 0, done.stderr
    assert f"via {proxy.url}" in done.stdout
    assert machine.run_cdx("exec", "hi").stdout == "ran with: exec hi\n"


@pytest.mark.parametrize("program", TERMINATING)
def test_no_secret_is_in_the_logs_of_a_proxy_whose_server_is_away(behind: Behind, program: str, tmp_path: Path) -> None:
    need(program)
    away = Proxy(program, TERMINATING[program], tmp_path / program, behind, 1)
    token, key = "0123456789abcdef" * 2, f"cdx_{'5' * 64}"
    try:
        for path in (f"/install/{token}", "/wrapper"):
            headers = {"X-API-Key": key, "Authorization": f"Bearer {key}", "X-Admin-Key": key}
            response = requests.get(away.url + path, headers=headers, verify=str(behind.ca_file), timeout=30)
            assert response.status_code in (502, 503)
    finally:
        written = away.stop()
    assert "/wrapper" in written, "it does log"
    assert token not in written
    assert key not in written


def test_client_certificates_reach_a_server_behind_tcp(direct: Fleet, passing: Proxy) -> None:
    with direct.client(certificate="admin") as client:
        status, data = overview(client, **FORGED)
    assert status == 200
    assert data["mtls"]["subject"] == "CN=admin"
    with direct.client() as client:
        assert overview(client, **FORGED)[0] == 403


def test_behind_tcp_every_host_has_the_address_of_the_proxy(direct: Fleet, passing: Proxy) -> None:
    name = f"{passing.program}.example.net"
    with direct.client(direct.key(name)) as client:
        response = client.call("POST", "/auth", json={"command": "store", "auth": make_auth()}, headers=FORGED)
    assert response.status_code == 200
    assert direct.host(name)["ip"] == "127.0.0.1"
