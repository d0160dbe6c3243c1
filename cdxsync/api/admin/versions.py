"""`POST /admin/versions/check`: reading the newest Codex release from GitHub."""

from typing import Any

from cdxsync.api import access
from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.codex import versions
from cdxsync.jobs import lease

ROUTES = Routes(Group.BACKGROUND, Caller.ADMIN)


@ROUTES.post("/admin/versions/check", "Read the newest Codex release from GitHub")
def check(context: Context) -> dict[str, Any]:
    """Run the job, and tell what it has found."""
    ended = context.jobs.run(versions.JOB, actor=access.actor())
    error = lease.last_error(versions.JOB)
    return versions.check_report(fetched=ended and error is None, pending=not ended, error=error)
