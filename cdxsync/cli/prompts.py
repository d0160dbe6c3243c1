"""`cdxsync prompts`: the slash-command prompts that all hosts share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.command import actor, confirm, state_of
from cdxsync.cli.completion import completer, prompt_names
from cdxsync.cli.options import AsJson, Yes, is_stdin, read_bytes

if TYPE_CHECKING:
    from cdxsync.prompts.schemas import (
        PromptBody,
        PromptDeleted,
        PromptHistory,
        PromptList,
        PromptsStored,
        PromptVersionWhole,
        PromptWhole,
    )
    from cdxsync.store.fleet import Fleet

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

    def show(data: "PromptList") -> None:
        if not data.commands:
            state.note("No prompts yet. Store one: cdxsync prompts store FILE")
        names = ("filename", "description", "argument_hint", "updated_at")
        output.table(
            ("Name", "Description", "Arguments", "Changed"),
            (tuple(getattr(row, name) for name in names) for row in data.commands),
        )

    state.run(lambda fleet: catalog.list_all(), show)


def _print_text(data: "PromptWhole | PromptVersionWhole") -> None:
    output.whole(data.prompt)


@app.command()
def show(ctx: typer.Context, name: NameArgument, as_json: AsJson = False) -> None:
    """Print a prompt."""
    from cdxsync.prompts import catalog
    from cdxsync.prompts.schemas import PromptWhole

    state_of(ctx).run(lambda fleet: PromptWhole.of(catalog.find(name)), _print_text)


@app.command()
def history(
    ctx: typer.Context,
    name: NameArgument,
    version: Annotated[
        int | None, typer.Option("--id", metavar="ID", min=1, help="Print this earlier text.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the earlier texts of a prompt, newest first, also of a deleted one; or print one of them."""
    from cdxsync.prompts import history

    state = state_of(ctx)

    def show(data: "PromptHistory") -> None:
        output.table(
            ("Id", "Stored", "By", "SHA-256"),
            ((row.id, row.stored_at, row.source, row.sha256[:12]) for row in data.history),
            folding=("By",),
        )

    if version is None:
        state.run(lambda fleet: history.list_versions(name), show)
    else:
        state.run(lambda fleet: history.show_version(name, version), _print_text)


@app.command()
def store(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A prompt; - for standard input, with --name.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its file name. Default: that of FILE.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Store a prompt for all hosts, in place of an older one of that name."""
    from cdxsync.prompts import catalog

    state = state_of(ctx)
    prompt = _read(file, name, state.settings().max_prompt_bytes)
    state.run(
        lambda fleet: catalog.store(fleet.settings, prompt, actor=actor()),
        lambda data: state.note(f"{data.filename}: {data.status}"),
    )


def _read(file: Path, name: str | None, limit: int) -> "PromptBody":
    from cdxsync.base.errors import Invalid
    from cdxsync.prompts import catalog

    try:
        text = read_bytes(file).decode()
    except UnicodeDecodeError:
        raise Invalid({"prompt": ["must be UTF-8 text"]}, f"{file}: not a prompt") from None
    filename = name or ("" if is_stdin(file) else file.name)
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
    """Store all .md files of a folder; none, when one of them is invalid."""
    from cdxsync.base.errors import Failed
    from cdxsync.prompts import catalog

    state = state_of(ctx)
    limit = state.settings().max_prompt_bytes
    if not folder.is_dir():
        raise Failed(
            f"{folder} is not a folder. Name one that holds prompts, such as ~/.codex/prompts", code="file_unusable"
        )
    read = [_read(file, None, limit) for file in sorted(folder.glob("*.md")) if file.is_file()]
    if not read:
        raise Failed(f"{folder} has no .md files. Name the folder that holds the prompts", code="file_unusable")

    def show(data: "PromptsStored") -> None:
        for row in data.commands:
            state.note(f"{row.filename}: {row.status}")

    state.run(lambda fleet: catalog.store_all(fleet.settings, read, actor=actor()), show)


@app.command()
def delete(ctx: typer.Context, name: NameArgument, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a prompt from the server."""
    from cdxsync.prompts import catalog
    from cdxsync.prompts.schemas import PromptDeleted

    state = state_of(ctx)

    def call(fleet: "Fleet") -> "PromptDeleted":
        filename = catalog.find(name).filename
        confirm(f"Delete prompt {filename}?", yes)
        catalog.delete(filename, actor=actor())
        return PromptDeleted(deleted=filename)

    state.run(call, lambda data: state.note(f"Deleted {data.deleted}"))
