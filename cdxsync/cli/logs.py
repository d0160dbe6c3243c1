"""`cdxsync logs`: the audit log."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.command import State, UsageError, actor, confirm, state_of
from cdxsync.cli.options import AsJson, Before, HostOption, Yes

if TYPE_CHECKING:
    from cdxsync.store.audit import Wanted
    from cdxsync.store.fleet import Fleet
    from cdxsync.store.schemas import LogPage, LogRow, LogsVerified

POLL_SECONDS = 0.5
app = typer.Typer()


@app.callback(invoke_without_command=True)
def logs(
    ctx: typer.Context,
    host: HostOption = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many rows.")] = 50,
    before: Before = None,
    after: Annotated[
        int | None,
        typer.Option(min=0, metavar="ID", help="Only rows newer than the one with this id.", show_default=False),
    ] = None,
    action: Annotated[str, typer.Option(metavar="TEXT", help="Only actions that begin with this, such as auth.")] = "",
    by: Annotated[str, typer.Option("--actor", metavar="TEXT", help="Only rows whose actor contains this.")] = "",
    search: Annotated[str, typer.Option(metavar="TEXT", help="Only rows whose actor or details contain this.")] = "",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print the newest rows, then new ones as they come.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the audit log, newest first: who did what.

    With --follow it goes on, oldest first; --json then prints one object a line.
    """
    state = state_of(ctx)
    if ctx.invoked_subcommand is not None:
        return
    if follow and (before, after) != (None, None):
        raise UsageError("Give --follow without --before and --after: it shows the newest rows and what comes after.")

    def wanted() -> "Wanted":
        from cdxsync.hosts import registry
        from cdxsync.store import audit

        return audit.Wanted(registry.find(host) if host else None, action, by, search)

    def call(fleet: "Fleet") -> "LogPage":
        from cdxsync.store import audit

        return audit.recent(limit, wanted(), before=before, after=after)

    def show(page: "LogPage") -> None:
        folding = ("Who", "Action", "Details")
        output.table(("Id", "When", "Who", "From", "Action", "Details"), map(_cells, page.logs), folding=folding)
        if page.next_before is not None:
            state.note(f"Older rows: cdxsync logs --before {page.next_before}")

    if follow:
        with state.opened():
            _follow(state, limit, wanted())
    else:
        state.run(call, show)


def _follow(state: State, limit: int, wanted: "Wanted") -> None:
    """Print rows until interrupted: each as soon as it has been committed."""
    import sys

    try:
        for row in _rows(limit, wanted):
            if state.json:
                output.json_line(row)
            else:
                output.line("\t".join("" if cell is None else str(cell) for cell in _cells(row)))
                sys.stdout.flush()
    except KeyboardInterrupt:
        return


def _rows(limit: int, wanted: "Wanted") -> Iterator["LogRow"]:
    import time

    from cdxsync.store import audit

    rows = audit.recent(limit, wanted).logs[::-1]
    last = rows[-1].id if rows else 0
    yield from rows
    while True:
        rows = audit.since(last, 500, wanted)
        yield from rows
        if rows:
            last = rows[-1].id
        else:
            time.sleep(POLL_SECONDS)


def _cells(row: "LogRow") -> tuple[object, ...]:
    return row.id, row.created_at, row.actor, row.ip, row.action, words(row.details)


def words(details: str | None) -> str:
    """A row's JSON details as `name=value` words, values with blanks in quotes.

    Values with control characters are quoted too, escaped as in JSON: details hold what clients sent, such as the path
    of a refused call, and a terminal would obey it.
    """
    import json

    def word(value: object) -> str:
        is_plain = isinstance(value, str) and value.isprintable() and value and " " not in value
        return str(value) if is_plain else json.dumps(value)

    try:
        found = json.loads(details) if details else {}
    except ValueError:  # written past cdxsync
        return json.dumps(details)
    return " ".join(f"{name}={word(value)}" for name, value in found.items())


@app.command()
def verify(
    ctx: typer.Context,
    accept: Annotated[
        bool, typer.Option("--accept", help="Take the log as it is, and check only what is written from now on.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Find rows that were changed, removed or added by others. Exit code 1 with any.

    --accept is for what you have looked into, such as a database that was restored by its own tools, or rows of an
    older server: it adds a row about that, and earlier rows are not checked any more.
    """
    state = state_of(ctx)

    def call(fleet: "Fleet") -> "LogsVerified":
        from cdxsync.ops import audit_log

        if not accept:
            return audit_log.verify(fleet)
        confirm("Take the audit log as it is?", yes)
        return audit_log.accept(fleet, actor=actor())

    def show(data: "LogsVerified") -> None:
        for problem in data.problems:
            output.line(problem.problem)
        if data.more:
            output.line(f"and {data.more} more")
        since = f" since {data.since}" if data.since else ""
        older = f"; {data.before} older ones are not checked" if data.before else ""
        state.note(f"Checked {data.checked} rows{since}: {len(data.problems) + data.more or 'no'} problems{older}")

    if not state.run(call, show).ok:
        raise typer.Exit(1)
