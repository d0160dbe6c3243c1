"""Certificates and their revocation: as files, through the command line, and on a running server."""

import json
import os
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from conftest import Fleet
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.errors import Conflict, Failed, Invalid, NotFound, Refused
from cdxsync.trust import pki
from cdxsync.trust.revocation import Revocations

NAMES = ["cdx.example.net", "localhost", "127.0.0.1", "::1"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    before = os.umask(0)
    try:
        pki.create(tmp_path / "pki", NAMES)
    finally:
        os.umask(before)
    return tmp_path / "pki"


def serial(path: Path) -> int:
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


def verify(directory: Path, certificate: Path, purpose: str) -> subprocess.CompletedProcess[str]:
    bundle = directory / "bundle.pem"
    bundle.write_bytes((directory / "ca.pem").read_bytes() + (directory / "crl.pem").read_bytes())
    command = ["openssl", "verify", "-crl_check", "-purpose", purpose, "-CAfile", str(bundle), str(certificate)]
    return subprocess.run(command, capture_output=True, text=True)


def test_files_and_modes(directory: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir() if path.name != ".lock"}
    assert directory.stat().st_mode & 0o777 == 0o700
    assert modes == {
        "ca.pem": 0o644,
        "ca.key": 0o600,
        "server.pem": 0o644,
        "server.key": 0o600,
        "admin.pem": 0o644,
        "admin.key": 0o600,
        "crl.pem": 0o644,
    }
    with pytest.raises(Conflict):
        pki.create(directory, NAMES)


def test_openssl_takes_each_certificate_for_its_purpose_only(directory: Path) -> None:
    issued = pki.issue(directory, "alice")
    assert verify(directory, directory / "server.pem", "sslserver").returncode == 0
    assert verify(directory, directory / "server.pem", "sslclient").returncode != 0
    assert verify(directory, directory / "admin.pem", "sslclient").returncode == 0
    assert verify(directory, directory / "admin.pem", "sslserver").returncode != 0
    assert verify(directory, issued.certificate, "sslclient").returncode == 0
    pki.revoke(directory, "alice")
    assert "revoked" in verify(directory, issued.certificate, "sslclient").stderr
    assert verify(directory, directory / "admin.pem", "sslclient").returncode == 0


def test_the_server_certificate_covers_its_names(directory: Path) -> None:
    certificate = x509.load_pem_x509_certificate((directory / "server.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["cdx.example.net", "localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert not pki.ensure_server_certificate(directory, NAMES)
    assert pki.ensure_server_certificate(directory, [*NAMES, "new.example.net"])
    assert not pki.ensure_server_certificate(directory, NAMES)


@pytest.mark.parametrize(
    ("url", "listen", "first"),
    [
        ("https://cdx.example.net:8443", "0.0.0.0", ["cdx.example.net"]),
        ("https://[2001:db8::1]:8443/x", "::", ["2001:db8::1"]),
        ("https://a.example.net", "192.0.2.1", ["a.example.net", "192.0.2.1"]),
        ("https://localhost", "127.0.0.1", []),
    ],
)
def test_server_names(url: str, listen: str, first: list[str]) -> None:
    always = ["localhost", "127.0.0.1", "::1"]
    assert sorted(pki.server_names(url, listen)) == sorted([*first, *always])


def test_a_name_has_one_active_certificate(directory: Path) -> None:
    first = pki.issue(directory, "alice", days=3).info
    with pytest.raises(Conflict, match="revoke it first"):
        pki.issue(directory, "alice")
    pki.revoke(directory, first.serial)
    second = pki.issue(directory, "alice").info
    listed = [(info.kind, info.name, info.status) for info in pki.list_certificates(directory)]
    assert listed == [
        ("ca", "cdxsync CA", "active"),
        ("server", "cdx.example.net", "active"),
        ("client", "admin", "active"),
        ("client", "alice", "revoked"),
        ("client", "alice", "active"),
    ]
    assert pki.revoke(directory, "alice").serial == second.serial
    assert pki.revoke(directory, second.serial.upper()).status == "revoked"
    with pytest.raises(NotFound):
        pki.revoke(directory, "bob")
    with pytest.raises(NotFound):
        pki.revoke(directory, "../server")


@given(st.text(max_size=80) | st.sampled_from(["../x", "a/b", ".", "..", "a\0b", "-rf", ""]))
def test_names_cannot_leave_the_folder(name: str) -> None:
    allowed = bool(name) and len(name) <= 64 and all(c.isascii() and (c.isalnum() or c in "._@-") for c in name)
    if allowed and name[0].isalnum():
        return
    with pytest.raises(Invalid) as caught:
        pki.issue(Path("/nonexistent"), name)
    assert set(caught.value.errors) == {"name"}


def test_concurrent_revocations_are_all_kept(directory: Path) -> None:
    for number in range(8):
        pki.issue(directory, f"admin{number}")
    code = "import pathlib, sys; from cdxsync.trust import pki; pki.revoke(pathlib.Path(sys.argv[1]), sys.argv[2])"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(directory), f"admin{number}"]) for number in range(8)
    ]
    assert [process.wait() for process in processes] == [0] * 8
    revoked = [info.name for info in pki.list_certificates(directory) if info.status == "revoked"]
    assert revoked == [f"admin{number}" for number in range(8)]


def test_revocations_are_read_again_and_fail_closed(directory: Path, tmp_path: Path) -> None:
    revocations = Revocations(directory / "crl.pem", directory / "ca.pem")
    number = serial(directory / "admin.pem")
    assert not revocations.is_revoked(number)
    pki.revoke(directory, "admin")
    assert revocations.is_revoked(number)
    good = (directory / "crl.pem").read_bytes()
    pki.create(tmp_path / "foreign", NAMES)
    for bad in (b"", b"nonsense", (tmp_path / "foreign" / "crl.pem").read_bytes()):
        (directory / "crl.pem").write_bytes(bad)
        with pytest.raises(Refused):
            revocations.is_revoked(5)
    (directory / "crl.pem").unlink()
    with pytest.raises(Refused):
        revocations.is_revoked(5)
    (directory / "crl.pem").write_bytes(good)
    assert revocations.is_revoked(number)


def test_threads_may_ask_while_it_changes(directory: Path) -> None:
    revocations = Revocations(directory / "crl.pem", directory / "ca.pem")
    numbers = [int(pki.issue(directory, f"admin{number}").info.serial, 16) for number in range(5)]
    failures: list[BaseException] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                revocations.is_revoked(numbers[0])
            except BaseException as error:
                failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    for number in range(5):
        pki.revoke(directory, f"admin{number}")
    done.set()
    thread.join()
    assert failures == []
    assert all(revocations.is_revoked(number) for number in numbers)


def test_broken_files_are_named(directory: Path) -> None:
    (directory / "ca.key").write_bytes(b"")
    with pytest.raises(Failed, match=r"ca\.key"):
        pki.issue(directory, "alice")
    (directory / "ca.pem").unlink()
    with pytest.raises(Failed, match=r"ca\.pem"):
        pki.list_certificates(directory)


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
        assert (response.status_code, response.json()["message"]) == (403, "This client certificate has been revoked")
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

    pki.create(tmp_path / "foreign", NAMES)
    for certificate, key in (
        (tmp_path / "foreign" / "admin.pem", tmp_path / "foreign" / "admin.key"),
        (fleet.home / "pki" / "server.pem", fleet.home / "pki" / "server.key"),
    ):
        with fleet.client() as client:
            client.session.cert = (str(certificate), str(key))
            with pytest.raises((requests.exceptions.SSLError, requests.exceptions.ConnectionError)):
                client.call("GET", "/admin/hosts")


def test_a_new_public_name_renews_the_server_certificate(fresh_fleet: Fleet) -> None:
    before = serial(fresh_fleet.home / "pki" / "server.pem")
    fresh_fleet.stop()
    fresh_fleet.start()
    assert serial(fresh_fleet.home / "pki" / "server.pem") == before
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
    fresh_fleet.env["DASHBOARD_ADMIN_KEY"] = "open sesame"
    fresh_fleet.start()
    with fresh_fleet.client(certificate="admin") as client:
        for headers, status in (
            ({}, 401),
            ({"X-Admin-Key": "wrong"}, 401),
            ({"X-Admin-Key": "open sesame"}, 200),
            ({"Authorization": "Bearer open sesame"}, 200),
            ({"Authorization": "open sesame"}, 401),
        ):
            assert client.call("GET", "/admin/hosts", headers=headers).status_code == status
        assert client.call("GET", "/admin/hosts?admin_key=open%20sesame").status_code == 401
    with fresh_fleet.client() as client:
        assert client.call("GET", "/admin/hosts", headers={"X-Admin-Key": "open sesame"}).status_code == 403
