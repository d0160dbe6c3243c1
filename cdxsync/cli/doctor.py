"""`cdxsync doctor`: looks for trouble and says how to repair it."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.command import UsageError, state_of
from cdxsync.cli.options import AsJson

if TYPE_CHECKING:
    from cdxsync.ops.doctor import Finding


def doctor(
    ctx: typer.Context,
    silent_days: Annotated[
        int,
        typer.Option(
            "--silent-days", metavar="N", min=1, help="After how many days without a call a host counts as silent."
        ),
    ] = 7,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="CHECK", help="Leave out a check; repeatable.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look for trouble: files, database, keys, certificates, clock, URL, hosts. Exit code 1 when a check fails."""
    from cdxsync.base.errors import SettingError
    from cdxsync.ops import doctor
    from cdxsync.ops.doctor.model import worst

    state = state_of(ctx)
    unknown = [name for name in skip or [] if name not in doctor.names()]
    if unknown:
        raise UsageError(f"No check {unknown[0]!r} to skip; there are: {', '.join(doctor.names())}.")
    settings, problem = None, ""
    try:
        settings = state.settings()
    except SettingError as error:
        problem = error.message
    subject = doctor.Subject(state.home_directory(), settings, problem, silent_days=silent_days)
    findings = doctor.examine(subject, skip or [])
    state.answer(findings, _print, data=doctor.report)
    if worst(findings) is doctor.Level.FAIL:
        raise typer.Exit(1)


def _print(findings: "Sequence[Finding]") -> None:
    """A table whose last column has the finding and, under it, the remedy; two columns for them in a pipe."""
    if not sys.stdout.isatty():
        output.table((), ((finding.level, finding.check, finding.text, finding.mend) for finding in findings))
        return
    output.table(
        ("", "Check", "Finding"),
        (
            (finding.level, finding.check, f"{finding.text}\n→ {finding.mend}" if finding.mend else finding.text)
            for finding in findings
        ),
    )
