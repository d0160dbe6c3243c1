"""`cdxsync db`: migrating, checking, backing up and restoring the database, and moving it elsewhere."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.command import UsageError, actor, confirm, state_of
from cdxsync.cli.options import AsJson, Yes, is_stdin, read_bytes, read_password

if TYPE_CHECKING:
    from cdxsync.ops.schemas import (
        AlteredRow,
        AlteredRows,
        Backup,
        ConsistencyReport,
        Export,
        Import,
        Migrated,
        ReferenceImport,
        Restored,
        RowsAccepted,
    )
    from cdxsync.store.fleet import Fleet

app = typer.Typer(help="Migrate, check, back up, restore, export and import the database.", no_args_is_help=True)
PasswordFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Encrypt with the password in this file, - for standard input."),
]
WITH_KEYS = "It holds the fleet's credentials and the keys to them: keep it as safe as the server"


@app.command()
def migrate(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Bring the schema up to date. The server does it too, when it starts."""
    from cdxsync.ops import homes
    from cdxsync.ops.schemas import Migrated

    state = state_of(ctx)

    def show(data: "Migrated") -> None:
        for name in data.applied:
            output.line(name)
        if not data.applied:
            state.note("Nothing to do: the schema is up to date")

    state.answer(Migrated(applied=homes.migrate(state.settings())), show)


@app.command()
def check(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Look for damage: structure, digests, seals, totals, audit log.

    Prints a line for each finding; exit code 1 with any.
    """
    from cdxsync.base.errors import DatabaseAway
    from cdxsync.ops import consistency, homes
    from cdxsync.ops.schemas import Checked, ConsistencyReport, Damage

    state = state_of(ctx)
    try:
        fleet = homes.open_unmigrated(state.settings())
        with contextlib.closing(fleet.database), fleet.database.scope():
            report = consistency.check(fleet)
    except DatabaseAway as error:
        damage = Damage(check="structure", problem=error.message)
        report = ConsistencyReport(ok=False, findings=[damage], checked=Checked())

    def show(report: "ConsistencyReport") -> None:
        for finding in report.findings:
            output.line(f"{finding.check}: {finding.problem}")
        shown = ", ".join(
            f"{getattr(report.checked, name) or 0} {name}" for name in ("documents", "installers", "prompts")
        )
        days = f"{report.checked.usage_days or 0} days of usage"
        audit = f"{report.checked.audit_rows or 0} audit rows"
        state.note(f"Checked {shown}, {days}, {audit}: {len(report.findings) or 'no'} findings")
        if any(finding.check == "audit" for finding in report.findings):
            state.note("More about the audit log: cdxsync logs verify")
        if any(finding.check == "rights" for finding in report.findings):
            state.note("Rows that were changed past cdxsync: cdxsync db accept shows them, and asks whether they count")
        if any(finding.check not in ("audit", "rights") for finding in report.findings):
            state.note("Rows cannot be repaired in place. Restore a good backup: cdxsync db restore FILE --force")

    state.answer(report, show)
    if report.findings:
        raise typer.Exit(1)


@app.command()
def accept(
    ctx: typer.Context,
    rows: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ROW]...", help="TABLE:ID or TABLE:NAME; all that were changed by default."),
    ] = None,
    only_list: Annotated[bool, typer.Option("--list", help="Show them only.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Show the rows that were changed in the database past cdxsync, and accept them as they are.

    Rows that give rights (hosts, installers, grants, documents, prompts, named values) have a MAC under the keyring;
    one without a good MAC is not used. What is accepted counts as if the server had written it.
    """
    from cdxsync.ops import row_macs

    state = state_of(ctx)

    def list_only(fleet: "Fleet") -> "AlteredRows":
        return row_macs.altered(fleet)

    def show(data: "AlteredRows") -> None:
        for row in data.rows:
            output.line(_described(row))
        if not data.rows:
            state.note("No row was changed past cdxsync")

    def call(fleet: "Fleet") -> "RowsAccepted":
        chosen = row_macs.choose(row_macs.altered(fleet), rows or [])
        for row in chosen:
            state.note(_described(row))
        if chosen:
            confirm(f"Let {len(chosen)} rows count as they are? Whoever wrote them gets the rights in them.", yes)
        return row_macs.accept(fleet, chosen, actor=actor())

    def show_accepted(data: "RowsAccepted") -> None:
        for name in data.accepted:
            output.line(name)
        for name in data.changed_meanwhile:
            state.note(f"{name} was changed meanwhile, and is not accepted. Look again")
        if not data.accepted and not data.changed_meanwhile:
            state.note("No row was changed past cdxsync")

    if only_list:
        state.run(list_only, show)
    elif state.run(call, show_accepted).changed_meanwhile:
        raise typer.Exit(1)


def _described(row: "AlteredRow") -> str:
    """A row with what gives rights in it, on one line."""
    values = ", ".join(f"{name}={value}" for name, value in row.values.items())
    return f"{row.table}:{row.id} {'has another MAC' if row.has_mac else 'has no MAC'}: {values}"


@app.command()
def backup(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to write it, such as cdxsync.zip; - for standard output.")
    ],
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
    if is_stdin(file):
        state.json = False  # standard output holds the backup, and nothing else
    data = making.make(
        settings,
        sys.stdout.buffer if is_stdin(file) else file,
        name="standard output" if is_stdin(file) else "",
        config=state.config,
        database_only=database_only,
        force=force,
        password=password,
        actor=actor(),
    )

    def show(data: "Backup") -> None:
        state.note(f"Wrote {data.file} ({data.size_bytes} bytes)")
        if not data.keyring:
            state.note(f"Only these keys of the keyring open it: {', '.join(data.key_ids) or 'none'}")
        elif password is None:
            state.note(WITH_KEYS)

    state.answer(data, show)


@app.command()
def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup; - for standard input.")],
    password_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The password of an encrypted backup is in this file.", show_default=False),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is in the home; it is moved aside, not deleted.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Verify a backup and put it into an empty home. The server must be stopped."""
    import shutil
    import tempfile

    from cdxsync.base.errors import Failed
    from cdxsync.ops.backup import restoring

    state = state_of(ctx)
    home = state.home_directory()
    if is_stdin(file) and is_stdin(password_file):
        raise UsageError("Give - for the backup or for --password-file, not for both.")
    password = None if password_file is None else read_password(password_file)
    if force and restoring.occupied(home):
        confirm(f"Replace what is in {home}?", yes)
    try:
        with tempfile.TemporaryFile() as copy:
            source = copy if is_stdin(file) else file.open("rb")
            with source:
                if source is copy:
                    shutil.copyfileobj(sys.stdin.buffer, copy)
                    copy.seek(0)
                data = restoring.restore(
                    home, source, config=state.config, force=force, password=password, actor=actor()
                )
    except OSError as error:
        raise Failed(f"{error.filename or file}: {error.strerror}", code="file_unusable") from None

    def show(data: "Restored") -> None:
        state.note(f"Restored {home} to the state of {data.created_at}")
        if data.kept:
            state.note(f"What was there is in {data.kept} now; delete it when the server works")
        state.note("Hosts registered since must be registered again. Next: cdxsync serve")

    state.answer(data, show)


@app.command()
def export(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; - for standard output.")],
    with_keyring: Annotated[
        bool, typer.Option("--with-keyring", help="Include the keys that open sealed values.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write all tables as JSON lines, for a database of any engine, while servers run. Credentials stay sealed."""
    from cdxsync.base.errors import Conflict, Failed
    from cdxsync.base.files import replacing
    from cdxsync.ops.transfer import exporting

    state = state_of(ctx)
    if not is_stdin(file) and file.exists() and not force:
        raise Conflict(f"{file} exists already. Name another file, or replace it with --force", code="file_exists")

    def call(fleet: "Fleet") -> "Export":
        try:
            with (
                state.progress("Exporting") as on_progress,
                contextlib.nullcontext(sys.stdout.buffer) if is_stdin(file) else replacing(file, 0o600) as target,
            ):
                data = exporting.export(
                    fleet, target, str(file), with_keyring=with_keyring, actor=actor(), on_progress=on_progress
                )
                target.flush()
                return data
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Failed(f"{file}: {error.strerror}. Nothing was exported", code="file_unusable") from None

    def show(data: "Export") -> None:
        state.note(f"Exported {sum(data.rows.values())} rows")
        if with_keyring:
            state.note(WITH_KEYS)
        elif data.key_ids:
            state.note(f"Only these keys of the keyring open it: {', '.join(data.key_ids)}")

    if is_stdin(file):
        state.json = False  # standard output holds the export, and nothing else
    state.run(call, show)


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
    name = "standard input" if is_stdin(file) else str(file)
    try:
        source = sys.stdin.buffer if is_stdin(file) else file.open("rb")
        with source, state.progress("Importing") as on_progress:
            data = importing.load(settings, source, name, on_progress=on_progress)
    except OSError as error:
        raise Failed(f"{error.filename or file}: {error.strerror}", code="file_unusable") from None

    def show(data: "Import") -> None:
        state.note(f"Imported {data.total} rows into {settings.home}")
        state.note("An export holds no settings and no certificates: see docs/migration.md. Next: cdxsync serve")

    state.answer(data, show)


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
    from cdxsync.base.errors import Failed
    from cdxsync.ops.import_reference import loading, secretbox

    state = state_of(ctx)
    if (file is None) == (url_file is None):
        raise UsageError("Give a FILE or --url-file FILE, not both.")
    if file is not None and str(file).lower().startswith(("mysql:", "mariadb:")):
        # Other users of this machine see a command's arguments.
        raise UsageError("FILE is a dump. Write the URL of a database into a file, and give that with --url-file.")
    if [is_stdin(given) for given in (file, url_file, encryption_key_file)].count(True) > 1:
        raise UsageError("Give - for one file only.")
    key = None
    if encryption_key_file is not None:
        text = read_bytes(encryption_key_file).decode(errors="replace")
        key = secretbox.read_key(text, str(encryption_key_file))
    name = "standard input" if is_stdin(file) else str(file or url_file)
    try:
        with contextlib.ExitStack() as stack:
            if url_file is not None:
                source = loading.database_at(read_bytes(url_file).decode(errors="replace").strip())
                name = "the database"
            else:
                opened = stack.enter_context(sys.stdin.buffer if file is None or is_stdin(file) else file.open("rb"))
                source = loading.dump_of(opened, name)
            on_progress = stack.enter_context(state.progress("Importing"))
            data = loading.load(
                state.settings(), source, name, key=key, dry_run=dry_run, actor=actor(), on_progress=on_progress
            )
    except OSError as error:
        raise Failed(f"{error.filename or name}: {error.strerror}", code="file_unusable") from None

    def show(data: "ReferenceImport") -> None:
        output.table(("Table", "Imported"), data.imported.items(), numbers=("Imported",))
        for skipped in data.skipped:
            shown = ", ".join(skipped.examples) + (", …" if skipped.count > len(skipped.examples) else "")
            state.note(f"Left out {skipped.count} of {skipped.table}: {skipped.reason}: {shown}")
        for text in data.notes:
            state.note(f"Note: {text}")
        if data.other_tables:
            state.note(f"Not read: {', '.join(data.other_tables)}")
        state.note("Nothing was changed" if dry_run else "Imported. Next: docs/migration.md, cdxsync serve")

    state.answer(data, show)
