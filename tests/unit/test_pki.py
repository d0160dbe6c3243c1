"""Certificates as files."""

import os
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdxsync.base.errors import Conflict, Failed, Invalid, NotFound
from cdxsync.security import pki, server_names
from tests.support.fleet import PKI_NAMES, serial_of


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
        pki.create(directory, PKI_NAMES)


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
    assert not pki.ensure_server_certificate(directory, PKI_NAMES)
    assert pki.ensure_server_certificate(directory, [*PKI_NAMES, "new.example.net"])
    assert not pki.ensure_server_certificate(directory, PKI_NAMES)


@pytest.mark.parametrize(
    ("url", "listen", "first"),
    [
        ("https://cdx.example.net:8443", "0.0.0.0", ["cdx.example.net"]),
        ("https://[2001:db8::1]:8443/x", "::", ["2001:db8::1"]),
        ("https://a.example.net", "192.0.2.1", ["a.example.net", "192.0.2.1"]),
        ("https://localhost", "127.0.0.1", []),
        ("https://a.example.net.", "::0", ["a.example.net"]),
        ("https://a.example.net", "[::]", ["a.example.net"]),
        ("https://[2001:DB8:0::1]", "2001:db8::1", ["2001:db8::1"]),
        ("https://a.example.net", "fe80::1%eth0", ["a.example.net", "fe80::1"]),
    ],
)
def test_server_names(url: str, listen: str, first: list[str]) -> None:
    always = ["localhost", "127.0.0.1", "::1"]
    assert sorted(server_names.wanted(url, listen)) == sorted([*first, *always])


def test_a_name_has_one_active_certificate(directory: Path) -> None:
    first = pki.issue(directory, "alice", days=3).info
    with pytest.raises(Conflict, match="cdxsync pki revoke alice"):
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


@given(name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", fullmatch=True))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_allowed_name_has_a_file_of_its_own(directory: Path, name: str) -> None:
    if name == pki.ADMIN or (directory / "issued" / f"{name}.pem").exists():
        return
    issued = pki.issue(directory, name)
    assert issued.certificate == directory / "issued" / f"{name}.pem"
    assert issued.key == directory / "issued" / f"{name}.key"
    assert pki.revoke(directory, name).serial == issued.info.serial
    assert [info.status for info in pki.list_certificates(directory) if info.name == name] == ["revoked"]


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, mask: int) -> None:
    folder = tmp_path / "pki"
    before = os.umask(mask)
    try:
        pki.create(folder, PKI_NAMES)
        issued = pki.issue(folder, "alice")
        pki.revoke(folder, "alice")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert {modes[name] for name in ("ca.key", "server.key", "admin.key", ".lock")} == {0o600}
    assert {modes[name] for name in ("ca.pem", "server.pem", "admin.pem", "crl.pem")} == {0o644}
    assert (folder.stat().st_mode & 0o777, modes["issued"]) == (0o700, 0o700)
    assert issued.key.stat().st_mode & 0o777 == 0o600
    assert issued.certificate.stat().st_mode & 0o777 == 0o644


def test_certificates_are_strictly_conforming(directory: Path) -> None:
    """As clients with VERIFY_X509_STRICT demand, which newer Pythons set."""
    issued = pki.issue(directory, "alice")
    for certificate, purpose in ((directory / "server.pem", "sslserver"), (issued.certificate, "sslclient")):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(directory / "ca.pem")]
        assert subprocess.run([*command, str(certificate)], capture_output=True).returncode == 0


def test_a_replaced_certificate_does_not_hide_another(directory: Path) -> None:
    """A name may look like that of another's old certificate."""
    first = pki.issue(directory, "alice").info
    pki.revoke(directory, "alice")
    lookalike = pki.issue(directory, f"alice.{first.serial}").info
    second = pki.issue(directory, "alice").info
    listed = {info.serial: info.status for info in pki.list_certificates(directory) if info.kind == "client"}
    assert {first.serial, lookalike.serial, second.serial} <= set(listed)
    assert pki.revoke(directory, lookalike.name).serial == lookalike.serial
    assert pki.revoke(directory, first.serial).serial == first.serial
    with pytest.raises(Conflict):
        pki.issue(directory, "alice")


def test_the_first_admin_can_be_replaced(directory: Path) -> None:
    old = serial_of(directory / "admin.pem")
    pki.revoke(directory, "admin")
    new = pki.issue(directory, "admin")
    assert new.certificate == directory / "admin.pem"
    statuses = {info.serial: info.status for info in pki.list_certificates(directory) if info.name == "admin"}
    assert statuses == {f"{old:x}": "revoked", new.info.serial: "active"}


def test_an_expired_certificate_can_be_replaced(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pki, "_now", lambda: datetime.now(UTC).replace(microsecond=0) - timedelta(days=30))
        pki.issue(directory, "alice", days=1)
    pki.issue(directory, "alice")
    assert [info.status for info in pki.list_certificates(directory) if info.name == "alice"] == ["expired", "active"]


def test_validity_has_bounds(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for days in (0, -1, 10**9):
        with pytest.raises(Invalid) as caught:
            pki.issue(directory, "alice", days)
        assert set(caught.value.errors) == {"days"}
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=pki.CA_DAYS - 10)
    monkeypatch.setattr(pki, "_now", lambda: later)
    ca = pki.list_certificates(directory)[0]
    assert pki.issue(directory, "alice").info.not_after == ca.not_after


def test_serials_may_be_written_as_other_tools_do(directory: Path) -> None:
    info = pki.issue(directory, "alice").info
    digits = info.serial.upper().zfill(40)
    assert pki.revoke(directory, ":".join(digits[at : at + 2] for at in range(0, 40, 2))).name == "alice"


def test_an_initialisation_that_was_cut_off_goes_on(directory: Path, tmp_path: Path) -> None:
    """With the same CA key, and without forgetting who was revoked."""
    alice = pki.issue(directory, "alice").certificate
    pki.revoke(directory, "alice")
    kept = {name: (directory / name).read_bytes() for name in ("ca.key", "admin.pem", "admin.key", "crl.pem")}
    (directory / "ca.pem").unlink()
    pki.create(directory, PKI_NAMES)
    assert {name: (directory / name).read_bytes() for name in kept} == kept
    assert verify(directory, directory / "server.pem", "sslserver").returncode == 0
    assert verify(directory, directory / "admin.pem", "sslclient").returncode == 0
    assert "revoked" in verify(directory, alice, "sslclient").stderr

    pki.create(tmp_path / "half", PKI_NAMES)
    for name in ("ca.pem", "crl.pem", "admin.pem"):
        (tmp_path / "half" / name).unlink()
    pki.create(tmp_path / "half", PKI_NAMES)
    assert verify(tmp_path / "half", tmp_path / "half" / "admin.pem", "sslclient").returncode == 0


def test_the_server_certificate_is_made_again_when_it_does_not_serve(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "server.key").write_bytes((directory / "admin.key").read_bytes())
    assert pki.ensure_server_certificate(directory, PKI_NAMES)  # not a pair
    assert not pki.ensure_server_certificate(directory, PKI_NAMES)
    pki.create(tmp_path / "foreign", PKI_NAMES)
    for name in ("server.pem", "server.key"):
        (directory / name).write_bytes((tmp_path / "foreign" / name).read_bytes())
    assert pki.ensure_server_certificate(directory, PKI_NAMES)  # of another CA
    assert not pki.ensure_server_certificate(directory, PKI_NAMES)
    (directory / "ca.key").rename(directory / "ca.key.away")  # an admin may keep it elsewhere
    assert not pki.ensure_server_certificate(directory, PKI_NAMES)
    with pytest.raises(Failed, match=r"ca\.key"):
        pki.ensure_server_certificate(directory, [*PKI_NAMES, "new.example.net"])
    (directory / "ca.key.away").rename(directory / "ca.key")
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=pki.LEAF_DAYS - pki.RENEW_DAYS + 1)
    monkeypatch.setattr(pki, "_now", lambda: soon)
    assert pki.ensure_server_certificate(directory, PKI_NAMES)  # about to expire
    before = serial_of(directory / "server.pem")
    pki.renew_server(directory, PKI_NAMES)
    assert serial_of(directory / "server.pem") != before
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(directory / "server.pem", directory / "server.key")


def test_pkcs12_needs_the_key_and_the_password(directory: Path) -> None:
    info = pki.issue(directory, "alice").info
    bundle = pki.export_pkcs12(directory, "alice", b"s3cret")
    loaded = pkcs12.load_pkcs12(bundle, b"s3cret")
    assert loaded.cert is not None
    assert loaded.cert.friendly_name == b"cdxsync alice"
    assert f"{loaded.cert.certificate.serial_number:x}" == info.serial
    with pytest.raises(ValueError, match="password"):
        pkcs12.load_pkcs12(bundle, b"wrong")
    (directory / "issued" / "alice.key").unlink()
    with pytest.raises(NotFound, match=r"alice\.key"):
        pki.export_pkcs12(directory, "alice", b"s3cret")
    with pytest.raises(NotFound):
        pki.export_pkcs12(directory, "../server", b"s3cret")


def test_only_create_makes_the_folder(tmp_path: Path) -> None:
    for call in (lambda path: pki.issue(path, "a"), lambda path: pki.revoke(path, "a"), pki.list_certificates):
        with pytest.raises(Failed, match="typo"):
            call(tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


def test_a_name_outside_ascii_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="b\u00fccher"):
        pki.create(tmp_path / "pki", ["b\u00fccher.example"])


def test_broken_files_are_named(directory: Path) -> None:
    (directory / "ca.key").write_bytes(b"")
    with pytest.raises(Failed, match=r"ca\.key"):
        pki.issue(directory, "alice")
    (directory / "ca.pem").unlink()
    with pytest.raises(Failed, match=r"ca\.pem"):
        pki.list_certificates(directory)
