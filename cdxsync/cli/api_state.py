"""`cdxsync state`: the flag that marks the API as disabled."""

from typing import Any

import typer

from cdxsync.cli import output
from cdxsync.cli.state import AsJson, State, actor, state_of

app = typer.Typer(
    help="Show and set the flag that marks the API as disabled. It is kept and shown; hosts are served all the same.",
    no_args_is_help=True,
)


@app.command()
def show(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show the flag."""
    from cdxsync.hosts import api_state

    state = state_of(ctx)
    state.fleet()
    _print(state, api_state.get())


@app.command()
def disable(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Mark the API as disabled."""
    _put(ctx, True)


@app.command()
def enable(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Mark the API as enabled."""
    _put(ctx, False)


def _put(ctx: typer.Context, disabled: bool) -> None:
    from cdxsync.hosts import api_state

    state = state_of(ctx)
    state.fleet()
    _print(state, api_state.put(disabled, actor=actor()))


def _print(state: State, data: dict[str, Any]) -> None:
    if state.json:
        output.json_data(data)
        return
    output.fields([("API", "marked as disabled (hosts are served all the same)" if data["disabled"] else "enabled")])
