"""`GET /admin/overview`: the fleet as a whole."""

from cdxsync.api import access
from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.views import overview
from cdxsync.views.schemas import Overview

ROUTES = Routes(Group.FLEET, Caller.ADMIN)


@ROUTES.get("/admin/overview", "The fleet as a whole")
def show(context: Context) -> Overview:
    """The fleet at a glance."""
    return overview.build(context.fleet, access.mtls())
