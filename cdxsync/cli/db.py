"""`cdxsync db`: migrating, checking, backing up and restoring the database, and moving it elsewhere."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from cdxsync.cli import output, progress
from cdxsync.cli.input import read_password
from cdxsync.cli.state import AsJson, Yes, actor, confirm, state_of

app = typer.Typer(help="Migrate, check, back up, restore, export and import the database.", no_args_is_help=True)
PasswordFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Encrypt with the password in this file, - for standard input."),
]


@app.command()
def migrate(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Bring the schema up to date. The server does it too, when it starts."""
    from cdxsync.ops import homes

    state = state_of(ctx)
    done = homes.migrate(state.settings())
    if state.json:
        output.json_data({"applied": done})
        return
    for name in done:
        output.line(name)
    if not done:
        output.note(state, "Nothing to do: the schema is up to date")


@app.command()
def check(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Look for damage: structure, digests, seals, totals. Prints a line for each finding; exit code 1 with any."""
    from cdxsync.base.errors import DatabaseAway
    from cdxsync.ops import consistency, homes

    state = state_of(ctx)
    try:
        fleet = homes.open_unmigrated(state.settings())
        with contextlib.closing(fleet.database), fleet.database.scope():
            report = consistency.check(fleet)
    except DatabaseAway as error:
        report = consistency.Report((consistency.Finding("structure", error.message),), {})
    if state.json:
        output.json_data(report.data())
    else:
        for finding in report.findings:
            output.line(f"{finding.check}: {finding.problem}")
        shown = ", ".join(f"{report.checked.get(name, 0)} {name}" for name in ("documents", "installers", "prompts"))
        days = f"{report.checked.get('usage_days', 0)} days of usage"
        output.note(state, f"Checked {shown}, {days}: {len(report.findings) or 'no'} findings")
        if report.findings:
            output.note(state, "Rows cannot be mended in place; a good backup can: cdxsync db restore FILE --force")
    if report.findings:
        raise typer.Exit(1)


@app.command()
def backup(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it, such as cdxsync.zip.")],
    database_only: Annotated[
        bool, typer.Option("--database-only", help="Leave out keyring, settings and certificates.")
    ] = False,
    password_file: PasswordFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write database, keyring, settings and certificates to one file, while the server runs."""
    from cdxsync.ops.backup import making

    state = state_of(ctx)
    settings = state.settings()
    password = None if password_file is None else read_password(password_file)
    data = making.make(
        settings,
        file,
        config=state.config,
        database_only=database_only,
        force=force,
        password=password,
        actor=actor(),
    )
    if state.json:
        output.json_data(data)
        return
    output.note(state, f"Wrote {file} ({data['size_bytes']} bytes)")
    if not data["keyring"]:
        output.note(state, f"It opens with these keys of the keyring only: {', '.join(data['key_ids']) or 'none'}")
    elif password is None:
        output.note(state, "It holds the fleet's credentials and the keys to them: keep it as safe as the server")


@app.command()
def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup; - for standard input.")],
    password_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The password of an encrypted backup is in this file.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in the home; it is kept aside.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Put a backup into an empty home, after it was verified. The server must be stopped."""
    import shutil
    import tempfile

    from cdxsync.base.errors import Failed, Invalid
    from cdxsync.ops.backup import restoring

    state = state_of(ctx)
    home = state.home_directory()
    if str(file) == "-" and str(password_file) == "-":
        raise Invalid({"password-file": ["cannot be standard input too"]})
    password = None if password_file is None else read_password(password_file)
    if force and restoring.occupied(home):
        confirm(f"Replace what is in {home}?", yes)
    try:
        with tempfile.TemporaryFile() as copy:
            source = file.open("rb") if str(file) != "-" else copy
            with source:
                if source is copy:
                    shutil.copyfileobj(sys.stdin.buffer, copy)
                    copy.seek(0)
                data = restoring.restore(
                    home, source, config=state.config, force=force, password=password, actor=actor()
                )
    except OSError as error:
        raise Failed(f"{error.filename or file}: {error.strerror}", code="file_unusable") from None
    if state.json:
        output.json_data(data)
        return
    output.note(state, f"Restored {home} to the state of {data['created_at']}")
    if data["kept"]:
        output.note(state, f"What was there lies in {data['kept']}; delete it when all is well")
    output.note(state, "Hosts registered since must be registered again. Next: cdxsync serve")


@app.command()
def export(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; - for standard output.")],
    with_keyring: Annotated[
        bool, typer.Option("--with-keyring", help="Put the keys that open sealed values into it too.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write all tables as JSON lines, for a database of any engine, while servers run. Credentials stay sealed."""
    from cdxsync.base.errors import Conflict, Failed
    from cdxsync.base.files import replacing
    from cdxsync.ops.transfer import exporting

    state = state_of(ctx)
    to_stdout = str(file) == "-"
    if not to_stdout and file.exists() and not force:
        raise Conflict(f"{file} exists already. Name another file, or replace it with --force", code="file_exists")
    fleet = state.fleet()
    with progress.bar(state, "Exporting") as on_progress:
        try:
            if to_stdout:
                data = exporting.export(
                    fleet, sys.stdout.buffer, with_keyring=with_keyring, actor=actor(), on_progress=on_progress
                )
                sys.stdout.buffer.flush()
            else:
                with replacing(file, 0o600) as target:
                    data = exporting.export(
                        fleet, target, with_keyring=with_keyring, actor=actor(), on_progress=on_progress
                    )
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Failed(f"{file}: {error.strerror}. Nothing was exported", code="file_unusable") from None
    if state.json and not to_stdout:
        output.json_data({"file": str(file), **data})
        return
    output.note(state, f"Exported {sum(data['rows'].values())} rows")
    if with_keyring:
        output.note(state, "It holds the fleet's credentials and the keys to them: keep it as safe as the server")
    elif data["key_ids"]:
        output.note(state, f"It opens with these keys of the keyring only: {', '.join(data['key_ids'])}")


@app.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An export; - for standard input.")],
    as_json: AsJson = False,
) -> None:
    """Read an export into an empty or new home, all or nothing. The server must be stopped."""
    from cdxsync.base.errors import Failed
    from cdxsync.ops.transfer import importing

    state = state_of(ctx)
    settings = state.settings()
    try:
        source = sys.stdin.buffer if str(file) == "-" else file.open("rb")
        with source, progress.bar(state, "Importing") as on_progress:
            data = importing.load(
                settings, source, "standard input" if str(file) == "-" else str(file), on_progress=on_progress
            )
    except OSError as error:
        raise Failed(f"{error.filename or file}: {error.strerror}", code="file_unusable") from None
    if state.json:
        output.json_data({"home": str(settings.home), **data})
        return
    output.note(state, f"Imported {data['total']} rows into {settings.home}")
    output.note(state, "Settings and certificates are not in an export: see docs/migration.md. Next: cdxsync serve")


@app.command("import-reference")
def import_reference(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A dump of mysqldump; - for standard input.")
    ] = None,
    url_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Instead of a dump, read the running database whose URL is in this file:"
            " mysql://USER:PASSWORD@HOST:PORT/NAME.",
            show_default=False,
        ),
    ] = None,
    encryption_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The old server's AUTH_ENCRYPTION_KEY is in this file, alone or as in its .env.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; print what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take over hosts, credentials, usage and prompts of the reference implementation. Hosts keep their keys."""
    from cdxsync.base.errors import Failed, Invalid
    from cdxsync.cli.input import read_bytes
    from cdxsync.ops.import_reference import loading, secretbox

    state = state_of(ctx)
    if (file is None) == (url_file is None):
        raise Invalid({"FILE": ["is needed, or --url-file FILE: one of them"]})
    if file is not None and str(file).lower().startswith(("mysql:", "mariadb:")):
        # Others on this machine see what a command is called with.
        raise Invalid({"FILE": ["is a file: put the URL of a database into one, and give it with --url-file"]})
    if [str(file), str(url_file), str(encryption_key_file)].count("-") > 1:
        raise Invalid({"encryption-key-file": ["cannot be standard input too"]})
    key = None
    if encryption_key_file is not None:
        text = read_bytes(encryption_key_file).decode(errors="replace")
        key = secretbox.read_key(text, str(encryption_key_file))
    name = "standard input" if str(file) == "-" else str(file or url_file)
    try:
        with contextlib.ExitStack() as stack:
            if url_file is not None:
                source = loading.database_at(read_bytes(url_file).decode(errors="replace").strip())
                name = "the database"
            else:
                opened = stack.enter_context(sys.stdin.buffer if file is None or str(file) == "-" else file.open("rb"))
                source = loading.dump_of(opened, name)
            on_progress = stack.enter_context(progress.bar(state, "Importing"))
            data = loading.load(
                state.settings(), source, name, key=key, dry_run=dry_run, actor=actor(), on_progress=on_progress
            )
    except OSError as error:
        raise Failed(f"{error.filename or name}: {error.strerror}", code="file_unusable") from None
    if state.json:
        output.json_data(data)
        return
    output.table(("Table", "Imported"), data["imported"].items(), numbers=("Imported",))
    for skipped in data["skipped"]:
        shown = ", ".join(skipped["examples"]) + (", …" if skipped["count"] > len(skipped["examples"]) else "")
        output.note(state, f"Left out {skipped['count']} of {skipped['table']}: {skipped['reason']}: {shown}")
    for text in data["notes"]:
        output.note(state, f"Note: {text}")
    if data["other_tables"]:
        output.note(state, f"Not read: {', '.join(data['other_tables'])}")
    output.note(state, "Nothing was changed" if dry_run else "Imported. Next: docs/migration.md, cdxsync serve")
