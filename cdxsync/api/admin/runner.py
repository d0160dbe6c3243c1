"""`/admin/runner`: checks of the canonical document by a real request."""

from typing import Any

from cdxsync.api import access
from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.auth import canonical, runner
from cdxsync.background import definitions
from cdxsync.base.errors import NotFound, Unavailable
from cdxsync.jobs import schedule
from cdxsync.store.database import write

ROUTES = Routes(Group.BACKGROUND, Caller.ADMIN)


@ROUTES.get("/admin/runner", "Settings and results of the runner")
def show(context: Context) -> dict[str, Any]:
    """What checks the document, and what it found."""
    return runner.status(context.fleet)


@ROUTES.post("/admin/runner/run", "Check the canonical document by a real request, now", errors=(404,))
def run(context: Context) -> dict[str, Any]:
    """Run the check, and tell its verdict."""
    fleet = context.fleet
    spec = schedule.named(definitions.specs(fleet.settings), runner.JOB)
    if spec.off:
        raise Unavailable(f"There is no runner: {spec.off}", code="runner_off")
    if write(lambda: canonical.current(fleet)) is None:
        raise NotFound(canonical.NONE_YET, code="canonical_missing")
    before = runner.last_stored_id()
    ended = context.jobs.run(runner.JOB, actor=access.actor())
    return runner.run_report(fleet, applied=runner.last_stored_id() != before, pending=not ended)
