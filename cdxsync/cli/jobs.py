"""`cdxsync jobs`: the background jobs of the servers."""

from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.command import State, actor, state_of
from cdxsync.cli.options import AsJson, Wait

if TYPE_CHECKING:
    from cdxsync.background.on_request import Run
    from cdxsync.jobs.schemas import JobList, JobRun
    from cdxsync.store.fleet import Fleet

app = typer.Typer(help="Show and run the background jobs.", no_args_is_help=True)


def runner_of(state: State, fleet: "Fleet", wait: int) -> "Run":
    """Runs a job in this process; waits up to `wait` seconds when another one runs it already."""
    from cdxsync.background import on_request

    return lambda name: on_request.run_here(fleet, name, actor=actor(), wait=wait, tell=state.note)


@app.command("list")
def list_jobs(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the jobs: how each last ended, and when it runs next."""
    from cdxsync.background import status
    from cdxsync.jobs.schemas import JobList

    def show(data: "JobList") -> None:
        output.table(
            ("Job", "State", "Last run", "Took", "Result", "Next run"),
            (
                (
                    row.name,
                    row.state,
                    row.last_finished_at,
                    f"{row.last_duration_ms / 1000:.1f} s" if row.last_duration_ms is not None else None,
                    row.off_reason or row.last_error or row.last_result,
                    row.not_before or row.next_run,
                )
                for row in data.jobs
            ),
        )

    state_of(ctx).run(lambda fleet: JobList(jobs=status.list_jobs(fleet.settings)), show)


@app.command()
def run(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="JOB", help="A job's name.", show_default=False)],
    wait: Wait = 60,
    as_json: AsJson = False,
) -> None:
    """Run a job now, here, whether a server runs or not."""
    from cdxsync.background import on_request

    state = state_of(ctx)

    def call(fleet: "Fleet") -> "JobRun":
        data = on_request.run_job(fleet.settings, name, runner_of(state, fleet, wait))
        if not data.pending:
            state.fail_after_printing(data.job.last_error)
        return data

    def show(data: "JobRun") -> None:
        job = data.job
        if data.pending:
            output.line(f"{name} still runs")
        elif job.last_error is None:
            output.line(f"{name}: {job.last_result}")

    state.run(call, show)
