"""`/admin/runner`: checks of the canonical document by a real request."""

from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.auth import runner
from cdxsync.auth.schemas import RunnerRun, RunnerStatus
from cdxsync.background import on_request

ROUTES = Routes(Group.BACKGROUND, Caller.ADMIN)


@ROUTES.get("/admin/runner", "Settings and results of the runner")
def show(context: Context) -> RunnerStatus:
    """What checks the document, and what it found."""
    return runner.status(context.fleet)


@ROUTES.post("/admin/runner/run", "Check the canonical document by a real request, now", errors=(404,))
def run(context: Context) -> RunnerRun:
    """Run the check, and tell its verdict."""
    return on_request.check_canonical(context.fleet, context.jobs.run)
