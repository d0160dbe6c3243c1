"""`cdxsync keys`: the keys under which credentials are sealed in the database."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cdxsync.cli import output, progress
from cdxsync.cli.state import AsJson, Yes, actor, confirm, state_of

app = typer.Typer(help="List, rotate, export and retire the keys that seal credentials.", no_args_is_help=True)


@app.command("list")
def list_keys(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the keys of the keyring, and what each has sealed."""
    from cdxsync.ops import keys

    state = state_of(ctx)
    data = keys.overview(state.fleet())
    if state.json:
        output.json_data(data)
        return
    output.table(
        ("Key", "State", "Created", "Sealed values"),
        ((key["id"], key["state"], key["created_at"] or "-", sum(key["sealed"].values())) for key in data["keys"]),
    )
    output.note(state, f"From {data['source']}")
    if data["resealing"]:
        output.note(state, "A rotation was cut off, or goes on elsewhere. To finish it: cdxsync keys rotate")


@app.command()
def rotate(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Make a new key and seal everything anew with it, while servers run; again finishes what was cut off."""
    from cdxsync.ops import keys

    state = state_of(ctx)
    fleet = state.fleet()
    with progress.bar(state, "Sealing anew") as on_progress:
        rotation = keys.rotate(fleet, actor=actor(), on_progress=on_progress)
    if state.json:
        output.json_data(rotation.data())
    else:
        began = "Made key" if rotation.added else "Went on with key"
        output.note(state, f"{began} {rotation.key_id}; sealed {rotation.resealed} values anew with it")
        output.note(state, f"Back up the keyring ({fleet.keyring.where}). To end an old key: cdxsync keys retire KEY")
    if rotation.unreadable:
        output.note(state, "These could not be opened and stay as they are:")
        for problem in rotation.unreadable:
            output.note(state, f"  {problem}")
        raise typer.Exit(1)


@app.command()
def export(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; - for standard output.")],
    new_key: Annotated[bool, typer.Option("--new-key", help="Add a key, which is the active one.")] = False,
    without: Annotated[
        str | None, typer.Option(metavar="KEY", help="Leave out a key that nothing is sealed with.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the keyring with its secret keys, to be put elsewhere. The one in use stays as it is."""
    from cdxsync.base.errors import Conflict
    from cdxsync.ops import keys
    from cdxsync.store import keyring_file

    state = state_of(ctx)
    fleet = state.fleet()
    if str(file) != "-" and file.exists():
        raise Conflict(f"{file} exists already. Name another file", code="file_exists")
    content = keys.export(fleet, new_key=new_key, without=without, actor=actor())
    if str(file) == "-":
        sys.stdout.write(content.encode().decode())
        return
    keyring_file.write(file, content)
    if state.json:
        output.json_data({"file": str(file), "active": content.active, "keys": list(content.keys)})
        return
    output.note(state, f"Wrote {file}: key {content.active} is active of {len(content.keys)}. Keep it secret")


@app.command()
def retire(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The id of a key that nothing is sealed with.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove a key, when nothing is sealed with it any more. Older copies of the database then need it no less."""
    from cdxsync.ops import keys

    state = state_of(ctx)
    fleet = state.fleet()
    confirm(f"Remove key {key} for good? Database copies from before the rotation need it.", yes)
    keys.retire(fleet, key, actor=actor())
    if state.json:
        output.json_data({"retired": key})
        return
    output.note(state, f"Removed key {key}")
