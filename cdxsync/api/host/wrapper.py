"""`/wrapper`: the calling host's own `cdx`, with its key in it."""

from bottle import HTTPResponse

from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.codex import versions
from cdxsync.codex.schemas import WrapperMetadata
from cdxsync.hosts.admission import Caller as Host
from cdxsync.security import signing
from cdxsync.wrapper import baking

ROUTES = Routes(Group.HOSTS, Caller.HOST)
SCRIPT = "text/x-shellscript"


@ROUTES.get("/wrapper", "Version and digest of the host's cdx")
def show(context: Context) -> WrapperMetadata:
    """What `download` would give, without it."""
    baked = _bake(context, context.hosts.admit())
    return versions.wrapper_metadata(baked.sha256, len(baked.body))


@ROUTES.get("/wrapper/download", "The host's cdx, with its key in it", content=SCRIPT)
def download(context: Context) -> HTTPResponse:
    """The script, signed for its host."""
    host = context.hosts.admit()
    baked = _bake(context, host)
    signature = context.fleet.signing.sign(signing.cdx_text(host.fqdn, baking.version(), baked.sha256))
    return HTTPResponse(
        baked.body,
        200,
        ({signing.HEADER: signature} if signature else {})
        | {
            "Content-Type": f"{SCRIPT}; charset=utf-8",
            "Content-Disposition": f'attachment; filename="cdx-{baking.version()}.sh"',
            "X-SHA256": baked.sha256,
            "ETag": f'"{baked.sha256}"',
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        },
    )


def _bake(context: Context, host: Host) -> baking.Baked:
    fleet, settings = context.fleet, context.fleet.settings
    rest = (host.fqdn, fleet.host_ca_pem, settings.github_api_url, fleet.signing.public)
    return baking.bake(settings.public_url, host.api_key, *rest)
