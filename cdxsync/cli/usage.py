"""`cdxsync usage`: tokens used by the fleet."""

import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from cdxsync.cli import output
from cdxsync.cli.jobs import Wait, fail_if, run_now
from cdxsync.cli.state import AsJson, Before, HostOption, State, state_of

app = typer.Typer(help="Show the tokens that hosts have used.", no_args_is_help=True)
COUNTS = ("Total", "Input", "Cached", "Output")
BAR_WIDTH = 24


class Group(StrEnum):
    """What a summary's rows are."""

    DAY = "day"
    MODEL = "model"
    HOST = "host"


MonthArgument = Annotated[
    str | None, typer.Argument(metavar="YYYY-MM", help="Which month (UTC). Default: this one.", show_default=False)
]
UNNAMED = {Group.DAY: "", Group.MODEL: "(not named)", Group.HOST: "(deleted)"}


@app.command("list")
def list_usage(
    ctx: typer.Context,
    host: HostOption = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many rows.")] = 50,
    before: Before = None,
    as_json: AsJson = False,
) -> None:
    """List the newest reports."""
    from cdxsync.hosts import registry
    from cdxsync.usage import reports

    state = state_of(ctx)
    state.fleet()
    page = reports.recent(limit, host=registry.find(host) if host else None, before=before)
    if state.json:
        output.json_data(page)
        return
    names = ("created_at", "fqdn", "model", "total", "input", "cached", "output")
    output.table(
        ("When", "Host", "Model", *COUNTS),
        (tuple(row[name] for name in names) for row in page["usages"]),
        numbers=COUNTS,
        folding=("Host", "Model"),
    )
    if page["next_before"] is not None:
        output.note(state, f"Older rows: cdxsync usage list --before {page['next_before']}")


@app.command()
def tokens(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many lines.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show totals for each line that Codex printed about its tokens, highest first."""
    from cdxsync.usage import reports

    state = state_of(ctx)
    state.fleet()
    data = reports.lines(limit)
    if state.json:
        output.json_data(data)
        return
    names = ("line", "events", "total", "input", "cached", "output", "reasoning")
    numbers = ("Events", *COUNTS, "Reasoning")
    output.table(
        ("Line", *numbers),
        (tuple(row[name] for name in names) for row in data["tokens"]),
        numbers=numbers,
        folding=("Line",),
    )


@app.command()
def month(
    ctx: typer.Context,
    month: MonthArgument = None,
    host: HostOption = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="Show what each model has cost, at the prices in force.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a month's tokens: on a terminal a bar for each day and host, else lines by day, host and model."""
    from cdxsync.hosts import registry
    from cdxsync.usage import pricing, reports

    state = state_of(ctx)
    wanted = reports.check_month(month)
    fleet = state.fleet()
    data = pricing.month_report(fleet.settings, wanted, registry.find(host) if host else None)
    if state.json:
        output.json_data(data)
        return
    if not data["days"]:
        output.note(state, f"No usage in {wanted}")
    elif cost:
        _show_cost(state, data["cost"])
    elif sys.stdout.isatty():
        _draw(data["days"])
    else:
        names = ("day", "fqdn", "model", "total", "input", "cached", "output")
        output.table(("Day", "Host", "Model", *COUNTS), (tuple(row[name] for name in names) for row in data["days"]))


def _show_cost(state: State, cost: dict[str, Any]) -> None:
    numbers = ("Total", "Input", "Cached", "Output", "Cost")
    rows = [
        (row["model"] or "(not named)", row["total"], row["input"], row["cached"], row["output"], _price(row))
        for row in cost["models"]
    ]
    output.table(("Model", *numbers), rows, numbers=numbers, folding=("Model",))
    _note_sums(state, cost["totals"], cost["unpriced"])


def _note_sums(state: State, totals: dict[str, Any], unpriced: list[str]) -> None:
    """Say what a month has cost in each currency, and which models that leaves out."""
    for currency, total in totals.items():
        output.note(state, f"Sum: {total:,.2f} {currency}")
    if unpriced:
        output.note(state, f"Not in the sum, as no price is known: {', '.join(unpriced)}")


def _price(row: dict[str, Any]) -> str:
    return "unpriced" if row["cost"] is None else f"{row['cost']:.4f} {row['currency']}"


def _draw(days: list[dict[str, Any]]) -> None:
    """A bar for each day and host, as long as its share of the largest; then the sum."""
    from rich import box
    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    sums: dict[tuple[str, str], int] = {}
    for row in days:
        place = (row["day"], row["fqdn"] or "(deleted)")
        sums[place] = sums.get(place, 0) + row["total"]
    largest = max(max(sums.values()), 1)
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    view.add_column("Day", no_wrap=True, footer="Sum")
    view.add_column("Host", overflow="fold")
    view.add_column("Tokens", justify="right", no_wrap=True, footer=f"{sum(sums.values()):,}")
    view.add_column("", no_wrap=True, width=BAR_WIDTH)
    shown = ""
    for (day, host), total in sums.items():
        bar = Bar(largest, 0, total, width=BAR_WIDTH, color="cyan")
        view.add_row(day if day != shown else "", Text(host), f"{total:,}", bar)
        shown = day
    Console().print(view)


@app.command()
def summary(
    ctx: typer.Context,
    month: MonthArgument = None,
    by: Annotated[Group, typer.Option("--by", help="What the rows are.")] = Group.DAY,
    host: HostOption = None,
    as_json: AsJson = False,
) -> None:
    """Show a month's tokens and their cost by day, by model, or by host: the 200 with most."""
    from cdxsync.hosts import registry
    from cdxsync.usage import reports, summaries

    state = state_of(ctx)
    wanted = reports.check_month(month)
    fleet = state.fleet()
    data = summaries.month_summary(fleet.settings, wanted, registry.find(host) if host else None)
    if state.json:
        output.json_data(data)
        return
    numbers = (*COUNTS, "Reasoning", "Cost")
    names = ("total", "input", "cached", "output", "reasoning")
    first = "fqdn" if by is Group.HOST else str(by)
    rows = [
        (row[first] or UNNAMED[by], *(row[name] for name in names), "unpriced" if row["cost"] is None else row["cost"])
        for row in data[f"{by}s"]
    ]
    output.table((by.title(), *numbers), rows, numbers=numbers, folding=(by.title(),))
    _note_sums(state, data["costs"], data["unpriced"])


@app.command()
def quota(
    ctx: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Read it anew, though it was read lately.")] = False,
    wait: Wait = 60,
    as_json: AsJson = False,
) -> None:
    """Show how much of the ChatGPT account's quota is used, and when it is reset."""
    from cdxsync.base import clock
    from cdxsync.base.errors import NotFound
    from cdxsync.codex import quota
    from cdxsync.jobs import lease, schedule

    state = state_of(ctx)
    fleet = state.fleet()
    stale = bool(fleet.settings.chatgpt_base_url) and schedule.may_mark(lease.row_of(quota.JOB), clock.now())
    ended = run_now(state, fleet, quota.JOB, wait) if force or stale else False
    data = quota.report(cached=not ended, pending=(force or stale) and not ended)
    if state.json:
        output.json_data(data)
    elif data["snapshot"] is None:
        raise NotFound("The quota has not been read yet; run: cdxsync usage quota --force")
    else:
        _show_quota(data["snapshot"], data["last_error"])
    fail_if(lease.last_error(quota.JOB) if ended else None)


def _show_quota(snapshot: dict[str, Any], last_error: dict[str, Any] | None) -> None:
    windows = [
        (f"{label} window", quota_bar(snapshot[f"{name}_used_percent"], snapshot[f"{name}_reset_at"]))
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


def quota_bar(percent: int | None, reset_at: str | None) -> str | None:
    """A bar of twenty places, the number, and when the window is reset."""
    if percent is None:
        return None
    full = min(percent, 100) // 5
    reset = f", reset {_moment(reset_at)}" if reset_at is not None else ""
    return f"[{'#' * full}{'.' * (20 - full)}] {percent} % used{reset}"


def _moment(epoch: str) -> str:
    """Seconds since 1970 as a date, and how far ahead that is; anything else as it is."""
    from datetime import UTC, datetime

    from cdxsync.base import clock

    if not (epoch.isascii() and epoch.isdigit() and int(epoch) < 253402300800):
        return epoch
    moment = datetime.fromtimestamp(int(epoch), UTC)
    minutes = max(0, int((moment - clock.now()).total_seconds())) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    ahead = f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min"
    return f"{clock.stamp(moment)} (in {ahead})"
