"""`/admin/chatgpt/usage`: the quota of the ChatGPT account."""

from typing import Any

from bottle import request

from cdxsync.api import access, params
from cdxsync.api.routes import Caller, Context, Group, Parameter, Routes
from cdxsync.base import clock
from cdxsync.codex import quota
from cdxsync.jobs import lease, schedule

ROUTES = Routes(Group.BACKGROUND, Caller.ADMIN)


@ROUTES.get(
    "/admin/chatgpt/usage",
    "The account's quota",
    query=(Parameter("force", str, "Anything but 0: read it now."),),
)
def show(context: Context) -> dict[str, Any]:
    """What is known of the quota; read first when it is stale."""
    if request.method == "HEAD":
        return quota.report(cached=True)
    return _report(context, params.flag("force"))


@ROUTES.post("/admin/chatgpt/usage/refresh", "Read the account's quota now")
def refresh(context: Context) -> dict[str, Any]:
    """Read it, and show it."""
    return _report(context, True)


def _report(context: Context, force: bool) -> dict[str, Any]:
    is_read = bool(context.fleet.settings.chatgpt_base_url)
    stale = is_read and schedule.may_mark(lease.row_of(quota.JOB), clock.now())
    ended = context.jobs.run(quota.JOB, actor=access.actor()) if force or stale else False
    return quota.report(cached=not ended, pending=(force or stale) and not ended)
