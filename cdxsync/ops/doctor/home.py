"""The state directory: settings, modes, space, and the dates of its files."""

import contextlib
import os
import shlex
import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cdxsync.base.errors import CdxsyncError, Conflict
from cdxsync.base.settings import CONFIG_NAME
from cdxsync.ops import home_lock, homes, signing
from cdxsync.ops.doctor.model import Finding, Subject, fail, ok, warn
from cdxsync.store.engines import engine_of

TOLERANCE = timedelta(seconds=300)
LEFT_OVER = timedelta(days=1)
DISK_FAIL_BYTES = 64 << 20
DISK_WARN_BYTES = 512 << 20


def settings(subject: Subject) -> Iterator[Finding]:
    """They can be read, and have the address that hosts call."""
    if subject.found_settings is None:
        yield fail(subject.settings_problem, f"edit {subject.home / CONFIG_NAME}, or the environment")
    elif not subject.settings.public_url and homes.is_initialised(subject.home):
        yield fail("public_url is not set, so no host can be registered", f"set it in {subject.home / CONFIG_NAME}")
    else:
        yield ok(f"hosts call {subject.settings.public_url or '(set at init)'}")


def directory(subject: Subject) -> Iterator[Finding]:
    """It exists, is initialised, and no restore is unfinished."""
    home = subject.home
    if not home.exists():
        yield fail(f"{home} does not exist", "cdxsync init   (or give another --home)")
        return
    if not home.is_dir():
        yield fail(f"{home} is not a directory", "give another --home")
        return
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        yield fail(f"this user has no access to {home}", "run this as the user that runs cdxsync serve")
        return
    if not homes.is_initialised(home):
        ring = home / homes.KEYRING_NAME
        if home_lock.exists(home):
            yield fail(f"{ring} is missing", "restore it from a backup, or: cdxsync db restore FILE --force")
        else:
            yield fail(f"{home} is not initialised", "cdxsync init")
        return
    try:
        home_lock.share(home)
    except Conflict as error:
        yield fail(error.message, "cdxsync db restore FILE --force")
        return
    yield ok(f"{home} exists and is initialised")


def files(subject: Subject) -> Iterator[Finding]:
    """The directory and its files with secrets, readable only by their owner."""
    home = shlex.quote(str(subject.home))
    mode = subject.home.stat().st_mode & 0o777
    if mode & 0o077:
        yield fail(f"{subject.home} is accessible to other users ({mode:04o})", f"chmod 700 {home}")
    secret = [path for path in _secret_files(subject) if path.exists()]
    open_ones = [path for path in secret if path.stat().st_mode & 0o077]
    owner = subject.home.stat().st_uid
    strange = [path for path in secret if path.stat().st_uid != owner]
    if open_ones:
        yield fail(f"other users can read {_listed(open_ones)}", f"chmod 600 {_quoted(open_ones)}")
    if strange:
        yield fail(
            f"{_listed(strange)} are not owned by the owner of the home",
            f"chown --reference={home} {_quoted(strange)}",
        )
    if not mode & 0o077 and not open_ones and not strange:
        yield ok(f"{len(secret)} files with secrets, readable only by their owner")


def _secret_files(subject: Subject) -> Iterable[Path]:
    home = subject.home
    yield from (home / CONFIG_NAME, home / homes.KEYRING_NAME, home / signing.NAME)
    url = ""
    if subject.found_settings is not None:
        url = subject.found_settings.database_url
        yield from filter(None, [subject.found_settings.tls_key])
    with contextlib.suppress(CdxsyncError):  # the check of the database reports that
        database = engine_of(url, home).path
        if database is not None:
            yield from sorted(database.parent.glob(f"{database.name}*"))
    yield from sorted((home / homes.PKI_NAME).rglob("*.key"))


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _quoted(paths: Iterable[Path]) -> str:
    return shlex.join(str(path) for path in paths)


def leftovers(subject: Subject) -> Iterator[Finding]:
    """No folders of interrupted backups or restores; they hold secrets."""
    before = (subject.at - LEFT_OVER).timestamp()
    candidates = [*subject.home.glob(".backup-*"), *subject.home.glob(".restore-*")]
    old = sorted(path for path in candidates if path.stat().st_mtime < before)
    if old:
        yield warn(
            f"{_listed(old)} are left from an interrupted backup or restore, and hold secrets", f"rm -r {_quoted(old)}"
        )
    else:
        yield ok("no backup or restore was interrupted")


def disk(subject: Subject) -> Iterator[Finding]:
    """There is free space."""
    usage = shutil.disk_usage(subject.home)
    text = f"{usage.free >> 20} MiB free of {usage.total >> 20} MiB"
    mend = "free some space, or set keep_log_days and keep_usage_days lower in config.toml"
    if usage.free < DISK_FAIL_BYTES:
        yield fail(text, mend)
    elif usage.free < DISK_WARN_BYTES:
        yield warn(text, mend)
    else:
        yield ok(text)


def clock_of_files(subject: Subject) -> Iterator[Finding]:
    """The clock is not behind the dates of files."""
    latest = subject.at + TOLERANCE
    dated = [
        (datetime.fromtimestamp(path.stat().st_mtime, UTC), path)
        for path in (*subject.home.glob("*"), *(subject.home / homes.PKI_NAME).glob("*.pem"))
        if path.is_file()
    ]
    ahead = sorted((moment, path) for moment, path in dated if moment > latest)
    if ahead:
        moment, path = ahead[-1]
        yield fail(
            f"the clock says {subject.at:%Y-%m-%d %H:%M} UTC, but {path.name} was written at {moment:%Y-%m-%d %H:%M}",
            "timedatectl set-ntp true",
        )
    else:
        yield ok(f"{subject.at:%Y-%m-%d %H:%M:%S} UTC, later than all files")
