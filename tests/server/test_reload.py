"""SIGHUP: certificates and settings are read again, and no connection ends for it."""

import os
import pty
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.fleet import BASE_ENVIRONMENT, Fleet, free_port, running_fleet, serial_of
from tests.support.kept_connections import health, speak, trusting


@pytest.fixture(scope="module", params=[1, 2], ids=["one-process", "two-workers"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, int]]:
    """A server and how many processes of it serve."""
    home = tmp_path_factory.mktemp("reload") / "home"
    with running_fleet(home, serve_args=("--workers", str(request.param))) as started:
        yield started, request.param


def reload(fleet: Fleet, processes: int, told: str = "settings and certificates reloaded") -> None:
    """Send SIGHUP, and wait until all processes have said that."""
    before = len(re.findall(told, "".join(fleet.output)))
    fleet.processes[0].send_signal(signal.SIGHUP)
    fleet.wait_for(told, before + processes)


def shown(connection: ssl.SSLSocket) -> int:
    """The serial number of the certificate that the server shows."""
    return int(str((connection.getpeercert() or {})["serialNumber"]), 16)


def test_a_renewed_certificate(served: tuple[Fleet, int]) -> None:
    fleet, processes = served
    file, context = fleet.home / "pki" / "server.pem", trusting(fleet)
    old = serial_of(file)
    kept = [speak(fleet, context) for _ in range(6)]
    assert [health(connection) for connection in kept] == [200] * 6
    session = kept[0].session
    fleet.cli("pki", "renew")
    assert serial_of(file) != old
    reload(fleet, processes)
    for connection in kept:
        assert health(connection) == 200
        assert shown(connection) == old
        connection.close()
    for _ in range(6):
        with speak(fleet, context) as connection:
            assert health(connection) == 200
            assert shown(connection) == serial_of(file)
        with speak(fleet, context, session) as connection:
            assert connection.session_reused
            assert health(connection) == 200


def make_rsa_pair(folder: Path) -> tuple[Path, Path]:
    """A certificate of its own, with a key of another kind than that of cdxsync's."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=9))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    (folder / "rsa.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "rsa.key").write_bytes(key.private_bytes(*form))
    return folder / "rsa.pem", folder / "rsa.key"


def test_another_certificate_with_a_key_of_another_kind(served: tuple[Fleet, int], tmp_path: Path) -> None:
    fleet, processes = served
    config, (certificate, key) = fleet.home / "config.toml", make_rsa_pair(tmp_path)
    before = config.read_text()
    with speak(fleet, trusting(fleet)) as kept:
        config.write_text(before + f'tls_certificate = "{certificate}"\ntls_key = "{key}"\n')
        reload(fleet, processes)
        assert health(kept) == 200
    for _ in range(4):
        with speak(fleet, ssl.create_default_context(cafile=str(certificate))) as connection:
            assert shown(connection) == serial_of(certificate)
    config.write_text(before)
    reload(fleet, processes)
    for _ in range(4):
        with speak(fleet, trusting(fleet)) as connection:
            assert shown(connection) == serial_of(fleet.home / "pki" / "server.pem")


def test_settings(served: tuple[Fleet, int]) -> None:
    fleet, processes = served
    config = fleet.home / "config.toml"
    before = config.read_text()
    config.write_text(before + 'dashboard_admin_key = "the-key-of-admins"\nthreads = 3\naccess_log = "off"\n')
    with fleet.client(certificate="admin") as kept:
        assert kept.call("GET", "/admin/hosts").status_code == 200
        reload(fleet, processes)
        assert kept.call("GET", "/admin/hosts").status_code == 401
        for _ in range(6):
            with fleet.client(certificate="admin") as client:
                answered = client.call("GET", "/admin/hosts", headers={"X-Admin-Key": "the-key-of-admins"})
                assert answered.status_code == 200
                client.call("GET", "/silently")
        log = "".join(fleet.output)
        assert "settings that change: access_log, dashboard_admin_key" in log
        assert "settings that change only with a restart: threads" in log
        assert "/silently" not in log
        assert "the-key-of-admins" not in log
        config.write_text(before)
        reload(fleet, processes)
        assert kept.call("GET", "/admin/hosts").status_code == 200


def test_what_is_wrong_changes_nothing(served: tuple[Fleet, int]) -> None:
    fleet, processes = served
    config, key = fleet.home / "config.toml", fleet.home / "pki" / "server.key"
    text, secret = config.read_text(), key.read_bytes()
    config.write_text(text + "max_body_bytes = 1\n")
    reload(fleet, 1, "reload failed, nothing changed: .*max_body_bytes must be")
    config.write_text(text + f'tls_certificate = "{fleet.ca_file}"\ntls_key = "{key}"\n')
    reload(fleet, 1, "reload failed, nothing changed: .*cannot be used as server certificate and key")
    config.write_text(text)
    assert key.read_bytes() == secret
    for _ in range(4):
        with speak(fleet, trusting(fleet)) as connection:
            assert health(connection) == 200
    reload(fleet, processes)


def test_a_lost_own_certificate_is_made_anew(served: tuple[Fleet, int]) -> None:
    fleet, processes = served
    (fleet.home / "pki" / "server.key").write_bytes((fleet.home / "pki" / "admin.key").read_bytes())
    reload(fleet, processes)
    with speak(fleet, trusting(fleet)) as connection:
        assert health(connection) == 200
        assert shown(connection) == serial_of(fleet.home / "pki" / "server.pem")


def test_a_terminal_that_is_closed_ends_the_server(tmp_path: Path) -> None:
    terminal, side = pty.openpty()
    command = [sys.executable, "-m", "cdxsync", "--home", str(tmp_path / "home"), "serve"]
    process = subprocess.Popen(
        [*command, "--listen", f"127.0.0.1:{free_port()}"],
        stdin=side,
        stdout=side,
        stderr=side,
        env=BASE_ENVIRONMENT,
        start_new_session=True,
    )
    os.close(side)
    said = b""
    while b"Listening on" not in said:
        said += os.read(terminal, 65536)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
