"""`GET /admin/overview`: the fleet as a whole."""

from typing import Any

from cdxsync.api import access
from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.views import overview

ROUTES = Routes(Group.FLEET, Caller.ADMIN)


@ROUTES.get("/admin/overview", "The fleet as a whole")
def show(context: Context) -> dict[str, Any]:
    """The fleet at a glance."""
    return overview.build(context.fleet, access.mtls())
