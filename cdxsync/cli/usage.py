"""`cdxsync usage`: tokens used by the fleet."""

from typing import Annotated

import typer

from cdxsync.cli import output
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
