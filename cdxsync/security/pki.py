"""The certificates of one server, as files: CA, server certificate, and client certificates of admins.

Layout of the folder (0700): `ca.pem|key`, `server.pem|key` (the certificate with its CA), `admin.pem|key`, `crl.pem`,
and `issued/<name>.pem|key` for further admins. Replaced certificates stay as `issued/<name>+<serial>.pem`, so that `pki
list` shows all; no name can hold a `+`. Keys are 0600 from their first byte. All changes happen under a lock on the
folder, so that two processes cannot lose a revocation.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cdxsync.base.errors import Conflict, Failed, Invalid, NotFound
from cdxsync.base.files import write_atomically, write_private
from cdxsync.security import revocation, server_names

CA_DAYS = 3653
LEAF_DAYS = 825
RENEW_DAYS = 30
ADMIN = "admin"
_SKEW = timedelta(minutes=10)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


Kind = Literal["ca", "server", "client"]
Status = Literal["active", "revoked", "expired"]


@dataclass(frozen=True)
class CertificateInfo:
    """A certificate."""

    kind: Kind
    name: str
    subject: str
    serial: str
    not_before: datetime
    not_after: datetime
    fingerprint: str
    status: Status
    revoked_at: datetime | None


@dataclass(frozen=True)
class IssuedCertificate:
    """A new client certificate and the paths of it and its key."""

    info: CertificateInfo
    certificate: Path
    key: Path


_AS_OWNER = "Run this as the user that runs cdxsync serve, or remove the cause"


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with the process at the latest."""
    if not directory.is_dir():
        raise Failed(f"{directory}: has no certificates. Make them with: cdxsync init", code="certificate_unusable")
    try:
        lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(lock, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
    except OSError as error:
        raise Failed(f"{error.filename or directory}: {error.strerror}. {_AS_OWNER}", code="file_unusable") from None


def _make_private(directory: Path) -> None:
    """Make a folder that only its owner can enter; the umask limits the mode given to mkdir."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise Failed(f"{directory}: cannot be created: {error.strerror}. {_AS_OWNER}", code="file_unusable") from None


def create(directory: Path, names: Sequence[str]) -> None:
    """Make a CA, a server certificate for `names` (DNS names and IP addresses), an admin's certificate, an empty CRL.

    Raises `Conflict` when there is a CA already. Where only the CA's certificate is missing, as after a try that was
    cut off, it keeps the CA's key and what that has signed: hosts may trust it, and the list may have revocations.
    """
    _make_private(directory)
    with _locked(directory):
        if (directory / "ca.pem").exists():
            raise Conflict(
                f"{directory} has a CA already. For another CA, give another --home", code="certificate_exists"
            )
        ca_key = directory / "ca.key"
        resuming = ca_key.exists()
        key = _read_key(ca_key) if resuming else ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cdxsync CA")])
        builder = _builder(subject, subject, key, CA_DAYS)
        usage = _usage(key_cert_sign=True, crl_sign=True)
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        # The CA's certificate comes last: with it the folder is complete.
        write_private(ca_key, _pem(key))
        authority = _Authority(certificate, key)
        _write_server(directory, authority, names)
        if not (resuming and (directory / f"{ADMIN}.pem").exists()):
            _write_client(directory / f"{ADMIN}.pem", authority, ADMIN, LEAF_DAYS)
        if not (resuming and (directory / "crl.pem").exists()):
            revocation.write(directory / "crl.pem", certificate, key, {})
        write_atomically(directory / "ca.pem", certificate.public_bytes(Encoding.PEM), 0o644)


def ensure_server_certificate(directory: Path, names: Sequence[str]) -> bool:
    """Make a new server certificate when one of `names` is not covered or it expires within 30 days.

    Also when it and its key are not a pair, or another CA signed it. Returns whether it did.
    """
    with _locked(directory):
        if _serves(directory, names):
            return False
        _write_server(directory, _load_authority(directory), names)
        return True


def _serves(directory: Path, names: Sequence[str]) -> bool:
    ca = _read_certificate(directory / "ca.pem")
    certificate = _read_certificate(directory / "server.pem", "make a new one with: cdxsync pki renew")
    key = _read_key(directory / "server.key", "make a new one with: cdxsync pki renew")
    try:
        certificate.verify_directly_issued_by(ca)
        covered = set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return (
        {server_names.general_name(name) for name in names} <= covered
        and certificate.public_key() == key.public_key()
        and certificate.not_valid_after_utc > _now() + timedelta(days=RENEW_DAYS)
    )


def renew_server(directory: Path, names: Sequence[str]) -> None:
    """Make a new server certificate and key for `names`."""
    with _locked(directory):
        _write_server(directory, _load_authority(directory), names)


def issue(directory: Path, name: str, days: int = LEAF_DAYS) -> IssuedCertificate:
    """Make a client certificate with the common name `name`, valid for `days`, but not for longer than its CA.

    Raises `Invalid` for a bad name or time, `Conflict` when an active certificate has the name.
    """
    wrong = {}
    if not _NAME.fullmatch(name):
        wrong["name"] = ["must be 1 to 64 of letters, digits, . _ @ -, and start with a letter or digit"]
    if not 1 <= days <= CA_DAYS:
        wrong["days"] = [f"must be 1 to {CA_DAYS}"]
    if wrong:
        raise Invalid(wrong)
    with _locked(directory):
        path = _client_path(directory, name)
        if path.exists():
            old = _client_info(directory, path)
            if old.status == "active":
                raise Conflict(
                    f"There is an active certificate {name!r}. Revoke it first: cdxsync pki revoke {name}   or choose"
                    " another name",
                    code="certificate_exists",
                )
            _make_private(directory / "issued")
            write_atomically(directory / "issued" / f"{name}+{old.serial}.pem", path.read_bytes(), 0o644)
        _make_private(path.parent)
        _write_client(path, _load_authority(directory), name, days)
        return IssuedCertificate(_client_info(directory, path), path, path.with_suffix(".key"))


def list_certificates(directory: Path) -> list[CertificateInfo]:
    """All certificates: the CA's, the server's, then the clients' by name and age."""
    ca = _read_certificate(directory / "ca.pem")
    revoked = revocation.read(directory / "crl.pem", ca)
    infos = [_info("ca", ca), _info("server", _read_certificate(directory / "server.pem"))]
    certificates = [_read_certificate(path) for path in _client_paths(directory)]
    clients = [_info("client", certificate, revoked.get(certificate.serial_number)) for certificate in certificates]
    return infos + sorted(clients, key=lambda info: (info.name, info.not_before))


def describe(kind: Kind, path: Path) -> CertificateInfo:
    """The certificate in a file. Raises `Failed`."""
    return _info(kind, _read_certificate(path))


def revoke(directory: Path, name_or_serial: str) -> CertificateInfo:
    """Put a client certificate on the CRL; a second time is no error. Raises `NotFound`."""
    with _locked(directory):
        path = _find_client(directory, name_or_serial)
        serial = _read_certificate(path).serial_number
        authority = _load_authority(directory)
        revoked = revocation.read(directory / "crl.pem", authority.certificate)
        if serial not in revoked:
            revocation.write(directory / "crl.pem", authority.certificate, authority.key, {**revoked, serial: _now()})
        return _client_info(directory, path)


def _find_client(directory: Path, name_or_serial: str) -> Path:
    current = _client_path(directory, name_or_serial) if _NAME.fullmatch(name_or_serial) else None
    if current is not None and current.exists():
        return current
    serial = name_or_serial.replace(":", "").lower().lstrip("0")  # openssl and browsers write 0A:BC
    for path in _client_paths(directory):
        if f"{_read_certificate(path).serial_number:x}" == serial:
            return path
    raise NotFound(f"No client certificate {name_or_serial!r}. See: cdxsync pki list", code="certificate_not_found")


def find(directory: Path, name_or_serial: str) -> CertificateInfo:
    """A client certificate by the name of its owner or its serial. Raises `NotFound`."""
    return _client_info(directory, _find_client(directory, name_or_serial))


def export_pkcs12(directory: Path, name: str, password: bytes) -> bytes:
    """A client certificate with its key and CA as PKCS#12, for browsers. Raises `NotFound`, also without the key."""
    path = _client_path(directory, name) if _NAME.fullmatch(name) else None
    if path is None or not path.exists():
        raise NotFound(f"No client certificate {name!r}. See: cdxsync pki list", code="certificate_not_found")
    if not path.with_suffix(".key").exists():
        raise NotFound(
            f"{path.with_suffix('.key')}: the key of {name!r} is missing, so nothing can be exported. Make another:"
            f" cdxsync pki revoke {name}, then cdxsync pki issue {name}",
            code="certificate_not_found",
        )
    certificate, key = _read_certificate(path), _read_key(path.with_suffix(".key"))
    ca = _read_certificate(directory / "ca.pem")
    label = f"cdxsync {name}".encode()
    return pkcs12.serialize_key_and_certificates(label, key, certificate, [ca], BestAvailableEncryption(password))


@dataclass(frozen=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def _load_authority(directory: Path) -> _Authority:
    return _Authority(_read_certificate(directory / "ca.pem"), _read_key(directory / "ca.key"))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    days: int,
    not_beyond: datetime | None = None,
) -> x509.CertificateBuilder:
    now = _now()
    end = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(end if not_beyond is None else min(end, not_beyond))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _leaf(
    authority: _Authority, name: str, purpose: x509.ObjectIdentifier, days: int
) -> tuple[x509.CertificateBuilder, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_key_id = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    )
    builder = (
        _builder(subject, authority.certificate.subject, key, days, authority.certificate.not_valid_after_utc)
        .add_extension(issuer_key_id, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    return builder, key


def _write_client(path: Path, authority: _Authority, name: str, days: int) -> None:
    builder, key = _leaf(authority, name, ExtendedKeyUsageOID.CLIENT_AUTH, days)
    certificate = builder.sign(authority.key, hashes.SHA256())
    write_private(path.with_suffix(".key"), _pem(key))
    write_atomically(path, certificate.public_bytes(Encoding.PEM), 0o644)


def _write_server(directory: Path, authority: _Authority, names: Sequence[str]) -> None:
    builder, key = _leaf(authority, names[0][:64], ExtendedKeyUsageOID.SERVER_AUTH, LEAF_DAYS)
    alternatives = x509.SubjectAlternativeName([server_names.general_name(name) for name in names])
    certificate = builder.add_extension(alternatives, critical=False).sign(authority.key, hashes.SHA256())
    write_private(directory / "server.key", _pem(key))
    chain = certificate.public_bytes(Encoding.PEM) + authority.certificate.public_bytes(Encoding.PEM)
    write_atomically(directory / "server.pem", chain, 0o644)


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _client_path(directory: Path, name: str) -> Path:
    return directory / f"{ADMIN}.pem" if name == ADMIN else directory / "issued" / f"{name}.pem"


def _client_paths(directory: Path) -> list[Path]:
    return [directory / f"{ADMIN}.pem", *sorted((directory / "issued").glob("*.pem"))]


def _client_info(directory: Path, path: Path) -> CertificateInfo:
    certificate = _read_certificate(path)
    revoked = revocation.read(directory / "crl.pem", _read_certificate(directory / "ca.pem"))
    return _info("client", certificate, revoked.get(certificate.serial_number))


def _info(kind: Kind, certificate: x509.Certificate, revoked_at: datetime | None = None) -> CertificateInfo:
    expired = certificate.not_valid_after_utc <= _now()
    return CertificateInfo(
        kind=kind,
        name=_common_name(certificate),
        subject=certificate.subject.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        status="revoked" if revoked_at else "expired" if expired else "active",
        revoked_at=revoked_at,
    )


def _common_name(certificate: x509.Certificate) -> str:
    """The common name of a certificate; empty without one."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


_FROM_BACKUP = "restore it from a backup"


def _read_certificate(path: Path, advice: str = _FROM_BACKUP) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise Failed(
            f"{path}: cannot be read as a certificate ({_reason(error)}); {advice}", code="certificate_unusable"
        ) from None


def _read_key(path: Path, advice: str = _FROM_BACKUP) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise Failed(
            f"{path}: cannot be read as a private key ({_reason(error)}); {advice}", code="certificate_unusable"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Failed(f"{path}: not an elliptic-curve key; {advice}", code="certificate_unusable")
    return key


def _reason(error: Exception) -> str:
    return error.strerror or "" if isinstance(error, OSError) else "not PEM"
