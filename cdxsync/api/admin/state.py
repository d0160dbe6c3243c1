"""`/admin/api/state`: a flag that is kept and shown."""

from cdxsync.api import access
from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.hosts import api_state
from cdxsync.hosts.schemas import ApiState, ApiStateBody

ROUTES = Routes(Group.FLEET, Caller.ADMIN)


@ROUTES.get("/admin/api/state", "A flag that is kept and shown")
def show(context: Context) -> ApiState:
    """The flag."""
    return api_state.get()


@ROUTES.post("/admin/api/state", "Set the flag; nothing else depends on it", body=ApiStateBody, errors=(422,))
def put(context: Context) -> ApiState:
    """Set the flag."""
    return api_state.put(ApiStateBody.read(context.body()).disabled, actor=access.actor())
