"""`cdxsync keys`: the keys under which credentials are sealed in the database."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output, signing
from cdxsync.cli.command import actor, confirm, state_of
from cdxsync.cli.options import AsJson, Yes, is_stdin

if TYPE_CHECKING:
    from cdxsync.ops.schemas import KeyList, KeyRetired, KeyringExport, Rotation
    from cdxsync.store.fleet import Fleet
    from cdxsync.store.keyring_file import Content

app = typer.Typer(help="List, rotate, export and retire the keys that seal credentials.", no_args_is_help=True)
app.add_typer(signing.app, name="signing")


@app.command("list")
def list_keys(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the keys of the keyring, and what each has sealed."""
    from cdxsync.ops import keys

    state = state_of(ctx)

    def show(data: "KeyList") -> None:
        output.table(
            ("Key", "State", "Created", "Sealed values"),
            ((key.id, key.state, key.created_at or "-", sum(key.sealed.values())) for key in data.keys),
        )
        state.note(f"From {data.source}")
        if data.resealing:
            state.note("A rotation was interrupted, or runs elsewhere. To finish it: cdxsync keys rotate")

    state.run(keys.list_all, show)


@app.command()
def rotate(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Make a new key and reseal all values with it, while servers run; it also finishes an interrupted rotation."""
    from cdxsync.ops import keys

    state = state_of(ctx)
    keyring = ""

    def call(fleet: "Fleet") -> "Rotation":
        nonlocal keyring
        keyring = fleet.keyring.where
        with state.progress("Resealing") as on_progress:
            return keys.rotate(fleet, actor=actor(), on_progress=on_progress)

    def show(rotation: "Rotation") -> None:
        began = "Made key" if rotation.added else "Continued with key"
        state.note(f"{began} {rotation.active}; resealed {rotation.resealed} values with it")
        state.note(f"Back up the keyring ({keyring}). To remove an old key: cdxsync keys retire KEY")

    rotation = state.run(call, show)
    if rotation.unreadable:
        state.note("These could not be opened and stay as they are:")
        for problem in rotation.unreadable:
            state.note(f"  {problem}")
        raise typer.Exit(1)


@app.command()
def export(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; - for standard output.")],
    new_key: Annotated[bool, typer.Option("--new-key", help="Add a key, and make it the active one.")] = False,
    without: Annotated[
        str | None, typer.Option(metavar="KEY", help="Leave out a key that nothing is sealed with.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the keyring with its secret keys to a file. The keyring in use does not change."""
    from cdxsync.base.errors import Conflict
    from cdxsync.ops import keys
    from cdxsync.ops.schemas import KeyringExport
    from cdxsync.store import keyring_file

    state = state_of(ctx)
    to_stdout = is_stdin(file)
    if not to_stdout and file.exists():
        raise Conflict(f"{file} exists already. Name another file", code="file_exists")

    def call(fleet: "Fleet") -> "Content":
        content = keys.export(fleet, new_key=new_key, without=without, actor=actor())
        if to_stdout:
            sys.stdout.write(content.encode().decode())
        else:
            keyring_file.write(file, content)
        return content

    def show(content: "Content") -> None:
        state.note(f"Wrote {file}: {len(content.keys)} keys, active is {content.active}. Keep it secret")

    def data(content: "Content") -> "KeyringExport":
        return KeyringExport(file=str(file), active=content.active, keys=list(content.keys))

    if to_stdout:
        with state.opened() as fleet:
            call(fleet)
    else:
        state.run(call, show, data=data)


@app.command()
def retire(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The id of a key that nothing is sealed with.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove a key that seals nothing any more. Older copies of the database still need it."""
    from cdxsync.ops import keys
    from cdxsync.ops.schemas import KeyRetired

    state = state_of(ctx)

    def call(fleet: "Fleet") -> "KeyRetired":
        confirm(f"Remove key {key} for good? Database copies from before the rotation need it.", yes)
        keys.retire(fleet, key, actor=actor())
        return KeyRetired(retired=key)

    state.run(call, lambda _: state.note(f"Removed key {key}"))
