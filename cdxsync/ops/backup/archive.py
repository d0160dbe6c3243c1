"""The file of a backup: a ZIP with a manifest that lists every member with size and SHA-256."""

import hashlib
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec

from cdxsync.base.errors import Failed

MANIFEST = "manifest.json"
DATABASE = "cdxsync.db"
KEYRING = "keyring.json"
SIGNING = "signing.json"
CONFIG = "config.toml"
PKI = "pki"
FORMAT = "cdxsync-backup-1"
_MEMBER = re.compile(r"cdxsync\.db|(?:keyring|signing)\.json|config\.toml|pki/(?:issued/)?[A-Za-z0-9][A-Za-z0-9._@-]*")
_MAX_MANIFEST_BYTES = 16 << 20
_BLOCK = 1 << 20
# All that `zipfile` raises for damaged archives and other files.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, ValueError, EOFError, RuntimeError, KeyError)


class Member(msgspec.Struct, forbid_unknown_fields=True):
    """A file in the backup."""

    sha256: str
    size: int


class Manifest(msgspec.Struct):
    """The manifest. `contents` is `full` or `database`; `schema` the migrations of its database."""

    format: str
    created_at: str
    program_version: str
    contents: str
    schema: list[str]
    key_ids: list[str]
    files: dict[str, Member]


def is_member(name: str) -> bool:
    """Whether a backup may hold a file with that name."""
    return _MEMBER.fullmatch(name) is not None


def measure(path: Path) -> Member:
    """Size and checksum of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return Member(sha256=digest.hexdigest(), size=file.tell())


def write(target: Path, manifest: Manifest, files: Mapping[str, Path]) -> None:
    """Write the archive of `files` by member name."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        archive.writestr(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        for name, path in files.items():
            archive.write(path, name)


def unusable(problem: str) -> Failed:
    """The error for a backup that cannot be restored."""
    return Failed(f"{problem}. Nothing was changed. Take another backup", code="backup_damaged")


def extract(source: BinaryIO, folder: Path) -> Manifest:
    """Unpack an archive into `folder` and verify it against its manifest. Raises `Failed`."""
    try:
        with zipfile.ZipFile(source) as archive:
            manifest = _read_manifest(archive)
            for name, member in manifest.files.items():
                _unpack(archive, name, member, folder / name)
            return manifest
    except _DAMAGE as error:
        raise unusable(f"Not a backup of cdxsync, or a damaged one: {error}") from None


def _read_manifest(archive: zipfile.ZipFile) -> Manifest:
    with archive.open(MANIFEST) as file:
        text = file.read(_MAX_MANIFEST_BYTES)
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise unusable(f"The backup's manifest cannot be read: {error}") from None
    if manifest.format != FORMAT:
        raise Failed(
            f"The backup has the format {manifest.format!r}, but this version reads {FORMAT!r}. Nothing was changed."
            f" Restore it with the cdxsync that made it ({manifest.program_version})",
            code="version_differs",
        )
    bad = [name for name in manifest.files if not is_member(name)]
    if bad or DATABASE not in manifest.files:
        raise unusable(
            f"The backup's manifest has the unexpected file {bad[0]!r}" if bad else "The backup has no database"
        )
    return manifest


def _unpack(archive: zipfile.ZipFile, name: str, member: Member, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    size = 0
    target.touch(mode=0o600)
    with archive.open(name) as packed, target.open("wb") as file:
        # Never more than the size in the manifest, whatever the archive unpacks to.
        while size <= member.size and (block := packed.read(_BLOCK)):
            size += len(block)
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    if size != member.size or digest.hexdigest() != member.sha256:
        raise unusable(f"{name} does not match its checksum: the backup is damaged")
