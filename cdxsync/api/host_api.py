"""The API that hosts call with their key: `/auth`, `/usage`, `/wrapper`; and `/versions`, open to anyone."""

from typing import Any

from bottle import Bottle, HTTPResponse, request

from cdxsync.api import access, bodies, envelope, params
from cdxsync.auth import exchange
from cdxsync.codex import versions
from cdxsync.hosts import registry
from cdxsync.store import audit
from cdxsync.store.fleet import Fleet
from cdxsync.usage import recording
from cdxsync.wrapper import baking


def mount(app: Bottle, fleet: Fleet, gate: access.HostGate) -> None:
    """Add the routes to `app`."""

    @app.post("/auth")
    def sync_auth() -> HTTPResponse:
        def run(caller: access.Caller, raw: bytes) -> dict[str, Any]:
            body = bodies.object_of(raw)
            call = exchange.Call(
                host_id=caller.host_id,
                api_key=caller.api_key,
                api_key_sha256=caller.api_key_sha256,
                address=caller.address,
                client_version=_reported_version(body, "client_version", "cdx_version"),
                wrapper_version=_reported_version(body, "wrapper_version"),
            )
            return exchange.run(fleet, call, body)

        return envelope.answer(gate.run(run))

    @app.delete("/auth")
    def deregister() -> HTTPResponse:
        host, _ = gate.admit(force=params.flag("force"))
        registry.delete(host, actor=audit.host_actor(host), action="host.delete", initiator="host_api")
        return envelope.answer({"deleted": host.fqdn})

    @app.post("/usage")
    def report_usage() -> HTTPResponse:
        def run(caller: access.Caller, raw: bytes) -> dict[str, Any]:
            key = request.environ.get("HTTP_IDEMPOTENCY_KEY")
            body = bodies.object_of(raw)
            return recording.record(caller.host_id, caller.api_key_sha256, caller.address, body, raw, key)

        return envelope.answer(gate.run(run))

    @app.get("/versions")
    def show_versions() -> HTTPResponse:
        return envelope.answer(versions.block(baking.template_sha256()))

    @app.get("/wrapper")
    def wrapper_metadata() -> HTTPResponse:
        baked = _bake(fleet, gate)
        return envelope.answer(versions.wrapper_metadata(baked.sha256, len(baked.body)))

    @app.get("/wrapper/download")
    def wrapper_download() -> HTTPResponse:
        baked = _bake(fleet, gate)
        return HTTPResponse(
            baked.body,
            200,
            {
                "Content-Type": "text/x-shellscript; charset=utf-8",
                "Content-Disposition": f'attachment; filename="cdx-{baking.version()}.sh"',
                "X-SHA256": baked.sha256,
                "ETag": f'"{baked.sha256}"',
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "no-store",
            },
        )


def _bake(fleet: Fleet, gate: access.HostGate) -> baking.Baked:
    host, key = gate.admit()
    return baking.bake(fleet.settings.public_url, key, host.fqdn, fleet.host_ca_pem, fleet.settings.github_api_url)


def _reported_version(body: dict[str, Any], *names: str) -> str:
    """A version from the body or else the query; only texts that are not blank count (`docs/protocol.md 7.2`)."""
    given = body.get(names[0])
    if isinstance(given, str) and given.strip():
        return versions.reported(given)
    candidates = (request.query.get(name) for name in names)
    return versions.reported(next((text for text in candidates if isinstance(text, str) and text.strip()), None))
