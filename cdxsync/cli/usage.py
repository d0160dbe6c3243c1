"""`cdxsync usage`: tokens used by the fleet."""

from typing import Annotated, Any

import typer

from cdxsync.cli import output
from cdxsync.cli.jobs import Wait, error_of, fail_if, run_now
from cdxsync.cli.state import AsJson, state_of

app = typer.Typer(help="Show the tokens that hosts have used.", no_args_is_help=True)


@app.command("list")
def list_usage(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many rows.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest reports."""
    from cdxsync.domain import usage

    state = state_of(ctx)
    state.fleet()
    rows = usage.recent(limit)
    if state.json:
        output.json_data({"usages": rows})
        return
    output.table(
        ("When", "Host", "Model", "Total", "Input", "Cached", "Output"),
        (
            tuple(row[name] for name in ("created_at", "fqdn", "model", "total", "input", "cached", "output"))
            for row in rows
        ),
    )


@app.command()
def month(
    ctx: typer.Context,
    month: Annotated[
        str | None, typer.Argument(metavar="YYYY-MM", help="Which month (UTC). Default: this one.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a month's totals by day, host and model."""
    import re

    from cdxsync.domain import clock, usage
    from cdxsync.errors import Invalid

    state = state_of(ctx)
    wanted = month or clock.now().strftime("%Y-%m")
    if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", wanted):
        raise Invalid({"month": ["must be YYYY-MM, such as 2026-01"]})
    state.fleet()
    rows = usage.days(wanted)
    if state.json:
        output.json_data({"month": wanted, "days": rows})
        return
    output.table(
        ("Day", "Host", "Model", "Total", "Input", "Cached", "Output"),
        (tuple(row[name] for name in ("day", "fqdn", "model", "total", "input", "cached", "output")) for row in rows),
    )


@app.command()
def quota(
    ctx: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Read it anew, though it was read lately.")] = False,
    wait: Wait = 60,
    as_json: AsJson = False,
) -> None:
    """Show how much of the ChatGPT account's quota is used, and when it is reset."""
    from cdxsync.domain import clock, jobs, quota
    from cdxsync.errors import NotFound
    from cdxsync.store.database import reachable

    state = state_of(ctx)
    fleet = state.fleet()
    with reachable():
        stale = bool(fleet.settings.chatgpt_base_url) and jobs.may_mark(jobs.row_of(quota.JOB), clock.now())
    ended = run_now(state, fleet, quota.JOB, wait) if force or stale else False
    data = quota.report(cached=not ended, pending=(force or stale) and not ended)
    if state.json:
        output.json_data(data)
    elif data["snapshot"] is None:
        raise NotFound("The quota has not been read yet; run: cdxsync usage quota --force")
    else:
        _show_quota(data["snapshot"], data["last_error"])
    fail_if(error_of(quota.JOB) if ended else None)


def _show_quota(snapshot: dict[str, Any], last_error: dict[str, Any] | None) -> None:
    windows = [
        (f"{label} window", _bar(snapshot[f"{name}_used_percent"], snapshot[f"{name}_reset_at"]))
        for name, label in (("primary", "5-hour"), ("secondary", "Weekly"))
    ]
    credit = "unlimited" if snapshot["unlimited"] else snapshot["credit_balance"]
    problem = f"{last_error['error']} ({last_error['fetched_at']})" if last_error else None
    output.fields(
        [
            ("Plan", snapshot["plan_type"]),
            *windows,
            ("Limit reached", {True: "yes", False: "no"}.get(snapshot["rate_limit_reached"])),
            ("Credits", credit),
            ("Read", snapshot["fetched_at"]),
            *([("Last failure", problem)] if problem else []),
        ]
    )


def _bar(percent: int | None, reset_at: str | None) -> str | None:
    """A bar of twenty places, the number, and when the window is reset."""
    from datetime import UTC, datetime

    if percent is None:
        return None
    full = min(percent, 100) // 5
    reset = ""
    if reset_at is not None:
        known = reset_at.isascii() and reset_at.isdigit() and int(reset_at) < 253402300800
        reset = f", reset {datetime.fromtimestamp(int(reset_at), UTC).isoformat() if known else reset_at}"
    return f"[{'#' * full}{'.' * (20 - full)}] {percent} % used{reset}"
