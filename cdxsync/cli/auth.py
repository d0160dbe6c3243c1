"""`cdxsync auth`: the fleet's canonical auth.json."""

from pathlib import Path
from typing import Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.completion import completer, host_names
from cdxsync.cli.input import read_bytes
from cdxsync.cli.state import AsJson, actor, state_of

app = typer.Typer(help="Show and upload the fleet's canonical auth.json.", no_args_is_help=True)


@app.command()
def show(
    ctx: typer.Context,
    include_body: Annotated[
        bool, typer.Option("--include-body", help="Print the document with its secrets, as JSON.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show which document is canonical."""
    from cdxsync.domain import canonical
    from cdxsync.errors import NotFound

    state = state_of(ctx)
    data = canonical.describe(state.fleet(), include_body=include_body, actor=actor())
    if data is None:
        raise NotFound(
            "The fleet has no auth.json yet. Log in on one host with `cdx login`, or run: cdxsync auth upload FILE"
        )
    if state.json:
        output.json_data(data)
    elif include_body:
        output.json_data(data["auth"])
    else:
        output.fields(
            [
                ("Last refresh", data["canonical_last_refresh"]),
                ("Digest", data["canonical_digest"]),
                ("Targets", ", ".join(data["targets"])),
                ("Stored", data["stored_at"]),
                ("Source", data["source"]),
            ]
        )


@app.command()
def upload(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An auth.json; - for standard input.")],
    host: Annotated[
        str | None,
        typer.Option(
            metavar="HOST",
            help="Store it in the name of this host.",
            show_default=False,
            autocompletion=completer(host_names),
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Take it even when it is not newer than the canonical one.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a document canonical, if it is newer than what the fleet has."""
    from cdxsync.domain import exchange, hosts, jsontext
    from cdxsync.errors import Conflict, Malformed

    state = state_of(ctx)
    try:
        document = jsontext.decode(read_bytes(file))
    except Malformed as error:
        raise Malformed(f"{file}: {error.message}") from None
    fleet = state.fleet()
    owner = hosts.find(host) if host else None
    data = exchange.upload(fleet, document, host=owner, actor=actor(), force=force)
    if state.json:
        output.json_data(data)
    if data["status"] == "outdated":
        raise Conflict(
            f"The fleet has a newer document, or another one of the same date: {data['canonical_last_refresh']}."
            " Nothing was changed; --force takes this one all the same"
        )
    if not state.json:
        done = "is canonical now" if data["status"] == "updated" else "was canonical already"
        output.note(state, f"The document of {data['canonical_last_refresh']} {done}")
