"""The certificates of the server as admins see them, through either door."""

from pathlib import Path
from typing import Any

from cdxsync.base import clock
from cdxsync.security import pki


def listing(directory: Path) -> dict[str, Any]:
    """`certificates`: the CA's, the server's and all that admins ever had. Raises `Failed`."""
    return {"certificates": [shown(info) for info in pki.list_certificates(directory)]}


def shown(info: pki.CertificateInfo) -> dict[str, Any]:
    """A certificate: `kind` is ca, server or client; `status` active, revoked or expired."""
    return {
        "kind": info.kind,
        "name": info.name,
        "subject": info.subject,
        "serial": info.serial,
        "not_before": clock.stamp(info.not_before),
        "not_after": clock.stamp(info.not_after),
        "fingerprint": info.fingerprint,
        "status": info.status,
        "revoked_at": None if info.revoked_at is None else clock.stamp(info.revoked_at),
    }
