"""`GET /admin/logs`: the audit log."""

from cdxsync.api import params
from cdxsync.api.routes import Caller, Context, Group, Parameter, Routes
from cdxsync.store import audit
from cdxsync.store.schemas import LogPage

ROUTES = Routes(Group.REPORTS, Caller.ADMIN)


@ROUTES.get(
    "/admin/logs",
    "The audit log, the newest first",
    query=(
        params.limit_of(audit.MAX_ROWS),
        params.HOST,
        params.BEFORE,
        Parameter("after", int, "Only rows newer than the one with this id."),
        Parameter("action", str, "Only actions that begin so."),
        Parameter("actor", str, "Only rows with this in who did it."),
        Parameter("q", str, "Only rows with this in who did it or in the details."),
    ),
    errors=(404, 422),
)
def list_logs(context: Context) -> LogPage:
    """The newest rows of those wanted."""
    wanted = audit.Wanted(
        host=params.host_filter(),
        action=params.text("action") or "",
        actor=params.text("actor") or "",
        text=params.text("q") or "",
    )
    after, before = params.whole_number("after"), params.cursor()
    return audit.recent(params.limit(audit.MAX_ROWS), wanted, before=before, after=after)
