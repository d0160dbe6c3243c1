"""`/admin/usage` and `/admin/tokens`: what the fleet has used, and what that costs."""

from cdxsync.api import params
from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.usage import pricing, reports, summaries
from cdxsync.usage.schemas import LineList, UsageMonth, UsagePage, UsageSummary

ROUTES = Routes(Group.REPORTS, Caller.ADMIN)


@ROUTES.get(
    "/admin/usage",
    "Usage rows, the newest first",
    query=(params.limit_of(reports.MAX_ROWS), params.HOST, params.BEFORE),
    errors=(404, 422),
)
def list_usage(context: Context) -> UsagePage:
    """The newest rows."""
    count = params.limit(reports.MAX_ROWS)
    return reports.recent(count, host=params.host_filter(), before=params.cursor())


@ROUTES.get(
    "/admin/usage/month",
    "A month's usage by day, host and model, and its cost",
    query=(params.MONTH, params.HOST),
    errors=(404, 422),
)
def month(context: Context) -> UsageMonth:
    """A month, row by row."""
    wanted = reports.check_month(params.text("month"))
    return pricing.month_report(context.fleet.settings, wanted, params.host_filter())


@ROUTES.get(
    "/admin/usage/summary",
    "A month's sums by day, model and host, with their cost",
    query=(params.MONTH, params.HOST),
    errors=(404, 422),
)
def summary(context: Context) -> UsageSummary:
    """A month, summed up."""
    wanted = reports.check_month(params.text("month"))
    return summaries.month_summary(context.fleet.settings, wanted, params.host_filter())


@ROUTES.get("/admin/tokens", "Totals by printed line", query=(params.limit_of(reports.MAX_LINES),))
def list_tokens(context: Context) -> LineList:
    """The lines with most tokens."""
    return reports.lines(params.limit(reports.MAX_LINES))
