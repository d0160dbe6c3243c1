"""The provider's answers to refreshes, on their way into the database: a folder in the home for each call.

The call is made by a process of its own (`services/token_call.py`), which a server that is killed leaves behind. It
puts the answer, sealed with a key of this one call, into the folder before it ends, and holds the folder's lock until
then. Whoever stores the answer deletes the folder; so what lies there without a lock is from a server that was killed.
"""

import base64
import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cdxsync.base.errors import CdxsyncError, Failed
from cdxsync.base.files import lock_folder, write_private
from cdxsync.store.sealing import Keyring, key_id_of

if TYPE_CHECKING:  # the process of a call starts faster without a database
    from cdxsync.store.fleet import Fleet

FOLDER = "refresh"
_NOTE = "call.json"
_ANSWER = "answer"
_KEY_ID = "call"
_UNBORN = "."
"""Folders are made under a name with this, and renamed when their lock is held."""
_UNBORN_SECONDS = 60.0


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder says of its call, written before the call begins."""

    intent: int
    spent: str
    """The SHA-256 of the refresh token (`login.fingerprint`)."""
    key: str
    """The key of the answer, sealed with the fleet's."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call: an answer, or a `problem` in words that hold no secret."""

    status: int | None = None
    headers: dict[str, str] = {}
    body: bytes = b""
    problem: str = ""
    sent: bool = True
    """False when the request cannot have reached the provider."""


class Missing(Failed):
    """A call has left no answer: its process was killed, or never started."""


class Call:
    """A call's folder, whose lock this process holds."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.lock = lock

    @property
    def answer_file(self) -> Path:
        """Where the process of the call puts the answer."""
        return self.path / _ANSWER

    def begin(self, note: Note) -> None:
        """Write down what the call is about."""
        write_private(self.path / _NOTE, msgspec.json.encode(note))

    def note(self) -> Note | None:
        """What the call is about; None when it was not begun."""
        try:
            return msgspec.json.decode((self.path / _NOTE).read_bytes(), type=Note)
        except (OSError, msgspec.DecodeError):
            return None

    def answer(self, fleet: "Fleet", note: Note) -> Given:
        """What came of it. Raises `Missing`, or `UnknownKey` when the fleet's key is not here now."""
        try:
            sealed = self.answer_file.read_text(encoding="ascii")
        except OSError:
            raise Missing("the call was cut off before it had an answer") from None
        key = base64.b64decode(fleet.keyring.open(note.key, _key_context(note.intent)))
        try:
            plain = Keyring(_KEY_ID, {_KEY_ID: key}).open(sealed, context_of(note.intent))
            return msgspec.json.decode(plain, type=Given)
        except (CdxsyncError, msgspec.DecodeError):
            raise Missing("the answer to the call was altered") from None

    def is_of(self, owner: str) -> bool:
        """Whether it is the folder of this holder of a lease."""
        return self.path.name == _name_of(owner)

    def drop(self) -> None:
        """Delete the folder: what came of the call is stored, or nothing came."""
        shutil.rmtree(self.path, ignore_errors=True)


def new_key() -> bytes:
    """A key for the answer to one call."""
    return AESGCM.generate_key(256)


def seal_key(fleet: "Fleet", key: bytes, intent_id: int) -> str:
    """The key of an answer as its folder has it, within a write transaction."""
    return fleet.keyring.seal(base64.b64encode(key), _key_context(intent_id))


def seal(given: Given, key: bytes, intent_id: int) -> bytes:
    """An answer as its folder has it."""
    return Keyring(_KEY_ID, {_KEY_ID: key}).seal(msgspec.json.encode(given), context_of(intent_id)).encode()


def context_of(intent_id: int) -> str:
    """The place of an answer, for sealing."""
    return f"refresh_answer:{intent_id}"


def _key_context(intent_id: int) -> str:
    return f"refresh_answer.key:{intent_id}"


def _name_of(owner: str) -> str:
    return hashlib.sha256(owner.encode()).hexdigest()[:32]


@contextlib.contextmanager
def folder_for(home: Path, owner: str) -> Iterator[Call]:
    """A locked folder for the one call of a lease's holder. It stays until `Call.drop`; the lock ends with the block,
    and with the process of the call."""
    folder = home / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    unborn = folder / f"{_UNBORN}{secrets.token_hex(16)}"
    unborn.mkdir(mode=0o700)
    lock = lock_folder(unborn)
    if lock is None:
        raise Failed(f"{unborn}: another process has locked it; end that process first")
    try:
        yield Call(unborn.rename(folder / _name_of(owner)), lock)
    finally:
        os.close(lock)


def leftovers(home: Path) -> Iterator[Call | None]:
    """The folders of this home, each locked meanwhile; None for one whose call is still under way, or being stored."""
    folder = home / FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        lock = lock_folder(path)
        if lock is None:
            if path.is_dir() and not path.name.startswith(_UNBORN):
                yield None
            continue
        try:
            if path.name.startswith(_UNBORN):
                if time.time() - os.fstat(lock).st_mtime > _UNBORN_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)
            else:
                yield Call(path, lock)
        finally:
            os.close(lock)


def keys_in_use(home: Path) -> set[str]:
    """The ids of the fleet's keys that answers in this home wait to be opened with."""
    folder = home / FOLDER
    notes = [Call(path, -1).note() for path in (folder.iterdir() if folder.is_dir() else [])]
    return {key_id_of(note.key) for note in notes if note is not None}
