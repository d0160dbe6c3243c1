"""`/wrapper`: the calling host's own `cdx`, with its key in it."""

from bottle import HTTPResponse

from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.codex import versions
from cdxsync.codex.schemas import WrapperMetadata
from cdxsync.wrapper import baking

ROUTES = Routes(Group.HOSTS, Caller.HOST)
SCRIPT = "text/x-shellscript"


@ROUTES.get("/wrapper", "Version and digest of the host's cdx")
def show(context: Context) -> WrapperMetadata:
    """What `download` would give, without it."""
    baked = _bake(context)
    return versions.wrapper_metadata(baked.sha256, len(baked.body))


@ROUTES.get("/wrapper/download", "The host's cdx, with its key in it", content=SCRIPT)
def download(context: Context) -> HTTPResponse:
    """The script."""
    baked = _bake(context)
    return HTTPResponse(
        baked.body,
        200,
        {
            "Content-Type": f"{SCRIPT}; charset=utf-8",
            "Content-Disposition": f'attachment; filename="cdx-{baking.version()}.sh"',
            "X-SHA256": baked.sha256,
            "ETag": f'"{baked.sha256}"',
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        },
    )


def _bake(context: Context) -> baking.Baked:
    caller = context.hosts.admit()
    fleet, settings = context.fleet, context.fleet.settings
    return baking.bake(settings.public_url, caller.api_key, caller.fqdn, fleet.host_ca_pem, settings.github_api_url)
