"""The file of a keyring: making it, adding and removing keys, and using its present content.

    {"active": "<id>", "keys": {"<id>": "<base64 of 32 bytes>"}, "created": {"<id>": "<stamp>"}, "resealing": false,
     "rows_have_macs": true}

`resealing` is true from adding a key until every value is sealed with it, `rows_have_macs` once every row that gives
rights has a MAC (`cdxsync.store.rights`). The file is 0600 and replaced atomically. A keyring from outside
(`cdxsync.store.keyring_external`) has the same format and is only read; `rows_have_macs` then stands beside the mark.
"""

import base64
import binascii
import contextlib
import json
import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cdxsync.base.errors import CdxsyncError, Conflict, Failed
from cdxsync.base.files import identity, write_private
from cdxsync.store.keyring_external import MARK, MARK_WITH_MACS, PLACES, ExternalKeyring
from cdxsync.store.sealing import Keyring, UnknownKey

KEY_BYTES = 32
_log = logging.getLogger("cdxsync.store")


class KeyringElsewhere(Failed):
    """The keyring comes from outside the home, and is missing."""

    default_code = "keyring_missing"


@dataclass(frozen=True)
class Content:
    """The content of a keyring file."""

    active: str
    keys: dict[str, bytes] = field(repr=False)
    created: dict[str, str] = field(default_factory=dict)
    resealing: bool = False
    rows_have_macs: bool = False

    def with_new_key(self) -> "Content":
        """A copy with a new random key, which is active."""
        key_id = secrets.token_hex(4)
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        keys = {**self.keys, key_id: AESGCM.generate_key(8 * KEY_BYTES)}
        return replace(self, active=key_id, keys=keys, created={**self.created, key_id: stamp})

    def without(self, key_id: str) -> "Content":
        """A copy without a key, which must not be the active one."""
        keys = {name: key for name, key in self.keys.items() if name != key_id}
        created = {name: stamp for name, stamp in self.created.items() if name != key_id}
        return replace(self, keys=keys, created=created)

    def encode(self) -> bytes:
        """The text of the file."""
        keys = {key_id: base64.b64encode(key).decode() for key_id, key in self.keys.items()}
        content: dict[str, object] = {
            "active": self.active,
            "keys": keys,
            "created": self.created,
            "resealing": self.resealing,
        }
        content["rows_have_macs"] = self.rows_have_macs
        return json.dumps(content, indent=2).encode() + b"\n"


def create(path: Path, *, rows_have_macs: bool = True) -> None:
    """Write a new keyring file with one random key."""
    write(path, Content(active="", keys={}, rows_have_macs=rows_have_macs).with_new_key())


def write(path: Path, content: Content) -> None:
    """Replace the file. Raises `Failed`."""
    try:
        write_private(path, content.encode())
    except OSError as error:
        raise Failed(f"{path}: the keyring cannot be written: {error.strerror}", code="keyring_unusable") from None


def mark(path: Path, *, rows_have_macs: bool = True) -> None:
    """Write the mark that the keys come from outside."""
    write_private(path, MARK_WITH_MACS if rows_have_macs else MARK)


def read(path: Path, external: ExternalKeyring | None = None) -> Content:
    """The keyring of a home with the keyring file `path`, and `external` when there is one.

    Raises `Failed` when it is missing or malformed, `KeyringElsewhere` when it comes from outside and `external` is
    None, and `Conflict` when there are two: they would differ after the next change of keys.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise Failed(
            f"{path}: the keyring is missing, and without it stored credentials cannot be read. Restore it from a"
            " backup",
            code="keyring_missing",
        ) from None
    except OSError as error:
        raise Failed(f"{path}: the keyring cannot be read: {error.strerror}", code="keyring_unusable") from None
    if text.strip() in (MARK.strip(), MARK_WITH_MACS.strip()):
        if external is None:
            raise KeyringElsewhere(
                f"{path} says that the keyring comes from outside, but none was given. Run this with {PLACES}"
            )
        content = decode(external.read(), external.name)
        return replace(content, rows_have_macs=content.rows_have_macs or text.strip() == MARK_WITH_MACS.strip())
    content = decode(text, str(path))
    if external is not None:
        raise Conflict(
            f"There are two keyrings: {path}, and {external.name}. Keep one. To keep the second, make sure that it has"
            f" key {', '.join(content.keys)}, then move {path} away",
            code="keyring_ambiguous",
        )
    return content


def decode(text: bytes, name: str) -> Content:
    """The keyring in `text`. Raises `Failed`, with `name` in its message."""
    try:
        content = json.loads(text)
        keys = {str(key_id): base64.b64decode(key, validate=True) for key_id, key in content["keys"].items()}
        if content["active"] not in keys:
            raise ValueError("the active key is not among the keys")
        if any(len(key) != KEY_BYTES for key in keys.values()):
            raise ValueError(f"a key does not have {KEY_BYTES} bytes")
        created = {str(key_id): str(stamp) for key_id, stamp in content.get("created", {}).items()}
        resealing, macs = (content.get(name) is True for name in ("resealing", "rows_have_macs"))
        return Content(content["active"], keys, created, resealing=resealing, rows_have_macs=macs)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failed(
            f"{name}: not a keyring: {_reason(error)}. Restore it from a backup", code="keyring_unusable"
        ) from None


def _reason(error: Exception) -> str:
    """Why a text is not a keyring, without anything of it: it may hold keys."""
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON (line {error.lineno})"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, binascii.Error):
        return "a key is not base64"
    if isinstance(error, ValueError):
        return str(error)
    return "the members active and keys are not as they must be"


class KeyringFile:
    """The keyring of a home, with the present content of its file, or of what comes from outside. Thread-safe.

    One that comes from outside and is missing seals and opens nothing; work that needs neither goes on.

    A value is sealed within the write transaction that stores it. So a key without values in the database is in use
    nowhere (`cdxsync.ops.keys.retire`).

    Servers that share a database have a keyring each. `sealing_key` returns the key that the fleet seals with, given
    the active one here; a server without that key must not seal with one that others lack or take for unused.
    """

    def __init__(
        self,
        path: Path,
        external: ExternalKeyring | None = None,
        sealing_key: Callable[[str], str] = lambda active: active,
    ) -> None:
        self.path = path
        self.external = external
        self._sealing_key = sealing_key
        self._lock = threading.Lock()
        self._stat = self._identity()
        self._ring: Keyring | None = None
        self._rows_have_macs = False
        self._absence = ""
        self._instead: Content | None = None
        try:
            self._ring = self._load()
        except KeyringElsewhere as error:
            self._absence = error.message

    @property
    def where(self) -> str:
        """Where the keys come from, for people."""
        return str(self.path) if self.external is None else self.external.name

    def content(self) -> Content:
        """The whole keyring. Raises `Failed` or `Conflict`."""
        return read(self.path, self.external)

    def seal(self, plaintext: bytes, context: str) -> str:
        """Seal with the fleet's key, within a write transaction.

        Raises `UnknownKey` when the fleet's key is not in the keyring.
        """
        ring, wanted = self._sealing()
        return ring.seal(plaintext, context, wanted)

    def has(self, key_id: str) -> bool:
        """Whether a key of this id is in it. Raises `KeyringElsewhere`."""
        return key_id in self._now().ids

    @contextlib.contextmanager
    def instead(self, content: Content) -> Iterator[None]:
        """Use other content within the block, which is write work: what the file is to have when that is committed."""
        self._instead = content
        try:
            yield
        finally:
            self._instead = None

    def requiring_macs(self) -> Keyring | None:
        """The keys, when every row that gives rights must have a MAC; None also where they are outside and missing."""
        try:
            ring = self._now()
        except KeyringElsewhere:
            return None
        return ring if self._rows_have_macs else None

    @property
    def rows_have_macs(self) -> bool:
        """Whether every row that gives rights must have a MAC. Raises `KeyringElsewhere`."""
        self._now()
        return self._rows_have_macs

    def require_macs(self, required: bool = True) -> None:
        """Note in the home that every row has a MAC from now on, or that some have none. Raises `Failed`."""
        if self.external is not None:
            mark(self.path, rows_have_macs=required)
        else:
            write(self.path, replace(self.content(), rows_have_macs=required))
        self._now(again=True)

    def mac(self, message: bytes, purpose: str, key_id: str | None = None) -> str:
        """Authenticate with the fleet's key, or the one of `key_id`, within a write transaction; see `Keyring.mac`.

        Raises as `seal` does.
        """
        if key_id is not None:
            ring, wanted = self._now(again=key_id not in self._now().ids), key_id
            if wanted not in ring.ids:
                raise UnknownKey(f"Key {wanted!r} is not in the keyring of this server ({self.where})")
            return ring.mac(message, purpose, wanted)
        ring, wanted = self._sealing()
        return ring.mac(message, purpose, wanted)

    def is_mac_of(self, message: bytes, mac: str, purpose: str) -> bool:
        """Whether `mac` is one of `message`. Raises `UnknownKey` when the keyring lacks its key."""
        try:
            return self._now().is_mac_of(message, mac, purpose)
        except UnknownKey:
            return self._now(again=True).is_mac_of(message, mac, purpose)

    def _sealing(self) -> tuple[Keyring, str]:
        """The keyring, and the fleet's key, which is in it."""
        ring = self._now()
        wanted = self._sealing_key(ring.active)
        if wanted not in ring.ids:
            ring = self._now(again=True)
        if wanted not in ring.ids:
            raise UnknownKey(
                f"The fleet seals with key {wanted!r}, which is not in the keyring of this server ({self.where}). All"
                " servers of one database need the same keyring: copy it from a server that has this key"
            )
        return ring, wanted

    def open(self, sealed: str, context: str) -> bytes:
        """What was sealed. Raises `Failed`."""
        try:
            return self._now().open(sealed, context)
        except UnknownKey:
            return self._now(again=True).open(sealed, context)

    def _now(self, *, again: bool = False) -> Keyring:
        if self._instead is not None:
            self._rows_have_macs = self._instead.rows_have_macs
            return Keyring(self._instead.active, self._instead.keys)
        with self._lock:
            try:
                present = self._identity()
                if again or present != self._stat:
                    # Asked for first: a change in between is seen the next time.
                    self._ring = self._load()
                    self._stat = present
            except CdxsyncError as error:
                _log.error("the keyring cannot be read; the previous one stays in use: %s", error.message)
            if self._ring is None:
                raise KeyringElsewhere(self._absence)
            return self._ring

    def _load(self) -> Keyring:
        content = self.content()
        self._rows_have_macs = content.rows_have_macs
        return Keyring(content.active, content.keys)

    def _identity(self) -> tuple[int, ...]:
        paths = [self.path] if self.external is None or self.external.path is None else [self.path, self.external.path]
        found: tuple[int, ...] = ()
        for path in paths:
            try:
                found += identity(path)
            except OSError:
                found += (0, 0, 0)
        return found
