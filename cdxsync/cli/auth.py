"""`cdxsync auth`: the fleet's canonical auth.json, and those it had before."""

from pathlib import Path
from typing import Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.completion import completer, host_names
from cdxsync.cli.input import read_bytes
from cdxsync.cli.state import AsJson, Before, Yes, actor, confirm, state_of

app = typer.Typer(help="Show, upload and roll back the fleet's canonical auth.json.", no_args_is_help=True)


@app.command()
def show(
    ctx: typer.Context,
    include_body: Annotated[
        bool, typer.Option("--include-body", help="Print the document with its secrets, as JSON.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show which document is canonical."""
    from cdxsync.auth import canonical

    state = state_of(ctx)
    data = canonical.describe(state.fleet(), include_body=include_body, actor=actor())
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
    from cdxsync.auth import exchange
    from cdxsync.base import jsontext
    from cdxsync.base.errors import Conflict, Malformed
    from cdxsync.hosts import registry

    state = state_of(ctx)
    try:
        document = jsontext.decode(read_bytes(file))
    except Malformed as error:
        raise Malformed(f"{file}: {error.message}") from None
    fleet = state.fleet()
    owner = registry.find(host) if host else None
    data = exchange.upload(fleet, document, host=owner, actor=actor(), force=force)
    if state.json:
        output.json_data(data)
    if data["status"] == "outdated":
        raise Conflict(
            f"The fleet has a newer document, or another one of the same date: {data['canonical_last_refresh']}."
            " Nothing was changed; --force takes this one all the same",
            code="document_not_newer",
        )
    if not state.json:
        done = "is canonical now" if data["status"] == "updated" else "was canonical already"
        output.note(state, f"The document of {data['canonical_last_refresh']} {done}")


@app.command("history")
def show_history(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many rows.")] = 50,
    before: Before = None,
    as_json: AsJson = False,
) -> None:
    """List the documents that are kept, newest first."""
    from cdxsync.auth import history

    state = state_of(ctx)
    state.fleet()
    data = history.listing(limit, before=before)
    if state.json:
        output.json_data(data)
        return
    output.table(
        ("Id", "Last refresh", "Digest", "Source", "Stored", "State"),
        (
            (
                row["id"],
                row["last_refresh"],
                row["digest"][:8],
                row["source"],
                row["stored_at"],
                "canonical" if row["canonical"] else "",
            )
            for row in data["history"]
        ),
    )
    if data["next_before"] is not None:
        output.note(state, f"Older rows: cdxsync auth history --before {data['next_before']}")


@app.command()
def diff(
    ctx: typer.Context,
    first: Annotated[
        str | None,
        typer.Argument(metavar="FROM", help="Id of a kept document. Default: the one before.", show_default=False),
    ] = None,
    second: Annotated[
        str | None,
        typer.Argument(metavar="TO", help="Id of another. Default: the canonical one.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show which keys differ between two kept documents; never their values."""
    from cdxsync.auth import history
    from cdxsync.base.texts import clean

    state = state_of(ctx)
    from_id = None if first is None else history.read_reference(first, "from")
    to_id = None if second is None else history.read_reference(second, "to")
    data = history.diff(state.fleet(), from_id, to_id)
    if state.json:
        output.json_data(data)
        return
    since, to = data["from"], data["to"]
    output.note(state, f"From {since['id']} ({since['last_refresh']}) to {to['id']} ({to['last_refresh']}):")
    output.table(("Key", "Change"), ((clean(row["key"]), row["change"]) for row in data["changes"]))
    if not data["changes"]:
        output.note(state, "The same values, in another order" if data["reordered"] else "They are the same")


@app.command()
def rollback(
    ctx: typer.Context,
    document: Annotated[
        str, typer.Argument(metavar="ID|previous", help="Which document, of those in: cdxsync auth history")
    ],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make a kept document canonical again; all hosts pull it at their next run.

    It is stored once more with the present as its last_refresh, so that hosts which hold the document that is given
    up do not send that back.
    """
    from cdxsync.auth import history

    state = state_of(ctx)
    payload_id = history.read_reference(document, "id")
    fleet = state.fleet()
    found = history.candidate(payload_id)
    confirm(f"Roll the whole fleet back to document {found.id} of {found.last_refresh}?", yes)
    data = history.rollback(fleet, found.id, actor=actor())
    if state.json:
        output.json_data(data)
        return
    output.note(
        state,
        f"Document {data['to']} of {data['restored_last_refresh']} is canonical again, as {data['stored_as']}"
        f" with the date {data['canonical_last_refresh']}.\n"
        "Hosts pull it at their next run. If its refresh token was used since, log in anew: cdx login\n"
        f"To undo: cdxsync auth rollback {data['from']}",
    )
