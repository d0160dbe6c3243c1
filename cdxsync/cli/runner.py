"""`cdxsync runner`: checks of the canonical document by a real request."""

from typing import TYPE_CHECKING

import typer

from cdxsync.cli import output
from cdxsync.cli.command import state_of
from cdxsync.cli.jobs import runner_of
from cdxsync.cli.options import AsJson, Wait

if TYPE_CHECKING:
    from cdxsync.auth.schemas import Event, RunnerRun, RunnerStatus
    from cdxsync.store.fleet import Fleet

app = typer.Typer(help="Check that the canonical login works.", no_args_is_help=True)


@app.command()
def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show what checks the document, how that last ended, and who refreshes it."""
    from cdxsync.auth import runner

    def show(data: "RunnerStatus") -> None:
        output.fields(
            [
                ("Runner", f"{data.backend} ({data.off_reason})" if data.off_reason else data.backend),
                ("Check", data.check),
                ("URL", data.runner_url),
                ("Time limit", f"{data.timeout_seconds:g} s"),
                ("Last daily check", data.last_daily_check),
                ("Last verdict", _event(data.latest_validation)),
                ("Last refreshed document", _event(data.latest_runner_store)),
                ("Checks in 24 hours", data.counts.validations_24h),
                ("Access token expires", data.refresh.expires_at),
                ("Refreshed by", data.refresh.by),
                ("Refresh due", data.refresh.due_at),
            ]
        )

    state_of(ctx).run(runner.status, show)


_FAILURES = {
    "fail": "The canonical document failed the check. Log in again on one host: cdx login",
    "unknown": "The check could not tell whether the login works. Look at the reason above, and check again later",
}


def _event(event: "Event | None") -> str | None:
    if event is None:
        return None
    reason = f": {event.reason}" if event.reason else ""
    return f"{event.status}{reason} ({event.created_at})"


@app.command()
def run(ctx: typer.Context, wait: Wait = 120, as_json: AsJson = False) -> None:
    """Check the canonical document now."""
    from cdxsync.auth import runner
    from cdxsync.background import on_request
    from cdxsync.jobs import lease

    state = state_of(ctx)

    def call(fleet: "Fleet") -> "RunnerRun":
        data = on_request.check_canonical(fleet, runner_of(state, fleet, wait))
        verdict = data.validation
        found = None if data.pending or verdict is None else verdict.status
        state.fail_after_printing(lease.last_error(runner.JOB) or _FAILURES.get(found or runner.OK))
        return data

    def show(data: "RunnerRun") -> None:
        verdict = _event(data.validation)
        if verdict is not None:
            output.line(verdict)
            if data.applied:
                output.line(f"Codex refreshed the document; canonical is that of {data.canonical_last_refresh} now")

    state.run(call, show)
