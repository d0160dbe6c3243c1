"""Who may call, and from where: keys, addresses, proxies; and DELETE /auth, over real TLS: docs/protocol.md 1 to 5."""

import functools
import json
import threading
from itertools import count
from typing import Any

import pytest

from tests.support.calls import OLD, ZERO, from_address, logs, retrieve
from tests.support.fleet import Fleet, running_fleet
from tests.support.together import at_once

pytestmark = pytest.mark.every_engine

names = (f"caller{number}.example.net" for number in count())


def test_keys(fleet: Fleet) -> None:
    key = fleet.key(next(names))
    body = {"last_refresh": OLD, "digest": ZERO}
    cases: list[tuple[dict[str, str], int, str | None]] = [
        ({}, 401, "API key missing"),
        ({"X-API-Key": "cdx_" + "0" * 64}, 401, "Invalid API key"),
        ({"X-API-Key": "x" * 5000}, 401, "Invalid API key"),
        ({"Authorization": f"Basic {key}"}, 401, "API key missing"),
        ({"Authorization": f"Bearer {key}"}, 200, None),
        ({"X-API-Key": key, "Authorization": f"Bearer {key}"}, 200, None),
        ({"X-API-Key": key, "Authorization": "Bearer other"}, 401, "X-API-Key and Authorization carry different keys"),
        # An underscore would read as the same header behind WSGI.
        ({"X_API_Key": key}, 401, "API key missing"),
    ]
    with fleet.client() as client:
        for headers, status, message in cases:
            response = client.call("POST", "/auth", json=body, headers=headers)
            assert response.status_code == status, headers
            assert response.json().get("message") == message
            if status == 401:
                assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_first_caller_binds_the_address(fleet: Fleet) -> None:
    name = next(names)
    key = fleet.key(name)
    # HEAD has no side effect, so it binds nothing.
    assert from_address(fleet, "127.0.0.9", key, "HEAD")[0] == 200
    assert from_address(fleet, "127.0.0.2", key)[0] == 200
    status, text = from_address(fleet, "127.0.0.3", key)
    assert status == 403
    assert json.loads(text)["message"] == "API key not allowed from this IP"
    assert from_address(fleet, "127.0.0.3", key, "HEAD")[0] == 403
    fleet.execute("UPDATE hosts SET allow_roaming_ips = ? WHERE fqdn = ?", True, name)
    assert from_address(fleet, "127.0.0.3", key)[0] == 200
    assert from_address(fleet, "127.0.0.2", key)[0] == 200
    actor = f"host:{name}"
    assert {"actor": actor, "ip": "127.0.0.2"} in logs(fleet, "auth.bind_ip")
    assert {"actor": actor, "previous_ip": "127.0.0.2", "ip": "127.0.0.3"} in logs(fleet, "auth.roaming_ip")


def test_a_forged_forwarded_address_does_not_count(fleet: Fleet) -> None:
    name = next(names)
    with fleet.client(fleet.key(name)) as client:
        for forged in ("10.1.1.1", ", 10.1.1.1", ""):
            assert client.call("GET", "/wrapper", headers={"X-Forwarded-For": forged}).status_code == 200
    assert fleet.host(name)["ip"] == "127.0.0.1"


def test_a_disabled_host_is_refused(fleet: Fleet) -> None:
    name = next(names)
    key = fleet.key(name)
    fleet.execute("UPDATE hosts SET status = 'disabled' WHERE fqdn = ?", name)
    with fleet.client(key) as client:
        response = client.auth(last_refresh=OLD, digest=ZERO)
    assert response.status_code == 403
    assert response.json()["message"] == "Host is disabled"


def test_keys_of_the_reference_implementation_work(fleet: Fleet) -> None:
    import hashlib

    name, key = next(names), "5e" * 32
    fleet.key(name)
    digest = hashlib.sha256(key.encode()).hexdigest()
    fleet.execute("UPDATE hosts SET api_key_sha256 = ? WHERE fqdn = ?", digest, name)
    with fleet.client(key) as client:
        assert retrieve(client)["status"]
    with fleet.client(digest) as client:
        assert client.call("GET", "/wrapper").status_code == 401


def test_deregistering(fleet: Fleet) -> None:
    name = next(names)
    key = fleet.key(name)
    assert from_address(fleet, "127.0.0.2", key)[0] == 200
    assert from_address(fleet, "127.0.0.3", key, "DELETE", "/auth")[0] == 403
    assert from_address(fleet, "127.0.0.3", key, "DELETE", "/auth?force=0")[0] == 403
    status, text = from_address(fleet, "127.0.0.3", key, "DELETE", "/auth?force=1")
    assert (status, json.loads(text)) == (200, {"status": "ok", "data": {"deleted": name}})
    assert from_address(fleet, "127.0.0.2", key)[0] == 401
    assert fleet.cli("hosts", "show", name, check=False).returncode == 3
    deleted = [row for row in logs(fleet, "host.delete") if row["fqdn"] == name]
    assert deleted[0]["initiator"] == "host_api"
    overridden = [row for row in logs(fleet, "auth.force_ip_override") if row["actor"] == f"host:{name}"]
    assert overridden[0]["previous_ip"] == "127.0.0.2"


def test_a_forced_deletion_lets_nothing_else_pass(fleet: Fleet) -> None:
    """A stolen key deletes its host from anywhere, and calls at the same moment from there get nothing."""
    got: list[tuple[str, int]] = []

    def call(address: str, key: str, ready: threading.Barrier, method: str, path: str) -> None:
        ready.wait()
        got.append((method, from_address(fleet, address, key, method, path)[0]))

    for number in range(12):
        key = fleet.key(next(names))
        assert from_address(fleet, "127.0.0.2", key)[0] == 200
        given = (f"127.0.3.{number}", key, threading.Barrier(9, timeout=60))  # each with its own count of failures
        gets = [functools.partial(call, *given, "GET", "/wrapper")] * 8
        at_once([functools.partial(call, *given, "DELETE", "/auth?force=1"), *gets])
    assert set(got) <= {("DELETE", 200), ("GET", 401), ("GET", 403)}


def test_behind_a_trusted_proxy(tmp_path: Any) -> None:
    import requests

    with running_fleet(
        tmp_path / "home",
        serve_args=("--plain-http", "--trusted-proxy", "127.0.0.0/8", "--trusted-proxy", "10.0.0.0/8"),
    ) as fleet:
        done = fleet.cli("--json", "hosts", "register", "proxied.example.net")
        key = json.loads(done.stdout)["host"]["api_key"]

        def call(**headers: str) -> requests.Response:
            return requests.get(f"{fleet.url}/wrapper", headers={"X-API-Key": key, **headers}, timeout=30)

        # The rightmost hop that is no trusted proxy; IPv4 mapped into IPv6 is the same address.
        assert call(**{"X-Forwarded-For": "6.6.6.6, 192.0.2.7, 10.1.2.3"}).status_code == 200
        assert call(**{"X-Forwarded-For": "::ffff:192.0.2.7"}).status_code == 200
        assert call(**{"X-Forwarded-For": "192.0.2.7, 198.51.100.1"}).status_code == 403
        assert fleet.host("1")["ip"] == "192.0.2.7"

        def admin(**headers: str) -> int:
            return requests.get(f"{fleet.url}/admin/hosts", headers=headers, timeout=30).status_code

        assert admin() == 403
        for no in ("", "0", "NONE", "FAILED:expired"):
            assert admin(**{"X-mTLS-Present": no}) == 403
        assert admin(**{"X-mTLS-Present": "1", "X-mTLS-Subject": "CN=alice"}) == 200


def test_a_proxy_that_sends_no_serial_is_refused_by_setting_once_a_certificate_is_revoked(tmp_path: Any) -> None:
    import requests

    def admin(**headers: str) -> tuple[int, str]:
        sent = {"X-mTLS-Present": "1", "X-mTLS-Subject": "CN=alice"} | headers
        answer = requests.get(f"{fleet.url}/admin/hosts", headers=sent, timeout=30)
        return answer.status_code, str(answer.json().get("code", ""))

    proxied = ("--plain-http", "--trusted-proxy", "127.0.0.0/8")
    env = {"CDXSYNC_PROXY_SERIAL_REQUIRED": "1"}
    unnumbered: tuple[dict[str, str], ...] = (
        {},
        {"X-mTLS-Serial": ""},
        {"X-mTLS-Serial": "none"},
        {"X-mTLS-Serial": "1f-2"},
    )
    with running_fleet(tmp_path / "home", serve_args=proxied, env=env) as fleet:
        assert {admin(**sent) for sent in unnumbered} == {(200, "")}
        fleet.cli("pki", "issue", "bob")
        fleet.cli("pki", "revoke", "bob", "--yes")
        assert {admin(**sent) for sent in unnumbered} == {(403, "certificate_unverifiable")}
        assert admin(**{"X-mTLS-Serial": "1f"}) == (200, "")
        fleet.stop()
        del fleet.env["CDXSYNC_PROXY_SERIAL_REQUIRED"]
        fleet.start()
        assert {admin(**sent) for sent in unnumbered} == {(200, "")}
        fleet.wait_for("sends no X-mTLS-Serial")


def test_plain_http_without_a_trusted_proxy_has_no_admin(tmp_path: Any) -> None:
    import requests

    with running_fleet(tmp_path / "home", serve_args=("--plain-http",)) as fleet:
        headers = {"X-mTLS-Present": "1"}
        assert requests.get(f"{fleet.url}/admin/hosts", headers=headers, timeout=30).status_code == 403
