"""The API for slash-command prompts: what hosts call with their key, and what admins call with a certificate."""

from bottle import Bottle, HTTPResponse, request

from cdxsync.api import access, bodies, conditional, envelope
from cdxsync.prompts import catalog, history
from cdxsync.store import audit
from cdxsync.store.fleet import Fleet


def mount(app: Bottle, fleet: Fleet, gate: access.HostGate) -> None:
    """Add the routes to `app`."""
    limit = fleet.settings.max_body_bytes

    @app.get("/slash-commands")
    def list_prompts() -> HTTPResponse:
        host, _ = gate.admit()
        # Read before the list: a change in between makes the tag too old, never too new.
        tag = f'"{catalog.revision()}"'
        if conditional.is_current(tag):
            return conditional.not_modified(tag)
        commands = catalog.listing()
        if request.method != "HEAD":
            catalog.note_listed(host, len(commands))
        response = envelope.answer({"commands": commands})
        response.set_header("ETag", tag)
        response.set_header("Cache-Control", "no-cache")
        return response

    @app.post("/slash-commands/retrieve")
    def retrieve_prompt() -> HTTPResponse:
        host, _ = gate.admit()
        return envelope.answer(catalog.retrieve(bodies.body_object(limit), host))

    @app.post("/slash-commands/store")
    def store_prompt() -> HTTPResponse:
        host, _ = gate.admit()
        prompt = catalog.read_prompt(bodies.body_object(limit), fleet.settings.max_prompt_bytes)
        return envelope.answer(catalog.store(prompt, actor=audit.host_actor(host), host=host))


def mount_admin(app: Bottle, fleet: Fleet) -> None:
    """Add the admins' routes to `app`. The gate stands in `cdxsync.api.app`, before every route under `/admin`."""
    limit = fleet.settings.max_body_bytes

    @app.get("/admin/slash-commands")
    def list_all() -> HTTPResponse:
        return envelope.answer({"commands": catalog.listing()})

    @app.get("/admin/slash-commands/<filename>")
    def show(filename: str) -> HTTPResponse:
        return envelope.answer(catalog.whole(catalog.find(filename)))

    @app.get("/admin/slash-commands/<filename>/history")
    def list_history(filename: str) -> HTTPResponse:
        return envelope.answer(history.listing(filename))

    @app.get("/admin/slash-commands/<filename>/history/<version_id:int>")
    def show_version(filename: str, version_id: int) -> HTTPResponse:
        return envelope.answer(history.version(filename, version_id))

    @app.post("/admin/slash-commands/store")
    def store() -> HTTPResponse:
        prompt = catalog.read_prompt(bodies.body_object(limit), fleet.settings.max_prompt_bytes)
        return envelope.answer(catalog.store(prompt, actor=access.actor()))

    @app.delete("/admin/slash-commands/<filename>")
    def delete(filename: str) -> HTTPResponse:
        return envelope.answer({"deleted": catalog.delete(filename, actor=access.actor())})
