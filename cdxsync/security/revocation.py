"""The certificate revocation list (CRL): writing it, and checking it on every admin request."""

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cdxsync.base.errors import Failed, Refused
from cdxsync.base.files import identity, write_atomically

_VALID = timedelta(days=3650)
"""The list is written when it changes, not on a schedule: it must not expire in between."""


def read(path: Path, ca: x509.Certificate) -> dict[int, datetime]:
    """The revoked serial numbers and when they were revoked.

    Raises `Failed` when the file is missing, broken, or not signed by `ca`: signing the next list must not turn a
    foreign one, which revokes nothing, into a valid one.
    """
    crl = _load(path)
    key = ca.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not crl.is_signature_valid(key):
        raise Failed(
            f"{path}: not signed by this server's CA; restore the revocation list from a backup",
            code="revocation_list_unusable",
        )
    return {entry.serial_number: entry.revocation_date_utc for entry in crl}


def _load(path: Path) -> x509.CertificateRevocationList:
    try:
        return x509.load_pem_x509_crl(path.read_bytes())
    except OSError as error:
        raise Failed(
            f"{path}: {error.strerror}; restore the revocation list from a backup", code="revocation_list_unusable"
        ) from None
    except ValueError:
        raise Failed(
            f"{path}: not a revocation list; restore it from a backup", code="revocation_list_unusable"
        ) from None


def write(path: Path, ca: x509.Certificate, key: ec.EllipticCurvePrivateKey, revoked: Mapping[int, datetime]) -> None:
    """Write the list of `revoked` serial numbers, signed by the CA, with the next number."""
    now = datetime.now(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.subject)
        .last_update(now)
        .next_update(now + _VALID)
        .add_extension(x509.CRLNumber(_next_number(path)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    for serial, at in revoked.items():
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at).build()
        builder = builder.add_revoked_certificate(entry)
    write_atomically(path, builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), 0o644)


def _next_number(path: Path) -> int:
    if not path.exists():
        return 1
    return _load(path).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1


class Revocations:
    """Tells whether a serial number is revoked, by the file's present content. Thread-safe."""

    def __init__(self, crl_path: Path, ca_path: Path) -> None:
        self._crl_path = crl_path
        self._ca_path = ca_path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._serials: frozenset[int] = frozenset()

    def is_revoked(self, serial: int) -> bool:
        """Whether `serial` is on the list. Raises `Refused` when the list is missing, broken or foreign."""
        with self._lock:
            self._refresh()
            return serial in self._serials

    def any(self) -> bool:
        """Whether a certificate has been revoked. Raises `Refused` as `is_revoked` does."""
        with self._lock:
            self._refresh()
            return bool(self._serials)

    def _refresh(self) -> None:
        try:
            seen = identity(self._crl_path)
            if seen != self._seen:
                self._serials = self._verified()
                self._seen = seen
        except (OSError, ValueError, Failed):
            self._seen = None
            raise Refused(
                "The revocation list cannot be used, so no client certificate is accepted. On the server, run:"
                " cdxsync doctor",
                code="certificate_unverifiable",
            ) from None

    def _verified(self) -> frozenset[int]:
        return frozenset(read(self._crl_path, x509.load_pem_x509_certificate(self._ca_path.read_bytes())))
