"""`/admin/jobs`: what runs in the background."""

from typing import Any

from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.background import on_request, status

ROUTES = Routes(Group.BACKGROUND, Caller.ADMIN)


@ROUTES.get("/admin/jobs", "What runs in the background")
def list_jobs(context: Context) -> dict[str, Any]:
    """All jobs."""
    return {"jobs": status.describe_jobs(context.fleet.settings)}


@ROUTES.post("/admin/jobs/<name>/run", "Run a job now", errors=(404, 503))
def run(context: Context, name: str) -> dict[str, Any]:
    """Run a job, and wait a while for its end."""
    return on_request.run_job(context.fleet.settings, name, context.jobs.run)
