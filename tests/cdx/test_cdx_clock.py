"""A clock that is wrong is named by `cdx --doctor`, and not taken for a new CA or for a good state."""

import os
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cdxsync.wrapper.src import clock
from tests.support.documents import make_auth
from tests.support.machines import Machine, stub_cdx
from tests.support.quiet_http import QuietHandler, QuietServer

YEARS = 3 * 365


class Elsewhen:
    """A server whose clock, and certificate, are some days away from ours."""

    def __init__(self, folder: Path, certificate_days: float, date_days: float | None) -> None:
        self.keys: list[str | None] = []
        seen = self.keys

        class Handler(QuietHandler):
            def do_GET(self) -> None:
                seen.append(self.headers.get("X-API-Key"))
                self.send_response_only(401)
                if date_days is not None:
                    self.send_header("Date", formatdate(time.time() + date_days * 86400, usegmt=True))
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_POST = do_GET

        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.ca = make_certificate(folder, datetime.now(UTC) + timedelta(days=certificate_days))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}"


def make_certificate(folder: Path, now: datetime) -> str:
    """A certificate that was made yesterday, by that clock, and is good for a month; returns it as its own CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(key.private_bytes(*form) + pem)
    return pem.decode()


@contextmanager
def elsewhen(folder: Path, certificate_days: float, date_days: float | None) -> Iterator[Elsewhen]:
    """Such a server, until the end of the block."""
    found = Elsewhen(folder, certificate_days, date_days)
    threading.Thread(target=found.server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield found
    finally:
        found.server.shutdown()
        found.server.server_close()


def doctor(tmp_path: Path, server: Elsewhen) -> str:
    """What the doctor of one of its hosts says."""
    machine = Machine(tmp_path / "m")
    machine.put_cdx(stub_cdx(server.url, ca=server.ca))
    machine.put_auth(make_auth())
    done = machine.run_cdx("--doctor")
    assert (done.returncode, done.stderr) == (1, "")
    return done.stdout


@pytest.mark.parametrize(("days", "way"), [(YEARS, "behind"), (-YEARS, "ahead of")])
def test_a_certificate_that_only_a_wrong_clock_refuses(tmp_path: Path, days: int, way: str) -> None:
    with elsewhen(tmp_path, days, days) as server:
        said = doctor(tmp_path, server)
        assert "cannot be verified: certificate " in said
        theirs = time.strftime("%Y-%m", time.localtime(time.time() + days * 86400))
        assert f" {way} the server's {theirs}" in said
        assert "-> set the clock" in said
        assert "register" not in said
        # Whom nothing vouches for gets nothing.
        assert set(server.keys) == {None}


@pytest.mark.parametrize("days", [YEARS, -YEARS])
@pytest.mark.parametrize("date", [0, None], ids=["date", "no date"])
def test_a_certificate_that_is_not_good_now(tmp_path: Path, days: int, date: int | None) -> None:
    with elsewhen(tmp_path, days, date) as server:
        said = doctor(tmp_path, server)
    assert f"-> look at this machine's clock, which says {time.strftime('%Y-')}" in said
    assert "is it right: cdxsync pki renew" in said


@pytest.mark.parametrize(
    ("days", "mark", "says"),
    [
        (YEARS, "FAIL", "behind the server's"),
        (-YEARS, "FAIL", "ahead of the server's"),
        (0.01, "warn", "seconds off the server's"),
    ],
)
def test_a_clock_that_does_not_matter_to_the_certificate(tmp_path: Path, days: float, mark: str, says: str) -> None:
    """Also when the server refuses this host."""
    with elsewhen(tmp_path, 0, days) as server:
        said = doctor(tmp_path, server)
    (line,) = (line for line in said.splitlines() if "this machine's clock" in line)
    assert line.startswith(mark)
    assert says in line
    assert "the server refuses this host" in said


def test_a_right_clock_is_not_spoken_of(tmp_path: Path) -> None:
    with elsewhen(tmp_path, 0, 0) as server:
        assert "this machine's clock" not in doctor(tmp_path, server)


def test_a_clock_before_the_installation(tmp_path: Path) -> None:
    path = tmp_path / "cdx"
    path.write_text("")
    assert clock.clock_before(str(path)) == ""
    later = time.time() + YEARS * 86400
    os.utime(path, (later, later))
    assert f"{path} is from " in clock.clock_before(str(path))
    assert clock.clock_before(str(tmp_path / "missing")) == ""
