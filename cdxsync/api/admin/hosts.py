"""`/admin/hosts`: registering, listing, changing and deleting hosts."""

from cdxsync.api import access, params
from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.auth import offers
from cdxsync.auth.account_schemas import AcceptBody, LoginAccepted
from cdxsync.hosts import installers, registry
from cdxsync.hosts.schemas import (
    HostChanged,
    HostCleared,
    HostDeleted,
    HostPurged,
    PermitBody,
    PurgeBody,
    RegisterBody,
    Registered,
    RoamingBody,
)
from cdxsync.ops import purging
from cdxsync.store.tables import Host
from cdxsync.views import hosts
from cdxsync.views.schemas import HostCredentials, HostList, HostShown

ROUTES = Routes(Group.FLEET, Caller.ADMIN)


@ROUTES.get("/admin/hosts", "All hosts")
def list_hosts(context: Context) -> HostList:
    """All hosts, by name."""
    return hosts.list_all()


@ROUTES.post(
    "/admin/hosts/register",
    "Register a host, or give it a new key, with a single-use installer",
    body=RegisterBody,
    errors=(422,),
)
def register(context: Context) -> Registered:
    """Register a host, or rotate its key."""
    return installers.register(context.fleet, context.body().get("fqdn"), actor=access.actor()).answer


@ROUTES.get("/admin/hosts/<host_id:int>", "One host", errors=(404,))
def show(context: Context, host_id: int) -> HostShown:
    """A host as it stands in the list."""
    return hosts.show(registry.by_id(host_id))


@ROUTES.delete("/admin/hosts/<host_id:int>", "Delete a host", errors=(404,))
def delete(context: Context, host_id: int) -> HostDeleted:
    """Delete a host."""
    host = registry.by_id(host_id)
    registry.delete(host, actor=access.actor(), action="admin.host.delete")
    return HostDeleted(deleted=host.id)


@ROUTES.get(
    "/admin/hosts/<host_id:int>/auth", "Which credentials a host holds", query=(params.INCLUDE_BODY,), errors=(404,)
)
def credentials(context: Context, host_id: int) -> HostCredentials:
    """The credentials of a host beside the fleet's."""
    host, include_body = registry.by_id(host_id), params.switch("include_body")
    return hosts.credentials(context.fleet, host, include_body=include_body, actor=access.actor())


@ROUTES.post(
    "/admin/hosts/<host_id:int>/roaming",
    "Let a host call from any address, or not",
    body=RoamingBody,
    errors=(404, 422),
)
def roaming(context: Context, host_id: int) -> HostChanged:
    """Let a host roam, or not."""
    host, allow = registry.by_id(host_id), RoamingBody.read(context.body()).allow
    return _changed(registry.set_roaming(host, allow, actor=access.actor()))


@ROUTES.post(
    "/admin/hosts/<host_id:int>/permit",
    "Let a host store credentials or prompts for the fleet, or keep credentials after a run, or not",
    body=PermitBody,
    errors=(404, 422),
)
def permit(context: Context, host_id: int) -> HostChanged:
    """Change what a host may store and keep."""
    host = registry.by_id(host_id)
    return _changed(registry.set_permits(host, PermitBody.read(context.body()), actor=access.actor()))


@ROUTES.post(
    "/admin/hosts/<host_id:int>/auth/accept",
    "Take a host's login of another account, or not",
    body=AcceptBody,
    errors=(404, 409, 422),
)
def accept(context: Context, host_id: int) -> LoginAccepted:
    """Say what becomes of logins of other accounts of a host."""
    host, rule = registry.by_id(host_id), AcceptBody.read(context.body()).rule
    return offers.accept(host, rule, actor=access.actor())


@ROUTES.post(
    "/admin/hosts/<host_id:int>/clear", "Forget which credentials a host was last known to hold", errors=(404,)
)
def clear(context: Context, host_id: int) -> HostCleared:
    """Forget what a host holds."""
    return registry.clear(registry.by_id(host_id), actor=access.actor())


@ROUTES.post(
    "/admin/hosts/<host_id:int>/purge",
    "Undo what a host has stored of prompts, or reported of usage",
    body=PurgeBody,
    errors=(404, 422),
)
def purge(context: Context, host_id: int) -> HostPurged:
    """Undo what a host has done."""
    host = registry.by_id(host_id)
    return purging.purge(host, PurgeBody.read(context.body()), actor=access.actor())


@ROUTES.post("/admin/hosts/<host_id:int>/unbind", "Forget a host's address", errors=(404,))
def unbind(context: Context, host_id: int) -> HostChanged:
    """Forget a host's address."""
    return _changed(registry.unbind(registry.by_id(host_id), actor=access.actor()))


@ROUTES.post("/admin/hosts/<host_id:int>/disable", "Refuse a host's calls", errors=(404,))
def disable(context: Context, host_id: int) -> HostChanged:
    """Refuse a host's calls."""
    return _changed(registry.set_active(registry.by_id(host_id), False, actor=access.actor()))


@ROUTES.post("/admin/hosts/<host_id:int>/enable", "Take a host's calls again", errors=(404,))
def enable(context: Context, host_id: int) -> HostChanged:
    """Take a host's calls again."""
    return _changed(registry.set_active(registry.by_id(host_id), True, actor=access.actor()))


def _changed(host: Host) -> HostChanged:
    return HostChanged.of(host)
