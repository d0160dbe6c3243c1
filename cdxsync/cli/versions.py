"""`cdxsync versions`: the versions of Codex and of the wrapper."""

import typer

from cdxsync.cli import output
from cdxsync.cli.jobs import Wait, fail_if, run_now
from cdxsync.cli.state import AsJson, state_of

app = typer.Typer(help="Show the versions of Codex and of the wrapper.", no_args_is_help=True)


@app.command()
def show(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show what the server knows of versions."""
    from cdxsync.codex import versions
    from cdxsync.wrapper import baking

    state = state_of(ctx)
    state.fleet()
    data = versions.block(baking.template_sha256())
    if state.json:
        output.json_data(data)
        return
    output.fields(
        [
            ("Codex, newest release", data["client_version"]),
            ("Fetched", data["client_version_checked_at"]),
            ("Source", data["client_version_source"]),
            ("Codex, highest on a host", data["reported_client_version"]),
            ("Wrapper", data["wrapper_version"]),
        ]
    )


@app.command()
def check(ctx: typer.Context, wait: Wait = 60, as_json: AsJson = False) -> None:
    """Ask GitHub for the newest release of Codex now."""
    from cdxsync.codex import versions
    from cdxsync.jobs import lease

    state = state_of(ctx)
    ended = run_now(state, state.fleet(), versions.JOB, wait)
    error = lease.last_error(versions.JOB)
    data = versions.check_report(fetched=ended and error is None, pending=not ended, error=error)
    if state.json:
        output.json_data(data)
    elif error is None:
        output.line(f"Codex {data['available_client']['version']}")
    fail_if(error)
