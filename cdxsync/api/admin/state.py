"""`/admin/api/state`: a flag that is kept and shown."""

from typing import Any

from cdxsync.api import access, params
from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.hosts import api_state

ROUTES = Routes(Group.FLEET, Caller.ADMIN)


@ROUTES.get("/admin/api/state", "A flag that is kept and shown")
def show(context: Context) -> dict[str, Any]:
    """The flag."""
    return api_state.get()


@ROUTES.post("/admin/api/state", "Set the flag; nothing else depends on it", errors=(422,))
def put(context: Context) -> dict[str, Any]:
    """Set the flag."""
    return api_state.put(params.boolean(context.body(), "disabled"), actor=access.actor())
