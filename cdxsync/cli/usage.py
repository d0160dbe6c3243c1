"""`cdxsync usage`: tokens used by the fleet."""

import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.command import State, state_of
from cdxsync.cli.jobs import runner_of
from cdxsync.cli.options import AsJson, Before, HostOption, Wait

if TYPE_CHECKING:
    from cdxsync.background.schemas import BackgroundReport
    from cdxsync.codex.schemas import QuotaError, QuotaReport, QuotaSnapshot
    from cdxsync.store.fleet import Fleet
    from cdxsync.store.tables import Host
    from cdxsync.usage.schemas import (
        CostedTotals,
        LineList,
        ModelCost,
        MonthCost,
        UsageDayRow,
        UsageMonth,
        UsagePage,
        UsageSummary,
    )

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
_NAMES = ("total", "input", "cached", "output")
OUTSIDE = "outside cdx"
"""Shown of what Codex has used without `cdx`."""
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
    from cdxsync.usage import reports

    state = state_of(ctx)

    def show(page: "UsagePage") -> None:
        # A pipe gets the same columns whatever the rows are; a terminal those that tell something.
        marks = {True: OUTSIDE, False: "cdx"}
        if sys.stdout.isatty() and not any(row.outside for row in page.usages):
            marks = {}
        output.table(
            ("When", "Host", "Model", *COUNTS, *(["By"] if marks else [])),
            (
                (
                    row.created_at,
                    row.fqdn or UNNAMED[Group.HOST],
                    row.model,
                    *(getattr(row, name) for name in _NAMES),
                    *([marks[row.outside]] if marks else []),
                )
                for row in page.usages
            ),
            numbers=COUNTS,
            folding=("Host", "Model"),
        )
        if page.next_before is not None:
            state.note(f"Older rows: cdxsync usage list --before {page.next_before}")

    state.run(lambda fleet: reports.recent(limit, host=_host(host), before=before), show)


def _host(wanted: str | None) -> "Host | None":
    from cdxsync.hosts import registry

    return registry.find(wanted) if wanted else None


@app.command()
def tokens(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many lines.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show totals for each line that Codex printed about its tokens, highest first."""
    from cdxsync.usage import reports

    def show(data: "LineList") -> None:
        names = ("line", "events", *_NAMES, "reasoning")
        numbers = ("Events", *COUNTS, "Reasoning")
        output.table(
            ("Line", *numbers),
            (tuple(getattr(row, name) for name in names) for row in data.tokens),
            numbers=numbers,
            folding=("Line",),
        )

    state_of(ctx).run(lambda fleet: reports.lines(limit), show)


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
    from cdxsync.usage import pricing, reports

    state = state_of(ctx)
    wanted = reports.check_month(month)

    def show(data: "UsageMonth") -> None:
        if not data.days:
            state.note(f"No usage in {wanted}")
        elif cost:
            _show_cost(state, data.cost)
        elif sys.stdout.isatty():
            _draw(data.days)
        else:
            names = ("day", "fqdn", "model", *_NAMES)
            rows = (tuple(getattr(row, name) for name in names) for row in data.days)
            output.table(("Day", "Host", "Model", *COUNTS), rows)

    state.run(lambda fleet: pricing.month_report(fleet.settings, wanted, _host(host)), show)


def _show_cost(state: State, cost: "MonthCost") -> None:
    numbers = (*COUNTS, "Cost")
    rows = [
        (row.model or UNNAMED[Group.MODEL], *(getattr(row, name) for name in _NAMES), _price(row))
        for row in cost.models
    ]
    output.table(("Model", *numbers), rows, numbers=numbers, folding=("Model",))
    _note_sums(state, cost.totals, cost.unpriced)


def _note_sums(state: State, totals: Mapping[str, float], unpriced: list[str]) -> None:
    """Print what a month has cost in each currency, and which models the sums leave out."""
    for currency, total in totals.items():
        state.note(f"Sum: {total:,.2f} {currency}")
    if unpriced:
        state.note(f"Not in the sum, as no price is known: {', '.join(unpriced)}")


def _price(row: "ModelCost") -> str:
    return "unpriced" if row.cost is None else f"{row.cost:.4f} {row.currency}"


def _draw(days: list["UsageDayRow"]) -> None:
    """A bar for each day and host, as long as its share of the largest; then the sum."""
    from rich import box
    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    sums: dict[tuple[str, str], int] = {}
    for row in days:
        place = (row.day, row.fqdn or "(deleted)")
        sums[place] = sums.get(place, 0) + row.total
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
    by: Annotated[Group, typer.Option("--by", help="What each row is.")] = Group.DAY,
    host: HostOption = None,
    as_json: AsJson = False,
) -> None:
    """Show a month's tokens and their cost by day, by model, or by host: the 200 largest."""
    from cdxsync.usage import reports, summaries

    state = state_of(ctx)
    wanted = reports.check_month(month)

    def show(data: "UsageSummary") -> None:
        numbers = (*COUNTS, "Reasoning", "Cost")
        names = (*_NAMES, "reasoning")
        groups: dict[Group, Sequence[CostedTotals]] = {
            Group.DAY: data.days,
            Group.MODEL: data.models,
            Group.HOST: data.hosts,
        }
        first = "fqdn" if by is Group.HOST else str(by)
        rows = [
            (
                getattr(row, first) or UNNAMED[by],
                *(getattr(row, name) for name in names),
                "unpriced" if row.cost is None else row.cost,
            )
            for row in groups[by]
        ]
        output.table((by.title(), *numbers), rows, numbers=numbers, folding=(by.title(),))
        _note_sums(state, data.costs, data.unpriced)

    state.run(lambda fleet: summaries.month_summary(fleet.settings, wanted, _host(host)), show)


def cost_words(data: "BackgroundReport") -> str:
    """What the month has cost, by currency, and which models have no price; `data` is that of the overview."""
    sums = ", ".join(f"{total:,.2f} {currency}" for currency, total in data.pricing_month_costs.items())
    unpriced = data.pricing_unpriced_models
    return (sums or "nothing") + (f"; no price is known of {', '.join(unpriced)}" if unpriced else "")


@app.command()
def quota(
    ctx: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Read it again, even if it was read lately.")] = False,
    wait: Wait = 60,
    as_json: AsJson = False,
) -> None:
    """Show how much of the ChatGPT account's quota is used, and when it is reset."""
    from cdxsync.background import on_request
    from cdxsync.base.errors import NotFound
    from cdxsync.codex import quota
    from cdxsync.jobs import lease

    state = state_of(ctx)

    def call(fleet: "Fleet") -> "QuotaReport":
        was_run = False

        def run(name: str) -> bool:
            nonlocal was_run
            was_run = runner_of(state, fleet, wait)(name)
            return was_run

        data = on_request.read_quota(fleet.settings, run, force=force)
        state.fail_after_printing(lease.last_error(quota.JOB) if was_run else None)
        return data

    def show(data: "QuotaReport") -> None:
        if data.snapshot is None:
            raise NotFound("The quota has not been read yet. Run: cdxsync usage quota --force")
        _show_quota(data.snapshot, data.last_error)

    state.run(call, show)


def _show_quota(snapshot: "QuotaSnapshot", last_error: "QuotaError | None") -> None:
    windows = [
        (f"{label} window", quota_bar(getattr(snapshot, f"{name}_used_percent"), getattr(snapshot, f"{name}_reset_at")))
        for name, label in (("primary", "5-hour"), ("secondary", "Weekly"))
    ]
    credit = "unlimited" if snapshot.unlimited else snapshot.credit_balance
    problem = f"{last_error.error} ({last_error.fetched_at})" if last_error else None
    output.fields(
        [
            ("Plan", snapshot.plan_type),
            *windows,
            ("Limit reached", {True: "yes", False: "no", None: None}[snapshot.rate_limit_reached]),
            ("Credits", credit),
            ("Read", snapshot.fetched_at),
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
    """Seconds since 1970 as a date, and how far ahead it is; anything else unchanged."""
    from datetime import UTC, datetime

    from cdxsync.base import clock

    if not (epoch.isascii() and epoch.isdigit() and int(epoch) < 253402300800):
        return epoch
    moment = datetime.fromtimestamp(int(epoch), UTC)
    minutes = max(0, int((moment - clock.now()).total_seconds())) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    ahead = f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min"
    return f"{clock.stamp(moment)} (in {ahead})"
