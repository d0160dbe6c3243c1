"""`GET /admin/certificates`: the certificates of this server, with their ends."""

from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.ops import homes
from cdxsync.views import certificates
from cdxsync.views.schemas import CertificateList

ROUTES = Routes(Group.OPERATION, Caller.ADMIN)


@ROUTES.get("/admin/certificates", "The CA's, the server's and all that admins ever had")
def list_certificates(context: Context) -> CertificateList:
    """All certificates."""
    return certificates.list_all(context.fleet.settings.home / homes.PKI_NAME)
