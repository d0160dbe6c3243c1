"""Certificates and the revocation list: readable, consistent, and not about to expire."""

import ssl
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

from cdxsync.base.errors import CdxsyncError, Refused
from cdxsync.ops import homes
from cdxsync.ops.doctor.model import Finding, Subject, fail, ok, warn
from cdxsync.security import pki
from cdxsync.security.pki import CertificateInfo
from cdxsync.security.revocation import Revocations

CA_WARN_DAYS = 180
RENEW = "cdxsync pki renew   then reload the server: systemctl reload cdxsync, or SIGHUP"
RESTORE = "restore pki/ from a backup: cdxsync db restore FILE --force"


def certificates(subject: Subject) -> Iterator[Finding]:
    """The CA's, the server's, and the admins'."""
    try:
        infos = pki.list_certificates(subject.home / homes.PKI_NAME)
    except CdxsyncError as error:
        yield fail(error.explain(), RESTORE)
        return
    for info in infos:
        if info.kind == "ca":
            yield _ca(info, subject)
        elif info.kind == "server" and subject.settings.tls_certificate is None and not subject.settings.plain_http:
            yield _expiry("the server's certificate", info, subject, RENEW)
    if subject.settings.tls_certificate is not None and subject.settings.tls_key is not None:
        yield _own(subject.settings.tls_certificate, subject.settings.tls_key, subject)
    yield from _admins([info for info in infos if info.kind == "client"], subject)


def _ca(info: CertificateInfo, subject: Subject) -> Finding:
    if info.not_before > subject.at:
        made = f"{info.not_before:%Y-%m-%d %H:%M}"
        return fail(f"the CA was made at {made} UTC, in the future: the clock is behind", "timedatectl set-ntp true")
    days = (info.not_after - subject.at).days
    text = f"the CA expires on {info.not_after:%Y-%m-%d}"
    mend = "plan a new home with a new CA, and install cdx on all hosts again"
    if days < 0:
        return fail(text, mend)
    return warn(text, mend) if days < CA_WARN_DAYS else ok(text)


def _expiry(name: str, info: CertificateInfo, subject: Subject, mend: str) -> Finding:
    days = (info.not_after - subject.at).total_seconds() / 86400
    if days < 0:
        return fail(f"{name} expired on {info.not_after:%Y-%m-%d}", mend)
    text = f"{name} expires on {info.not_after:%Y-%m-%d}"
    return warn(text, mend) if days < pki.RENEW_DAYS else ok(text)


def _own(certificate: Path, key: Path, subject: Subject) -> Finding:
    """A certificate of the admin's own, with its key."""
    mend = "check the settings tls_certificate and tls_key"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        info = pki.describe("server", certificate)
    except (OSError, CdxsyncError) as error:
        return fail(f"{certificate} and {key} cannot be used: {error}", mend)
    return _expiry(str(certificate), info, subject, f"renew it at its issuer; {mend}")


def _admins(infos: list[CertificateInfo], subject: Subject) -> Iterator[Finding]:
    good = [info for info in infos if info.status == "active"]
    if not good:
        yield fail("no admin has a valid certificate", "cdxsync pki issue NAME")
    for info in good:
        mend = f"cdxsync pki revoke {info.name} --yes && cdxsync pki issue {info.name}"
        finding = _expiry(f"the certificate of {info.name}", info, subject, mend)
        if finding.level != "ok" or info is good[0]:
            yield finding


def revocation_list(subject: Subject) -> Iterator[Finding]:
    """It exists, the CA signed it, and it is in force."""
    directory = subject.home / homes.PKI_NAME
    path = directory / "crl.pem"
    try:
        Revocations(path, directory / "ca.pem").is_revoked(0)
        crl = x509.load_pem_x509_crl(path.read_bytes())
    except (Refused, OSError, ValueError):
        yield fail(f"{path} cannot be used, so the server refuses every admin", RESTORE)
        return
    until = crl.next_update_utc
    if until is not None and until < subject.at:
        yield warn(f"{path} expired on {until:%Y-%m-%d}", "revoke a certificate: cdxsync pki revoke NAME")
    else:
        yield ok(f"{len(crl)} certificates are revoked")
