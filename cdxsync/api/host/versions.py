"""`GET /versions`: the newest Codex and `cdx`, for anyone."""

from typing import Any

from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.codex import versions
from cdxsync.wrapper import baking

ROUTES = Routes(Group.HOSTS, Caller.ANYONE)


@ROUTES.get("/versions", "Newest Codex and cdx")
def show(context: Context) -> dict[str, Any]:
    """What the server knows of versions."""
    return versions.block(baking.template_sha256())
