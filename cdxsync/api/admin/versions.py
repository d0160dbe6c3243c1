"""`POST /admin/versions/check`: reading the newest Codex release from GitHub."""

from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.background import on_request
from cdxsync.codex.schemas import VersionsCheck

ROUTES = Routes(Group.BACKGROUND, Caller.ADMIN)


@ROUTES.post("/admin/versions/check", "Read the newest Codex release from GitHub")
def check(context: Context) -> VersionsCheck:
    """Run the job, and tell what it has found."""
    return on_request.check_versions(context.jobs.run)
