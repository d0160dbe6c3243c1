"""`cdxsync jobs`: the background jobs of the servers."""

from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.state import AsJson, State, actor, state_of

if TYPE_CHECKING:
    from cdxsync.store.fleet import Fleet

app = typer.Typer(help="Show and run the background jobs.", no_args_is_help=True)
Wait = Annotated[
    int, typer.Option(metavar="SECONDS", min=0, max=3600, help="How long to wait for a run that is under way.")
]


def run_now(state: State, fleet: "Fleet", name: str, wait: int) -> bool:
    """Have a job run, whether a server runs or not; returns whether it has ended.

    This process runs it under the job's lease. When another holds that, it waits for the end of that run. Raises
    `NotFound`, `Unavailable`, `Conflict` when a service has asked to be left alone.
    """
    import logging
    import time

    from cdxsync.background import definitions
    from cdxsync.base import clock
    from cdxsync.base.errors import Conflict
    from cdxsync.jobs import lease, schedule, scheduler
    from cdxsync.store import audit

    logging.getLogger("cdxsync.jobs").addHandler(logging.NullHandler())  # what a server logs is printed here
    spec = schedule.runnable(definitions.specs(fleet.settings), name)
    row = lease.row_of(name)
    if schedule.is_ahead(row.not_before, clock.now()):
        raise Conflict(
            f"The service has asked not to be called before {row.not_before}: {row.last_error}",
            code="service_holds_off",
        )
    audit.note("admin.job.run", actor=actor(), job=name)
    if scheduler.perform(fleet, spec, scheduler.new_owner(), by_admin=True) is not None:
        return True
    output.note(state, f"{row.owner or 'Another process'} runs the job {name} already; waiting for it to end")
    until = time.monotonic() + wait
    while not lease.finished_since(name, row.runs):
        if time.monotonic() >= until:
            return False
        time.sleep(0.2)
    return True


def fail_if(error: str | None) -> None:
    """Raise `Failed` with the error of a run, so that the exit code tells."""
    from cdxsync.base.errors import Failed

    if error is not None:
        raise Failed(error, code="job_failed")


@app.command("list")
def list_jobs(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the jobs: how each last ended, and when it runs next."""
    from cdxsync.background import status

    state = state_of(ctx)
    rows = status.describe_jobs(state.fleet().settings)
    if state.json:
        output.json_data({"jobs": rows})
        return
    output.table(
        ("Job", "State", "Last run", "Took", "Result", "Next run"),
        (
            (
                row["name"],
                row["state"],
                row["last_finished_at"],
                f"{row['last_duration_ms'] / 1000:.1f} s" if row["last_duration_ms"] is not None else None,
                row["off_reason"] or row["last_error"] or row["last_result"],
                row["not_before"] or row["next_run"],
            )
            for row in rows
        ),
    )


@app.command()
def run(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="JOB", help="A job's name.", show_default=False)],
    wait: Wait = 60,
    as_json: AsJson = False,
) -> None:
    """Run a job now, here, whether a server runs or not."""
    from cdxsync.background import status

    state = state_of(ctx)
    fleet = state.fleet()
    ended = run_now(state, fleet, name, wait)
    job = status.describe_job(fleet.settings, name)
    if state.json:
        output.json_data({"job": job, "pending": not ended})
    elif ended and job["last_error"] is None:
        output.line(f"{name}: {job['last_result']}")
    elif not ended:
        output.line(f"{name} still runs")
    fail_if(job["last_error"] if ended else None)
