"""`/admin/chatgpt/usage`: the quota of the ChatGPT account."""

from bottle import request

from cdxsync.api import params
from cdxsync.api.routes import Caller, Context, Group, Parameter, Routes
from cdxsync.background import on_request
from cdxsync.codex import quota
from cdxsync.codex.schemas import QuotaReport

ROUTES = Routes(Group.BACKGROUND, Caller.ADMIN)


@ROUTES.get(
    "/admin/chatgpt/usage",
    "The account's quota",
    query=(Parameter("force", str, "Anything but 0: read it now."),),
)
def show(context: Context) -> QuotaReport:
    """What is known of the quota; read first when it is stale."""
    if request.method == "HEAD":
        return quota.report(cached=True)
    return on_request.read_quota(context.fleet.settings, context.jobs.run, force=params.flag("force"))


@ROUTES.post("/admin/chatgpt/usage/refresh", "Read the account's quota now")
def refresh(context: Context) -> QuotaReport:
    """Read it, and show it."""
    return on_request.read_quota(context.fleet.settings, context.jobs.run, force=True)
