"""The API that admins call with a client certificate. The gate stands in `cdxsync.http.app`, before every route."""

from typing import Any

from bottle import Bottle, HTTPResponse, request

from cdxsync.domain import exchange, hosts, installers, jsontext
from cdxsync.domain.fleet import Fleet
from cdxsync.errors import Invalid, Malformed
from cdxsync.http import access, envelope
from cdxsync.store.tables import Host


def mount(app: Bottle, fleet: Fleet) -> None:
    """Add the routes to `app`."""
    limit = fleet.settings.max_body_bytes

    @app.get("/admin/hosts")
    def list_hosts() -> HTTPResponse:
        return envelope.answer({"hosts": hosts.listing()})

    @app.post("/admin/hosts/register")
    def register() -> HTTPResponse:
        fqdn = access.body_object(limit).get("fqdn")
        return envelope.answer(installers.register(fleet, fqdn, actor=_actor()).data())

    @app.delete("/admin/hosts/<host_id:int>")
    def delete(host_id: int) -> HTTPResponse:
        host = hosts.by_id(host_id)
        hosts.delete(host, actor=_actor(), action="admin.host.delete")
        return envelope.answer({"deleted": host.id})

    @app.post("/admin/auth/upload")
    def upload() -> HTTPResponse:
        body = access.body_object(limit)
        document = body.get("auth")
        if isinstance(document, str):
            document = _decode_text(document)
        return envelope.answer(exchange.upload(fleet, document, host=_named_host(body.get("host_id")), actor=_actor()))


def _actor() -> str:
    return str(request.environ["cdxsync.actor"])


def _decode_text(text: str) -> Any:
    try:
        return jsontext.decode(text.encode())
    except Malformed as error:
        raise Invalid({"auth": [f"is {error.message}"]}) from None


def _named_host(value: object) -> Host | None:
    """The host of an upload; null, "", "system" and 0 mean the whole fleet (`contract.md` 9.4)."""
    if value in (None, "", "system", 0) and not isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Invalid({"host_id": ['must be a host\'s id, or "system"']})
    return hosts.by_id(value)
