"""`cdxsync usage`: tokens used by the fleet."""

import sys
from typing import Annotated, Any

import typer

from cdxsync.cli import output
from cdxsync.cli.state import AsJson, Before, HostOption, state_of

app = typer.Typer(help="Show the tokens that hosts have used.", no_args_is_help=True)
COUNTS = ("Total", "Input", "Cached", "Output")
BAR_WIDTH = 24


@app.command("list")
def list_usage(
    ctx: typer.Context,
    host: HostOption = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many rows.")] = 50,
    before: Before = None,
    as_json: AsJson = False,
) -> None:
    """List the newest reports."""
    from cdxsync.domain import hosts, usage_reports

    state = state_of(ctx)
    state.fleet()
    page = usage_reports.recent(limit, host=hosts.find(host) if host else None, before=before)
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
    from cdxsync.domain import usage_reports

    state = state_of(ctx)
    state.fleet()
    data = usage_reports.lines(limit)
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
    month: Annotated[
        str | None, typer.Argument(metavar="YYYY-MM", help="Which month (UTC). Default: this one.", show_default=False)
    ] = None,
    host: HostOption = None,
    as_json: AsJson = False,
) -> None:
    """Show a month's tokens: on a terminal a bar for each day and host, else lines by day, host and model."""
    from cdxsync.domain import hosts, usage_reports

    state = state_of(ctx)
    wanted = usage_reports.check_month(month)
    state.fleet()
    data = usage_reports.month_report(wanted, hosts.find(host) if host else None)
    if state.json:
        output.json_data(data)
        return
    if not data["days"]:
        output.note(state, f"No usage in {wanted}")
    elif sys.stdout.isatty():
        _draw(data["days"])
    else:
        names = ("day", "fqdn", "model", "total", "input", "cached", "output")
        output.table(("Day", "Host", "Model", *COUNTS), (tuple(row[name] for name in names) for row in data["days"]))


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
