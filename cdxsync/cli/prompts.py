"""`cdxsync prompts`: the slash-command prompts that all hosts share."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.completion import completer, prompt_names
from cdxsync.cli.input import read_bytes
from cdxsync.cli.state import AsJson, Yes, actor, confirm, state_of

if TYPE_CHECKING:
    from cdxsync.prompts.catalog import Prompt

app = typer.Typer(help="List, show, store, import and delete slash-command prompts.", no_args_is_help=True)
NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A prompt's file name, such as review.md.",
        autocompletion=completer(prompt_names),
    ),
]


@app.command("list")
def list_prompts(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List all prompts."""
    from cdxsync.prompts import catalog

    state = state_of(ctx)
    state.fleet()
    commands = catalog.listing()
    if state.json:
        output.json_data({"commands": commands})
        return
    if not commands:
        output.note(state, "No prompts yet. Store one: cdxsync prompts store FILE")
    output.table(
        ("Name", "Description", "Arguments", "Changed"),
        ((row["filename"], row["description"], row["argument_hint"], row["updated_at"]) for row in commands),
    )


@app.command()
def show(ctx: typer.Context, name: NameArgument, as_json: AsJson = False) -> None:
    """Print a prompt."""
    from cdxsync.prompts import catalog

    state = state_of(ctx)
    state.fleet()
    row = catalog.find(name)
    if state.json:
        output.json_data(catalog.whole(row))
        return
    sys.stdout.write(row.prompt)


@app.command()
def history(
    ctx: typer.Context,
    name: NameArgument,
    version: Annotated[
        int | None, typer.Option("--id", metavar="ID", min=1, help="Print this earlier text.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what a prompt said before, newest first, also of one that was deleted; or print one of these texts."""
    from cdxsync.prompts import history

    state = state_of(ctx)
    state.fleet()
    data = history.listing(name) if version is None else history.version(name, version)
    if state.json:
        output.json_data(data)
    elif version is not None:
        sys.stdout.write(data["prompt"])
    else:
        output.table(
            ("Id", "Stored", "By", "SHA-256"),
            ((row["id"], row["stored_at"], row["source"], row["sha256"][:12]) for row in data["history"]),
            folding=("By",),
        )


@app.command()
def store(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A prompt; - for standard input, with --name.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its file name. Default: that of FILE.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Store a prompt for all hosts; an older one of that name is replaced."""
    from cdxsync.prompts import catalog

    state = state_of(ctx)
    limit = state.settings().max_prompt_bytes
    prompt = _read(file, name, limit)
    state.fleet()
    data = catalog.store(prompt, actor=actor())
    if state.json:
        output.json_data(data)
        return
    output.note(state, f"{data['filename']}: {data['status']}")


def _read(file: Path, name: str | None, limit: int) -> "Prompt":
    from cdxsync.base.errors import Invalid
    from cdxsync.prompts import catalog

    try:
        text = read_bytes(file).decode()
    except UnicodeDecodeError:
        raise Invalid({"prompt": ["must be UTF-8 text"]}, f"{file}: not a prompt") from None
    filename = name or ("" if str(file) == "-" else file.name)
    try:
        return catalog.read_prompt({"filename": filename, "prompt": text}, limit)
    except Invalid as error:
        raise Invalid(error.errors, f"{file}: not a prompt") from None


@app.command("import")
def import_folder(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of prompts, such as ~/.codex/prompts.")],
    as_json: AsJson = False,
) -> None:
    """Store all .md files of a folder, none if one of them is not good."""
    from cdxsync.base.errors import Failed
    from cdxsync.prompts import catalog

    state = state_of(ctx)
    limit = state.settings().max_prompt_bytes
    if not folder.is_dir():
        raise Failed(
            f"{folder}: not a folder; name one that holds prompts, such as ~/.codex/prompts", code="file_unusable"
        )
    read = [_read(file, None, limit) for file in sorted(folder.glob("*.md")) if file.is_file()]
    if not read:
        raise Failed(f"{folder}: has no .md files; name the folder that holds the prompts", code="file_unusable")
    state.fleet()
    results = catalog.store_all(read, actor=actor())
    if state.json:
        output.json_data({"commands": results})
        return
    for data in results:
        output.note(state, f"{data['filename']}: {data['status']}")


@app.command()
def delete(ctx: typer.Context, name: NameArgument, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a prompt from the server."""
    from cdxsync.prompts import catalog

    state = state_of(ctx)
    state.fleet()
    filename = catalog.find(name).filename
    confirm(f"Delete prompt {filename}?", yes)
    catalog.delete(filename, actor=actor())
    if state.json:
        output.json_data({"deleted": filename})
        return
    output.note(state, f"Deleted {filename}")
