"""`/auth`: a host fetches the canonical document, stores a newer one, or deregisters itself."""

from typing import Any

from bottle import request

from cdxsync.api import bodies, params
from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.auth import exchange
from cdxsync.auth.schemas import AuthAnswer, RetrieveBody, StoreBody
from cdxsync.codex import versions
from cdxsync.hosts import admission, leaving
from cdxsync.hosts.schemas import Deregistered, read_background

ROUTES = Routes(Group.HOSTS, Caller.HOST)


@ROUTES.post(
    "/auth", "Fetch the canonical auth.json, or store a newer one", body=RetrieveBody | StoreBody, errors=(422,)
)
def sync(context: Context) -> AuthAnswer:
    """`retrieve` and `store`, by the body's `command`."""

    def run(caller: admission.Caller, raw: bytes) -> AuthAnswer:
        body = bodies.object_of(raw)
        reported = exchange.Reported(
            client_version=_reported_version(body, "client_version", "cdx_version"),
            wrapper_version=_reported_version(body, "wrapper_version"),
            background=read_background(body.get("background")),
        )
        return exchange.run(context.fleet, caller, body, reported)

    return context.hosts.run(run)


@ROUTES.delete("/auth", "Deregister the calling host", query=(params.FORCE_ADDRESS,))
def deregister(context: Context) -> Deregistered:
    """Delete the host that calls."""
    anywhere = params.flag("force")
    caller = context.hosts.admit(anywhere=anywhere)
    try:
        leaving.deregister(caller, anywhere=anywhere)
    except admission.RowChanged as changed:
        raise changed.answer from None
    return Deregistered(deleted=caller.fqdn)


def _reported_version(body: dict[str, Any], *names: str) -> str:
    """A version from the body or else the query; only texts that are not blank count (`docs/protocol.md 7.2`)."""
    given = body.get(names[0])
    if isinstance(given, str) and given.strip():
        return versions.reported(given)
    candidates = (request.query.get(name) for name in names)
    return versions.reported(next((text for text in candidates if isinstance(text, str) and text.strip()), None))
