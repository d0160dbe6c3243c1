"""`cdxsync auth`: the fleet's canonical auth.json, and those it had before."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.command import UsageError, actor, confirm, state_of
from cdxsync.cli.completion import completer, host_names
from cdxsync.cli.options import AsJson, Before, HostArgument, Yes, read_bytes

if TYPE_CHECKING:
    from cdxsync.auth.account_schemas import LoginAccepted
    from cdxsync.auth.schemas import AuthAnswer, CanonicalShown, LoginRevoked, PayloadDiff, PayloadPage, RolledBack
    from cdxsync.store.fleet import Fleet

WORDS = {
    "ask": "not taken; see cdxsync auth accept",
    "once": "is taken when the host calls",
    "always": "is always taken",
    "never": "is never taken",
}
"""The rules for logins of other accounts (`hosts.schemas.LoginRule`)."""
app = typer.Typer(help="Show, upload, roll back and revoke the fleet's canonical auth.json.", no_args_is_help=True)


@app.command()
def show(
    ctx: typer.Context,
    include_body: Annotated[
        bool, typer.Option("--include-body", help="Print the document with its secrets, as JSON.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show which document is canonical, and logins of other accounts that hosts have."""
    from cdxsync.auth import history

    state = state_of(ctx)

    def show(data: "CanonicalShown") -> None:
        if include_body:
            output.json_data(data.auth)
            return
        output.fields(
            [
                ("Last refresh", data.canonical_last_refresh),
                ("Digest", data.canonical_digest),
                ("Account", data.account),
                ("Targets", ", ".join(data.targets)),
                ("Stored", data.stored_at),
                ("Source", data.source),
                *([("Ended", data.ended)] if data.ended else []),
            ]
        )
        for offer in data.offers:
            state.note(f"{offer.fqdn} has a login of another account: {offer.account} ({WORDS[offer.accepted]})")

    state.run(lambda fleet: history.show(fleet, include_body=include_body, actor=actor()), show)


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
        bool, typer.Option("--force", help="Store it even when it is not newer than the canonical one.")
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

    def call(fleet: "Fleet") -> "AuthAnswer":
        owner = registry.find(host) if host else None
        return exchange.upload(fleet, document, host=owner, actor=actor(), force=force)

    def show(data: "AuthAnswer") -> None:
        if data.status != "outdated":
            done = "is canonical now" if data.status == "updated" else "was canonical already"
            state.note(f"The document of {data.canonical_last_refresh} {done}")
        if data.account_change:
            change = data.account_change
            state.note(f"The fleet's account changes: {change.now}, before: {change.before}")

    data = state.run(call, show)
    if data.status == "outdated":
        raise Conflict(
            f"The fleet has a newer document, or another one of the same date: {data.canonical_last_refresh}."
            " Nothing was changed; --force stores this one nevertheless",
            code="document_not_newer",
        )


@app.command()
def accept(
    ctx: typer.Context,
    host: HostArgument,
    always: Annotated[bool, typer.Option("--always", help="Take every login of another account that it has.")] = False,
    never: Annotated[bool, typer.Option("--never", help="Take none, and do not warn of them.")] = False,
    ask: Annotated[bool, typer.Option("--ask", help="Take none without this command, as at first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take the login of another account that a host has offered: it becomes the fleet's when the host calls."""
    from cdxsync.auth import offers
    from cdxsync.hosts import registry

    if always + never + ask > 1:
        raise UsageError("Give one of --always, --never and --ask.")
    rule = offers.ALWAYS if always else offers.NEVER if never else offers.ASK if ask else offers.ONCE
    state = state_of(ctx)

    def show(data: "LoginAccepted") -> None:
        whose = data.offer.account if data.offer is not None else "a login of another account"
        state.note(f"{data.host.fqdn}: {whose} {WORDS[rule]}")

    state.run(lambda fleet: offers.accept(registry.find(host), rule, actor=actor()), show)


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

    def show(data: "PayloadPage") -> None:
        output.table(
            ("Id", "Last refresh", "Digest", "Source", "Stored", "State"),
            (
                (
                    row.id,
                    row.last_refresh,
                    row.digest[:8],
                    row.source,
                    row.stored_at,
                    "canonical" if row.canonical else "",
                )
                for row in data.history
            ),
        )
        if data.next_before is not None:
            state.note(f"Older rows: cdxsync auth history --before {data.next_before}")

    state.run(lambda fleet: history.list_payloads(limit, before=before), show)


@app.command()
def diff(
    ctx: typer.Context,
    first: Annotated[
        str | None,
        typer.Argument(
            metavar="FROM", help="Id of a kept document. Default: the one stored before TO.", show_default=False
        ),
    ] = None,
    second: Annotated[
        str | None,
        typer.Argument(metavar="TO", help="Id of another. Default: the canonical one.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show which keys differ between two kept documents; never their values."""
    from cdxsync.auth import history
    from cdxsync.auth.schemas import read_reference
    from cdxsync.base.texts import clean

    state = state_of(ctx)
    from_id = None if first is None else read_reference(first, "from")
    to_id = None if second is None else read_reference(second, "to")

    def show(data: "PayloadDiff") -> None:
        since, to = data.since, data.to
        state.note(f"From {since.id} ({since.last_refresh}) to {to.id} ({to.last_refresh}):")
        output.table(("Key", "Change"), ((clean(row.key), row.change) for row in data.changes))
        if not data.changes:
            state.note("The same values, in another order" if data.reordered else "No differences")

    state.run(lambda fleet: history.diff(fleet, from_id, to_id), show)


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

    It is stored once more with the current time as its last_refresh, so that hosts which hold the document that is
    given up do not send that back.
    """
    from cdxsync.auth import history
    from cdxsync.auth.schemas import read_reference

    state = state_of(ctx)
    payload_id = read_reference(document, "id")

    def call(fleet: "Fleet") -> "RolledBack":
        found = history.candidate(fleet, payload_id)
        confirm(f"Roll the whole fleet back to document {found.id} of {found.last_refresh}?", yes)
        return history.rollback(fleet, found.id, actor=actor())

    def show(data: "RolledBack") -> None:
        state.note(
            f"Document {data.to} of {data.restored_last_refresh} is canonical again, as {data.stored_as}"
            f" with the date {data.canonical_last_refresh}.\n"
            "Hosts pull it at their next run. If its refresh token was used since, log in again: cdx login\n"
            f"To undo: cdxsync auth rollback {data.since}"
        )

    state.run(call, show)


@app.command()
def revoke(ctx: typer.Context, yes: Yes = False, as_json: AsJson = False) -> None:
    """End the fleet's login at OpenAI: no host can use it any more, and somebody must log in again.

    For a login that was stolen. To cut off one host: cdxsync hosts disable HOST
    """
    from cdxsync.background import revoking

    state = state_of(ctx)

    def call(fleet: "Fleet") -> "LoginRevoked":
        found = revoking.check(fleet)
        confirm(f"Revoke the fleet's login of {found.last_refresh}? All hosts need a new login then.", yes)
        return revoking.revoke(fleet, actor=actor())

    def show(data: "LoginRevoked") -> None:
        state.note(
            f"The login of {data.canonical_last_refresh} is revoked. Access tokens that hosts have may be good until"
            " they expire.\nLog in again on one host: cdx login"
        )

    state.run(call, show)
