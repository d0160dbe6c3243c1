"""The admin API for hosts. The gate stands in `cdxsync.http.app`, before every route under `/admin`."""

from bottle import Bottle, HTTPResponse

from cdxsync.domain import host_reports, hosts, installers
from cdxsync.domain.fleet import Fleet
from cdxsync.http import access, bodies, envelope, params
from cdxsync.store.tables import Host


def mount(app: Bottle, fleet: Fleet) -> None:
    """Add the routes to `app`."""
    limit = fleet.settings.max_body_bytes

    @app.get("/admin/hosts")
    def list_hosts() -> HTTPResponse:
        return envelope.answer(host_reports.listing())

    @app.post("/admin/hosts/register")
    def register() -> HTTPResponse:
        fqdn = bodies.body_object(limit).get("fqdn")
        return envelope.answer(installers.register(fleet, fqdn, actor=access.actor()).data())

    @app.get("/admin/hosts/<host_id:int>")
    def show(host_id: int) -> HTTPResponse:
        return envelope.answer(host_reports.one(hosts.by_id(host_id)))

    @app.delete("/admin/hosts/<host_id:int>")
    def delete(host_id: int) -> HTTPResponse:
        host = hosts.by_id(host_id)
        hosts.delete(host, actor=access.actor(), action="admin.host.delete")
        return envelope.answer({"deleted": host.id})

    @app.get("/admin/hosts/<host_id:int>/auth")
    def credentials(host_id: int) -> HTTPResponse:
        host, include_body = hosts.by_id(host_id), params.switch("include_body")
        return envelope.answer(host_reports.credentials(fleet, host, include_body=include_body, actor=access.actor()))

    @app.post("/admin/hosts/<host_id:int>/roaming")
    def roaming(host_id: int) -> HTTPResponse:
        host, allow = hosts.by_id(host_id), params.boolean(bodies.body_object(limit), "allow")
        return _changed(hosts.set_roaming(host, allow, actor=access.actor()))

    @app.post("/admin/hosts/<host_id:int>/permit")
    def permit(host_id: int) -> HTTPResponse:
        host = hosts.by_id(host_id)
        return _changed(hosts.set_permits(host, bodies.body_object(limit), actor=access.actor()))

    @app.post("/admin/hosts/<host_id:int>/clear")
    def clear(host_id: int) -> HTTPResponse:
        return envelope.answer(hosts.clear(hosts.by_id(host_id), actor=access.actor()).data())

    @app.post("/admin/hosts/<host_id:int>/unbind")
    def unbind(host_id: int) -> HTTPResponse:
        return _changed(hosts.unbind(hosts.by_id(host_id), actor=access.actor()))

    @app.post("/admin/hosts/<host_id:int>/disable")
    def disable(host_id: int) -> HTTPResponse:
        return _changed(hosts.set_active(hosts.by_id(host_id), False, actor=access.actor()))

    @app.post("/admin/hosts/<host_id:int>/enable")
    def enable(host_id: int) -> HTTPResponse:
        return _changed(hosts.set_active(hosts.by_id(host_id), True, actor=access.actor()))


def _changed(host: Host) -> HTTPResponse:
    return envelope.answer({"host": hosts.brief(host)})
