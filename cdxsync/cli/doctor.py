"""`cdxsync doctor`: looks for trouble and says what mends it."""

from typing import Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.state import AsJson, state_of


def doctor(
    ctx: typer.Context,
    silent_days: Annotated[
        int, typer.Option("--silent-days", metavar="N", min=1, help="After how many days a host counts as silent.")
    ] = 7,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="CHECK", help="Leave out a check; repeatable.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look for trouble: files, database, keys, certificates, clock, URL, hosts. Exit code 1 when a check fails."""
    from cdxsync import doctor
    from cdxsync.doctor.model import worst
    from cdxsync.errors import Invalid, SettingError

    state = state_of(ctx)
    unknown = [name for name in skip or [] if name not in doctor.names()]
    if unknown:
        raise Invalid({"skip": [f"{unknown[0]!r} is none of: {', '.join(doctor.names())}"]})
    settings, problem = None, ""
    try:
        settings = state.settings()
    except SettingError as error:
        problem = error.message
    subject = doctor.Subject(state.home_directory(), settings, problem, silent_days=silent_days)
    findings = doctor.examine(subject, skip or [])
    level = worst(findings)
    if state.json:
        output.json_data({"level": str(level), "checks": [finding.data() for finding in findings]})
    else:
        output.table(
            ("", "Check", "Finding", "To mend it"),
            ((finding.level, finding.check, finding.text, finding.mend) for finding in findings),
        )
    if level is doctor.Level.FAIL:
        raise typer.Exit(1)
