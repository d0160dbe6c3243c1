"""The admin API for hosts. The gate stands in `cdxsync.api.app`, before every route under `/admin`."""

from bottle import Bottle, HTTPResponse

from cdxsync.api import access, bodies, envelope, params
from cdxsync.hosts import installers, registry
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Host
from cdxsync.views import hosts


def mount(app: Bottle, fleet: Fleet) -> None:
    """Add the routes to `app`."""
    limit = fleet.settings.max_body_bytes

    @app.get("/admin/hosts")
    def list_hosts() -> HTTPResponse:
        return envelope.answer(hosts.listing())

    @app.post("/admin/hosts/register")
    def register() -> HTTPResponse:
        fqdn = bodies.body_object(limit).get("fqdn")
        return envelope.answer(installers.register(fleet, fqdn, actor=access.actor()).data())

    @app.get("/admin/hosts/<host_id:int>")
    def show(host_id: int) -> HTTPResponse:
        return envelope.answer(hosts.one(registry.by_id(host_id)))

    @app.delete("/admin/hosts/<host_id:int>")
    def delete(host_id: int) -> HTTPResponse:
        host = registry.by_id(host_id)
        registry.delete(host, actor=access.actor(), action="admin.host.delete")
        return envelope.answer({"deleted": host.id})

    @app.get("/admin/hosts/<host_id:int>/auth")
    def credentials(host_id: int) -> HTTPResponse:
        host, include_body = registry.by_id(host_id), params.switch("include_body")
        return envelope.answer(hosts.credentials(fleet, host, include_body=include_body, actor=access.actor()))

    @app.post("/admin/hosts/<host_id:int>/roaming")
    def roaming(host_id: int) -> HTTPResponse:
        host, allow = registry.by_id(host_id), params.boolean(bodies.body_object(limit), "allow")
        return _changed(registry.set_roaming(host, allow, actor=access.actor()))

    @app.post("/admin/hosts/<host_id:int>/permit")
    def permit(host_id: int) -> HTTPResponse:
        host = registry.by_id(host_id)
        return _changed(registry.set_permits(host, bodies.body_object(limit), actor=access.actor()))

    @app.post("/admin/hosts/<host_id:int>/clear")
    def clear(host_id: int) -> HTTPResponse:
        return envelope.answer(registry.clear(registry.by_id(host_id), actor=access.actor()).data())

    @app.post("/admin/hosts/<host_id:int>/unbind")
    def unbind(host_id: int) -> HTTPResponse:
        return _changed(registry.unbind(registry.by_id(host_id), actor=access.actor()))

    @app.post("/admin/hosts/<host_id:int>/disable")
    def disable(host_id: int) -> HTTPResponse:
        return _changed(registry.set_active(registry.by_id(host_id), False, actor=access.actor()))

    @app.post("/admin/hosts/<host_id:int>/enable")
    def enable(host_id: int) -> HTTPResponse:
        return _changed(registry.set_active(registry.by_id(host_id), True, actor=access.actor()))


def _changed(host: Host) -> HTTPResponse:
    return envelope.answer({"host": registry.brief(host)})
