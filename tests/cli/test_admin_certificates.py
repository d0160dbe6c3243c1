"""Certificates through the command line and on a running server."""

import json
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives.serialization import pkcs12

from cdxsync.security import pki
from tests.support.fleet import PKI_NAMES, Fleet, serial_of


def admin_status(fleet: Fleet, name: str) -> tuple[int, str]:
    with fleet.client(certificate=name) as client:
        response = client.call("GET", "/admin/hosts")
    return response.status_code, response.json().get("message", "")


def test_the_life_of_an_admin(fleet: Fleet, tmp_path: Path) -> None:
    assert admin_status(fleet, "admin") == (200, "")
    issued = json.loads(fleet.cli("--json", "pki", "issue", "alice", "--days", "7").stdout)
    assert Path(issued["key"]).stat().st_mode & 0o777 == 0o600
    assert (datetime.fromisoformat(issued["not_after"]) - datetime.now(UTC)).days in (6, 7)
    assert admin_status(fleet, "alice") == (200, "")

    out = tmp_path / "alice.p12"
    fleet.cli("pki", "export", "alice", "--out", str(out), "--password-file", "-", input="s3cret\n")
    assert out.stat().st_mode & 0o777 == 0o600
    key, certificate, chain = pkcs12.load_key_and_certificates(out.read_bytes(), b"s3cret")
    assert key is not None
    assert certificate is not None
    assert f"{certificate.serial_number:x}" == issued["serial"]
    assert len(chain) == 1

    with fleet.client(certificate="alice") as client:
        assert client.call("GET", "/admin/hosts").status_code == 200
        fleet.cli("pki", "revoke", "alice", "--yes")
        # At once, on the very connection that was open.
        response = client.call("GET", "/admin/hosts")
        assert response.status_code == 403
        assert response.json()["message"].startswith("This client certificate has been revoked")
    assert admin_status(fleet, "alice")[0] == 403
    listed = json.loads(fleet.cli("pki", "list", "--json").stdout)["certificates"]
    assert [info["status"] for info in listed if info["name"] == "alice"] == ["revoked"]
    assert admin_status(fleet, "admin") == (200, "")


def test_pki_commands_refuse(fleet: Fleet) -> None:
    assert fleet.cli("pki", "issue", "../evil", check=False).returncode == 2
    assert fleet.cli("pki", "issue", "admin", check=False).returncode == 4
    assert fleet.cli("pki", "revoke", "nobody", "--yes", check=False).returncode == 3
    done = fleet.cli("pki", "revoke", "admin", check=False)
    assert done.returncode == 4
    assert "--yes" in done.stderr
    assert fleet.cli("pki", "export", "nobody", "--password-file", "-", input="x\n", check=False).returncode == 3


def test_admin_needs_a_certificate_of_this_ca_for_clients(fleet: Fleet, tmp_path: Path) -> None:
    for path in ("/admin/hosts", "/admin", "/admin/nothing/here", "/admin/hosts/register"):
        with fleet.client() as client:
            response = client.call("GET", path)
        assert response.status_code == 403
        assert response.json()["status"] == "error"
        assert "cdxsync pki issue" in response.json()["message"]
    with fleet.client() as client:
        response = client.call("GET", "/admin/hosts", headers={"X-mTLS-Present": "1", "X-mTLS-Subject": "CN=admin"})
        assert response.status_code == 403

    pki.create(tmp_path / "foreign", PKI_NAMES)
    for certificate, key in (
        (tmp_path / "foreign" / "admin.pem", tmp_path / "foreign" / "admin.key"),
        (fleet.home / "pki" / "server.pem", fleet.home / "pki" / "server.key"),
    ):
        with fleet.client() as client:
            client.session.cert = (str(certificate), str(key))
            with pytest.raises((requests.exceptions.SSLError, requests.exceptions.ConnectionError)):
                client.call("GET", "/admin/hosts")


def test_a_new_public_name_renews_the_server_certificate(fresh_fleet: Fleet) -> None:
    before = serial_of(fresh_fleet.home / "pki" / "server.pem")
    fresh_fleet.stop()
    fresh_fleet.start()
    assert serial_of(fresh_fleet.home / "pki" / "server.pem") == before
    fresh_fleet.stop()
    fresh_fleet.url = f"https://renamed.example.net:{fresh_fleet.port}"
    fresh_fleet.start()
    context = ssl.create_default_context(cafile=str(fresh_fleet.ca_file))
    import socket

    raw = socket.create_connection(("localhost", fresh_fleet.port), 30)
    with context.wrap_socket(raw, server_hostname="renamed.example.net") as connection:
        assert connection.version() == "TLSv1.3"


def test_an_admin_key_is_needed_too_where_one_is_set(fresh_fleet: Fleet) -> None:
    fresh_fleet.stop()
    fresh_fleet.env["DASHBOARD_ADMIN_KEY"] = "open sesame, wide"
    fresh_fleet.start()
    with fresh_fleet.client(certificate="admin") as client:
        for headers, status in (
            ({}, 401),
            ({"X-Admin-Key": "wrong"}, 401),
            ({"X-Admin-Key": "open sesame, wide"}, 200),
            ({"Authorization": "Bearer open sesame, wide"}, 200),
            ({"Authorization": "open sesame, wide"}, 401),
        ):
            assert client.call("GET", "/admin/hosts", headers=headers).status_code == status
        assert client.call("GET", "/admin/hosts?admin_key=open%20sesame,%20wide").status_code == 401
    with fresh_fleet.client() as client:
        assert client.call("GET", "/admin/hosts", headers={"X-Admin-Key": "open sesame, wide"}).status_code == 403
