"""`cdxsync versions`: the versions of Codex and of the wrapper."""

import typer

from cdxsync.cli import output
from cdxsync.cli.state import AsJson, state_of

app = typer.Typer(help="Show the versions of Codex and of the wrapper.", no_args_is_help=True)


@app.command()
def show(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show what the server knows of versions."""
    from cdxsync.domain import versions, wrapper
    from cdxsync.store.database import reachable

    state = state_of(ctx)
    state.fleet()
    with reachable():
        data = versions.block(wrapper.template_sha256())
    if state.json:
        output.json_data(data)
        return
    output.fields(
        [
            ("Codex, newest release", data["client_version"]),
            ("Codex, highest on a host", data["reported_client_version"]),
            ("Wrapper", data["wrapper_version"]),
        ]
    )
