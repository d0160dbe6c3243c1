"""The revocation list: kept whole under concurrent changes, and failing closed."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cdxsync.base.errors import Failed, Refused
from cdxsync.security import pki
from cdxsync.security.revocation import Revocations
from tests.support.fleet import PKI_NAMES, serial_of


def test_the_number_of_the_list_rises_only_when_it_changes(directory: Path) -> None:
    def number() -> int:
        crl = x509.load_pem_x509_crl((directory / "crl.pem").read_bytes())
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number

    pki.issue(directory, "alice")
    first = number()
    revoked_at = pki.revoke(directory, "alice").revoked_at
    assert number() == first + 1
    assert pki.revoke(directory, "alice").revoked_at == revoked_at
    assert number() == first + 1


def test_a_foreign_list_is_not_made_valid_by_the_next_revocation(directory: Path, tmp_path: Path) -> None:
    for name in ("alice", "bob"):
        pki.issue(directory, name)
    pki.revoke(directory, "alice")
    pki.create(tmp_path / "foreign", PKI_NAMES)
    (directory / "crl.pem").write_bytes((tmp_path / "foreign" / "crl.pem").read_bytes())
    with pytest.raises(Failed, match=r"crl\.pem"):
        pki.revoke(directory, "bob")
    with pytest.raises(Failed, match=r"crl\.pem"):
        pki.list_certificates(directory)


def test_an_altered_list_fails_closed(directory: Path) -> None:
    pki.issue(directory, "alice")
    pki.revoke(directory, "alice")
    crl = x509.load_pem_x509_crl((directory / "crl.pem").read_bytes())
    number = next(iter(crl)).serial_number.to_bytes(20, "big").lstrip(b"\0")
    altered = crl.public_bytes(Encoding.DER).replace(number, number[:-1] + bytes([number[-1] ^ 1]))
    (directory / "crl.pem").write_bytes(x509.load_der_x509_crl(altered).public_bytes(Encoding.PEM))
    with pytest.raises(Refused):
        Revocations(directory / "crl.pem", directory / "ca.pem").is_revoked(5)


def test_concurrent_revocations_are_all_kept(directory: Path) -> None:
    for number in range(8):
        pki.issue(directory, f"admin{number}")
    code = "import pathlib, sys; from cdxsync.security import pki; pki.revoke(pathlib.Path(sys.argv[1]), sys.argv[2])"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(directory), f"admin{number}"]) for number in range(8)
    ]
    assert [process.wait() for process in processes] == [0] * 8
    revoked = [info.name for info in pki.list_certificates(directory) if info.status == "revoked"]
    assert revoked == [f"admin{number}" for number in range(8)]


def test_revocations_are_read_again_and_fail_closed(directory: Path, tmp_path: Path) -> None:
    revocations = Revocations(directory / "crl.pem", directory / "ca.pem")
    number = serial_of(directory / "admin.pem")
    assert not revocations.is_revoked(number)
    pki.revoke(directory, "admin")
    assert revocations.is_revoked(number)
    good = (directory / "crl.pem").read_bytes()
    pki.create(tmp_path / "foreign", PKI_NAMES)
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
