"""`GET /versions`: the newest Codex and `cdx`, for anyone."""

from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.codex import versions
from cdxsync.codex.schemas import Versions
from cdxsync.wrapper import baking

ROUTES = Routes(Group.HOSTS, Caller.ANYONE)


@ROUTES.get("/versions", "Newest Codex and cdx")
def show(context: Context) -> Versions:
    """What the server knows of versions."""
    return versions.current(baking.template_sha256())
