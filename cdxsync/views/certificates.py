"""The certificates of the server as admins see them, through either door."""

from pathlib import Path

from cdxsync.security import pki
from cdxsync.views.schemas import Certificate, CertificateList


def list_all(directory: Path) -> CertificateList:
    """The CA's, the server's and all that admins ever had. Raises `Failed`."""
    return CertificateList(certificates=[Certificate.of(info) for info in pki.list_certificates(directory)])
