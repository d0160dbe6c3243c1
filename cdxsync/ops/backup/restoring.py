"""Restoring a home from a backup: verifies all of it first, and keeps what it replaces."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cdxsync.base import clock, settings
from cdxsync.base.errors import Conflict, Failed, Refused
from cdxsync.base.files import sync_directory
from cdxsync.base.settings import CONFIG_NAME
from cdxsync.ops import home_lock, keys
from cdxsync.ops import signing as signing_keys
from cdxsync.ops.backup import archive, encryption
from cdxsync.ops.backup.making import sqlite_file
from cdxsync.ops.homes import KEYRING_NAME, PKI_NAME, make_home
from cdxsync.ops.schemas import Restored
from cdxsync.prompts import catalog
from cdxsync.security import signing
from cdxsync.store import audit, audit_chain, keyring_external, keyring_file, migrations, rights, sqlite_files
from cdxsync.store.database import write
from cdxsync.store.keyring_file import KeyringFile
from cdxsync.store.sealing import Keyring

_PLACES = (
    (archive.CONFIG, CONFIG_NAME),
    (archive.PKI, PKI_NAME),
    (archive.SIGNING, signing_keys.NAME),
    (archive.KEYRING, KEYRING_NAME),
)
"""Members of a backup, and where they go in a home."""
_JOURNALS = ("-wal", "-shm", "-journal")
_STAGING_PREFIX = ".restore-"
_KEPT_PREFIX = "before-restore-"


def occupied(home: Path) -> bool:
    """Whether the home has anything that a restore would replace. Raises `Failed` if it is not a directory."""
    if not home.exists():
        return False
    if not home.is_dir():
        raise Failed(f"{home} is not a directory. Give another --home", code="file_unusable")
    own = (home_lock.LOCK_NAME, _STAGING_PREFIX, _KEPT_PREFIX)
    return any(not path.name.startswith(own) for path in home.iterdir())


def restore(
    home: Path,
    source: BinaryIO,
    *,
    config: Path | None = None,
    force: bool = False,
    password: bytes | None = None,
    actor: str,
) -> Restored:
    """Restore the backup `source` into `home`; replaced files move to a folder in the home.

    `config` is the settings file when it is not the home's own. Raises `Conflict` when the home is in use, or not
    empty without `force`; `Failed` when the backup is damaged or does not fit; `Refused` for a wrong password.
    """
    if occupied(home) and not force:
        raise Conflict(
            f"{home} is not empty. Give another --home, or replace its content with --force", code="home_not_empty"
        )
    made = not home.exists()
    make_home(home)
    try:
        with home_lock.exclusive(home) as lock, tempfile.TemporaryDirectory(dir=home, prefix=_STAGING_PREFIX) as work:
            staged = Path(work) / "content"
            manifest = _unpack(source, Path(work), staged, password)
            in_force = _settings_in_force(home, staged, config)
            target = _database_target(in_force)
            _verify(in_force, staged, manifest, actor)
            with home_lock.replacing(lock):
                kept = _swap(home, staged, target)
                _ask_for_macs_later(in_force, target)
                sync_directory(home)
                sync_directory(target.parent)
    except BaseException:
        if made:
            (home / home_lock.LOCK_NAME).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                home.rmdir()
        raise
    return Restored(
        home=str(home),
        created_at=manifest.created_at,
        contents=manifest.contents,
        program_version=manifest.program_version,
        files=sorted(manifest.files),
        kept=str(kept) if kept is not None else None,
    )


def _unpack(source: BinaryIO, work: Path, staged: Path, password: bytes | None) -> archive.Manifest:
    staged.mkdir(mode=0o700)
    if not encryption.is_encrypted(source):
        return archive.extract(source, staged)
    if password is None:
        raise Refused("The backup is encrypted. Add --password-file FILE", code="password_required")
    plain = work / "backup.zip"
    plain.touch(mode=0o600)
    with plain.open("r+b") as file:
        encryption.decrypt(source, file, password)
        file.seek(0)
        return archive.extract(file, staged)


def _settings_in_force(home: Path, staged: Path, config: Path | None) -> settings.Settings:
    """The settings after the restore."""
    restored = staged / archive.CONFIG
    return settings.load(home, config=config or (restored if restored.exists() else None))


def _database_target(in_force: settings.Settings) -> Path:
    """The path of the database by the settings."""
    target = sqlite_file(in_force)
    if not target.parent.is_dir():
        raise Failed(
            f"{target.parent}: no such directory for the database. Create it, or correct database_url",
            code="file_unusable",
        )
    return target


def _verify(in_force: settings.Settings, staged: Path, manifest: archive.Manifest, actor: str) -> None:
    """Raise `Failed` unless the database is sound, of a known schema, and the keyring opens it; add the audit row."""
    copy = staged / archive.DATABASE
    damage = sqlite_files.problems(copy)
    if damage:
        raise archive.unusable(f"The backup's database is damaged: {damage[0]}")
    try:
        unknown = sorted(set(sqlite_files.schema(copy)) - set(migrations.known()))
    except sqlite3.Error as error:
        raise archive.unusable(f"The backup's database cannot be read: {error}") from None
    if unknown:
        raise Failed(
            f"The backup is of a newer cdxsync ({manifest.program_version}, migration {unknown[-1]}). Nothing was"
            " changed. Upgrade this one",
            code="version_differs",
        )
    if not sqlite_files.schema(copy):
        raise archive.unusable("The backup's database has no tables")
    home = in_force.home
    ring = staged / archive.KEYRING if archive.KEYRING in manifest.files else home / KEYRING_NAME
    external = keyring_external.find(in_force.keyring, os.environ)
    content = keyring_file.read(ring, external)
    if archive.SIGNING in manifest.files:
        _join_signing_keys(home / signing_keys.NAME, staged / archive.SIGNING)
    with sqlite_files.scope_of(copy) as database:
        database.find_keyring = lambda: KeyringFile(ring, external, keys.key_to_seal_with)
        name = f"{ring.name} of the {_origin(ring, home)}" if external is None else external.name
        keys.check(Keyring(content.active, content.keys), name)
        write(catalog.note_changed)  # else hosts take the list for an older one than they had
        audit.note("admin.db.restore", actor=actor, backup_of=manifest.created_at, contents=manifest.contents)


def _ask_for_macs_later(in_force: settings.Settings, target: Path) -> None:
    """Rows of a backup from before they had MACs are believed once more, as what an admin puts there."""
    if rights.MIGRATION in sqlite_files.schema(target):
        return
    ring = KeyringFile(in_force.home / KEYRING_NAME, keyring_external.find(in_force.keyring, os.environ))
    if ring.rows_have_macs:
        ring.require_macs(False)


def _join_signing_keys(present: Path, staged: Path) -> None:
    """Let the restored signing keys have those that the home has now: hosts may know these alone. Raises `Failed`."""
    restored, kept = signing.read(staged), signing.read(present)
    if restored is not None and kept is not None:
        signing.write(staged, restored.joined(kept))


def _origin(ring: Path, home: Path) -> str:
    return "home" if ring.parent == home else "backup"


def _swap(home: Path, staged: Path, target: Path) -> Path | None:
    """Move the present files aside, and the restored ones in; returns the folder of the old ones, if any."""
    # The witness of the audit log knows rows of the replaced database.
    old = [home / audit_chain.WITNESS_NAME, target, *(target.with_name(target.name + suffix) for suffix in _JOURNALS)]
    moves = {staged / archive.DATABASE: target}
    for name, own_name in _PLACES:
        if (staged / name).exists():
            old.append(home / own_name)
            moves[staged / name] = home / own_name
    kept = None
    try:
        for path in (path for path in old if path.exists()):
            kept = kept or _make_kept(home)
            shutil.move(path, kept / path.name)
        for arrived, place in moves.items():
            shutil.move(arrived, place)
    except OSError as error:
        raise Failed(
            f"{error.filename}: {error.strerror}. The restore was interrupted, and the home cannot be used."
            f" Remove the cause, and run it again with --force. The old files are in {kept or home}",
            code="file_unusable",
        ) from None
    return kept


def _make_kept(home: Path) -> Path:
    for name in _kept_names():
        with contextlib.suppress(FileExistsError):
            (home / name).mkdir(mode=0o700)
            return home / name
    raise AssertionError("names do not end")


def _kept_names() -> Iterator[str]:
    stamp = clock.now().strftime("%Y%m%dT%H%M%SZ")
    number = 1
    while True:
        yield f"{_KEPT_PREFIX}{stamp}" + (f"-{number}" if number > 1 else "")
        number += 1
