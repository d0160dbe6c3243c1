"""`cdxsync runner`: checks of the canonical document by a real request."""

import typer

from cdxsync.cli import output
from cdxsync.cli.jobs import Wait, fail_if, run_now
from cdxsync.cli.state import AsJson, state_of

app = typer.Typer(help="Check that the canonical login works.", no_args_is_help=True)


@app.command()
def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show what checks the document, how that last ended, and who refreshes it."""
    from cdxsync.auth import runner

    state = state_of(ctx)
    data = runner.status(state.fleet())
    if state.json:
        output.json_data(data)
        return
    verdict, stored = data["latest_validation"], data["latest_runner_store"]
    output.fields(
        [
            ("Runner", f"{data['backend']} ({data['off_reason']})" if data["off_reason"] else data["backend"]),
            ("Check", data["check"]),
            ("URL", data["runner_url"]),
            ("Time limit", f"{data['timeout_seconds']:g} s"),
            ("Last daily check", data["last_daily_check"]),
            ("Last verdict", _event(verdict)),
            ("Last refreshed document", _event(stored)),
            ("Checks in 24 hours", data["counts"]["validations_24h"]),
            ("Access token expires", data["refresh"]["expires_at"]),
            ("Refreshed by", data["refresh"]["by"]),
            ("Refresh due", data["refresh"]["due_at"]),
        ]
    )


def _event(event: dict[str, object] | None) -> str | None:
    if event is None:
        return None
    reason = f": {event['reason']}" if event["reason"] else ""
    return f"{event['status']}{reason} ({event['created_at']})"


@app.command()
def run(ctx: typer.Context, wait: Wait = 120, as_json: AsJson = False) -> None:
    """Check the canonical document now."""
    from cdxsync.auth import canonical, runner
    from cdxsync.base.errors import NotFound
    from cdxsync.jobs import lease
    from cdxsync.store.database import write

    state = state_of(ctx)
    fleet = state.fleet()
    if write(lambda: canonical.current(fleet)) is None:
        raise NotFound(canonical.NONE_YET, code="canonical_missing")
    before = runner.last_stored_id()
    ended = run_now(state, fleet, runner.JOB, wait)
    data = runner.run_report(fleet, applied=runner.last_stored_id() != before, pending=not ended)
    verdict = data["validation"]
    if state.json:
        output.json_data(data)
    elif verdict is not None:
        output.line(_event(verdict) or "")
        if data["applied"]:
            output.line(f"Codex refreshed the document; canonical is that of {data['canonical_last_refresh']} now")
    fail_if(lease.last_error(runner.JOB))
    if ended and verdict is not None and verdict["status"] != runner.OK:
        fail_if("The canonical document did not pass. Log in anew on one host with: cdx login")
