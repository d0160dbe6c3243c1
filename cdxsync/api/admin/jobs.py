"""`/admin/jobs`: what runs in the background."""

from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.background import on_request, status
from cdxsync.jobs.schemas import JobList, JobRun

ROUTES = Routes(Group.BACKGROUND, Caller.ADMIN)


@ROUTES.get("/admin/jobs", "What runs in the background")
def list_jobs(context: Context) -> JobList:
    """All jobs."""
    return JobList(jobs=status.list_jobs(context.fleet.settings))


@ROUTES.post("/admin/jobs/<name>/run", "Run a job now", errors=(404, 503))
def run(context: Context, name: str) -> JobRun:
    """Run a job, and wait a while for its end."""
    return on_request.run_job(context.fleet.settings, name, context.jobs.run)
