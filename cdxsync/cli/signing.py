"""`cdxsync keys signing`: the keys with which the server signs what hosts run."""

from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.command import actor, confirm, state_of
from cdxsync.cli.options import AsJson, Yes

if TYPE_CHECKING:
    from cdxsync.ops.schemas import SigningKeyItem, SigningKeyList, SigningKeyRetired
    from cdxsync.store.fleet import Fleet

app = typer.Typer(help="List, change and retire the keys that sign cdx and prompts.", no_args_is_help=True)
_NAMED = 5
"""Hosts that are named in a question."""


@app.command("list")
def list_keys(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the signing keys. All of them sign; a host needs one that it knows."""
    from cdxsync.ops import signing

    state = state_of(ctx)

    def show(data: "SigningKeyList") -> None:
        output.table(("Key", "Created"), ((key.id, key.created_at) for key in data.keys))
        state.note(f"From {data.file}")
        if data.problem:
            state.note(f"Note: {data.problem}. Remedy: {signing.ELSEWHERE}")

    state.run(signing.list_all, show)


@app.command()
def rotate(
    ctx: typer.Context,
    lost: Annotated[
        bool,
        typer.Option("--lost", help="The keys that hosts know are gone: cdx is to be installed again."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add a key, while servers run. Hosts learn of it with their next cdx, which the keys before sign too."""
    from cdxsync.ops import signing

    state = state_of(ctx)

    def show(key: "SigningKeyItem") -> None:
        state.note(f"Made key {key.id}. Copy {signing.NAME} to the fleet's other servers, and back it up")
        state.note("When all hosts have called, remove the old one: cdxsync keys signing retire KEY")

    state.run(lambda fleet: signing.rotate(fleet, lost=lost, actor=actor()), show)


@app.command()
def retire(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The id of a key.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove a signing key. A host that knows no other takes neither cdx nor prompts until cdx is installed again."""
    from cdxsync.ops import signing
    from cdxsync.ops.schemas import SigningKeyRetired

    state = state_of(ctx)

    def call(fleet: "Fleet") -> "SigningKeyRetired":
        behind = signing.behind(fleet, key)
        late = ""
        if behind:
            names = ", ".join(behind[:_NAMED]) + (", …" if len(behind) > _NAMED else "")
            late = f" {len(behind)} hosts have not called since the newest one was made: {names}."
        confirm(f"Remove signing key {key} for good?{late}", yes)
        signing.retire(fleet, key, actor=actor())
        if late:
            state.note(
                f"{late.strip()} Where cdx takes nothing any more, install it again: cdxsync hosts register HOST"
            )
        return SigningKeyRetired(retired=key)

    state.run(call, lambda _: state.note(f"Removed key {key}. Copy {signing.NAME} to the fleet's other servers"))
