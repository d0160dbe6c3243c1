"""Making a backup of a home while servers run."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import cdxsync
from cdxsync.base import clock
from cdxsync.base.errors import Conflict, Failed, Unavailable
from cdxsync.base.files import replacing, write_private
from cdxsync.base.settings import CONFIG_NAME, Settings
from cdxsync.hosts import installers
from cdxsync.ops import home_lock, keys, signing
from cdxsync.ops.backup import archive, encryption
from cdxsync.ops.homes import KEYRING_NAME, PKI_NAME, is_initialised, open_database
from cdxsync.ops.schemas import Backup
from cdxsync.store import audit, keyring_external, keyring_file, sqlite_files
from cdxsync.store.database import RESTORE
from cdxsync.store.engines import engine_of
from cdxsync.store.keyring_file import Content


def make(
    settings: Settings,
    target: Path | BinaryIO,
    *,
    name: str = "",
    config: Path | None = None,
    database_only: bool = False,
    force: bool = False,
    password: bytes | None = None,
    actor: str,
) -> Backup:
    """Write a backup to `target`: a stream, for messages `name`, or a file, mode 0600.

    `config` is the settings file when it is not the home's own.

    The database is not migrated: a backup can be made before an upgrade. A damaged database is not backed up: that
    would replace good backups by a bad one. Raises `Failed`, `Conflict`, `DatabaseAway`.
    """
    home = settings.home
    if isinstance(target, Path) and target.exists() and not force:
        raise Conflict(f"{target} exists already. Give another file, or replace it with --force", code="file_exists")
    live = sqlite_file(settings)
    if not live.exists() and is_initialised(home):
        raise Failed(f"The database {live} is missing. Run: {RESTORE}", code="database_missing")
    if not live.exists() or (not database_only and not is_initialised(home)):
        raise Failed(
            f"{home} is not initialised. Run: cdxsync init   (or give another --home)",
            code="home_not_initialised",
        )
    home_lock.share(home)
    try:
        # Work files hold secrets: they stay in the home, not beside the backup.
        with tempfile.TemporaryDirectory(dir=home, prefix=".backup-") as work:
            files, manifest = _collect(settings, Path(work), live, config, database_only)
            packed = Path(work) / "backup.zip"
            archive.write(packed, manifest, files)
            if password is not None:
                locked = packed.with_suffix(".encrypted")
                with packed.open("rb") as source, locked.open("wb") as encrypted:
                    encryption.encrypt(source, encrypted, password)
                packed = locked
            with (
                packed.open("rb") as source,
                replacing(target, 0o600) if isinstance(target, Path) else contextlib.nullcontext(target) as file,
            ):
                shutil.copyfileobj(source, file, 1 << 20)
                file.flush()
            size = packed.stat().st_size
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failed(
            f"{error.filename or name or target}: {error.strerror}. No backup was made", code="file_unusable"
        ) from None
    database = open_database(settings)
    try:
        with database.scope():
            audit.note("admin.db.backup", actor=actor, contents=manifest.contents, encrypted=password is not None)
    finally:
        database.close()
    return Backup(
        file=name or str(target),
        size_bytes=size,
        created_at=manifest.created_at,
        contents=manifest.contents,
        encrypted=password is not None,
        schema=manifest.schema,
        key_ids=manifest.key_ids,
        files=sorted(manifest.files),
        keyring=manifest.contents == "full" and keyring_external.find(settings.keyring, os.environ) is None,
    )


def sqlite_file(settings: Settings) -> Path:
    """The file of the database. Raises `Unavailable` for a database server."""
    engine = engine_of(settings.database_url, settings.home)
    if engine.path is None:
        dump = "pg_dump --format=custom" if engine.name == "postgresql" else "mysqldump --single-transaction"
        raise Unavailable(
            f"A backup file can hold only an SQLite database, and this one is {engine.shown}. Use its own tool"
            f" ({dump}), or `cdxsync db export FILE --with-keyring`, which every engine can import; and also copy"
            f" {settings.home}, which has the keyring and the certificates",
            code="backup_unsupported",
        )
    return engine.path


def _collect(
    settings: Settings, work: Path, live: Path, config: Path | None, database_only: bool
) -> tuple[Mapping[str, Path], archive.Manifest]:
    """Copies of all files of the backup, by member name, and the manifest."""
    ring = settings.home / KEYRING_NAME
    external = keyring_external.find(settings.keyring, os.environ)
    before = None if database_only or external is not None else keyring_file.read(ring)
    marked = external is not None and not database_only and keyring_file.read(ring, external).rows_have_macs
    created_at = clock.stamp(clock.now())
    copy = work / archive.DATABASE
    sqlite_files.copy_live(live, copy)
    damage = sqlite_files.problems(copy)
    if damage:
        raise Failed(
            f"The database is damaged ({damage[0]}). No backup was made. Run: cdxsync db check",
            code="database_damaged",
        )
    if sqlite_files.schema(copy):
        with sqlite_files.scope_of(copy):
            installers.drop_expired_keys(clock.now())  # no server may run that does so
    files = {archive.DATABASE: copy}
    if before is not None:
        # A key may be added or removed while the database is copied; the keys of both moments open all of the copy.
        after = keyring_file.read(ring)
        both = Content(
            after.active,
            {**before.keys, **after.keys},
            {**before.created, **after.created},
            after.resealing,
            before.rows_have_macs,  # of rows that were copied before all had one, some have none
        )
        files[archive.KEYRING] = work / archive.KEYRING
        keyring_file.write(files[archive.KEYRING], both)
    elif not database_only:
        # No keys, only the mark that they come from outside.
        keyring_file.read(ring, external)
        files[archive.KEYRING] = work / archive.KEYRING
        keyring_file.mark(files[archive.KEYRING], rows_have_macs=marked)
    if not database_only:
        for name, path in _other_files(settings.home, config).items():
            # Copied first: a file that is replaced meanwhile must match its checksum.
            files[name] = work / name
            files[name].parent.mkdir(parents=True, exist_ok=True)
            write_private(files[name], path.read_bytes())
    with sqlite_files.scope_of(copy):
        key_ids = sorted(keys.needed()) if sqlite_files.schema(copy) else []
    return files, archive.Manifest(
        format=archive.FORMAT,
        created_at=created_at,
        program_version=cdxsync.__version__,
        contents="database" if database_only else "full",
        schema=sqlite_files.schema(copy),
        key_ids=key_ids,
        files={name: archive.measure(path) for name, path in files.items()},
    )


def _other_files(home: Path, config: Path | None) -> dict[str, Path]:
    single = {archive.CONFIG: config or home / CONFIG_NAME, archive.SIGNING: home / signing.NAME}
    found = {name: path for name, path in single.items() if path.exists()}
    directory = home / PKI_NAME
    for path in sorted(directory.rglob("*")):
        name = f"{archive.PKI}/{path.relative_to(directory).as_posix()}"
        if path.is_file() and archive.is_member(name):
            found[name] = path
    return found
