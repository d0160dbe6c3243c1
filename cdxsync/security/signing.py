"""The keys with which a home signs what its hosts run: `cdx`, and the list of prompts (`docs/protocol.md 8.4`).

RSA with 3072 bits and the exponent 65537, as RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017): hosts verify with the standard
library of Python alone, where `pow` and a comparison do. The file:

    {"changed": 1764470000, "keys": {"<id>": {"created": "<stamp>", "modulus": "<hex>", "private": "<PEM>"}}}

All keys sign. `changed`, in seconds since 1970, rises with each change of the keys: hosts take no `cdx` with the keys
of before. The file is 0600 and replaced atomically. An id is the beginning of the SHA-256 of the modulus.
"""

import contextlib
import hashlib
import json
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from cdxsync.base.errors import CdxsyncError, Failed
from cdxsync.base.files import identity, write_private

HEADER = "X-Cdxsync-Signature"
"""Of an answer whose body is signed: `<id>:<hex>` for each key, with commas between."""
BITS = 3072
EXPONENT = 65537
_FORMAT = "cdxsync-signature-1"
_HEX_DIGITS = BITS // 4
_ID_DIGITS = 16
_LINE = re.compile(r"[!-~]{1,512}")
_MAX_KEPT = 1024
"""Signatures that are kept in memory."""
_log = logging.getLogger("cdxsync.security")


@dataclass(frozen=True)
class SigningKey:
    """A key: its modulus in hex, and all of it as PEM."""

    created: str
    modulus: str
    private: str = field(repr=False)

    @property
    def id(self) -> str:
        """The name of the key."""
        return hashlib.sha256(bytes.fromhex(self.modulus)).hexdigest()[:_ID_DIGITS]

    @classmethod
    def generated(cls) -> "SigningKey":
        """A new key. To find its primes takes about a third of a second."""
        key = rsa.generate_private_key(EXPONENT, BITS)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        modulus = f"{key.public_key().public_numbers().n:0{_HEX_DIGITS}x}"
        return cls(datetime.now(UTC).isoformat(timespec="seconds"), modulus, pem.decode())


@dataclass(frozen=True)
class Content:
    """The content of the file."""

    changed: int = 0
    keys: tuple[SigningKey, ...] = ()

    @property
    def ids(self) -> list[str]:
        """The names of the keys, the oldest first."""
        return [key.id for key in self.keys]

    @property
    def public(self) -> str:
        """What is baked into `cdx`: `changed`, and the moduli in hex; "" without keys."""
        return " ".join([str(self.changed), *(key.modulus for key in self.keys)]) if self.keys else ""

    def with_key(self, key: SigningKey) -> "Content":
        """A copy with a further key."""
        return Content(self._next_change(), (*self.keys, key))

    def without(self, key_id: str) -> "Content":
        """A copy without a key."""
        return Content(self._next_change(), tuple(key for key in self.keys if key.id != key_id))

    def joined(self, other: "Content") -> "Content":
        """The keys of both, as after a restore: whichever a host knows, it finds signed with."""
        more = tuple(key for key in other.keys if key.id not in self.ids)
        if not more and len(self.keys) == len(other.keys):
            return Content(max(self.changed, other.changed), self.keys)
        return Content(max(self._next_change(), other.changed + 1), (*self.keys, *more))

    def _next_change(self) -> int:
        return max(self.changed + 1, int(datetime.now(UTC).timestamp()))

    def encode(self) -> bytes:
        """The text of the file."""
        keys = {key.id: {"created": key.created, "modulus": key.modulus, "private": key.private} for key in self.keys}
        return json.dumps({"changed": self.changed, "keys": keys}, indent=2).encode() + b"\n"


def first() -> Content:
    """The keys of a new home: one."""
    return Content().with_key(SigningKey.generated())


def read(path: Path) -> Content | None:
    """The keys in a file, or None without one. Raises `Failed`."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failed(f"{path}: cannot be read: {error.strerror}", code="signing_keys_unusable") from None
    return decode(text, str(path))


def decode(text: bytes, name: str) -> Content:
    """The keys in a text. Raises `Failed`, with `name` and nothing of the text in its message."""
    try:
        found = json.loads(text)
        keys = tuple(SigningKey(item["created"], item["modulus"], item["private"]) for item in found["keys"].values())
        form = re.compile(f"[89a-f][0-9a-f]{{{_HEX_DIGITS - 1}}}")
        good = all(isinstance(key.private, str) and form.fullmatch(key.modulus) for key in keys)
        if good and keys and [key.id for key in keys] == list(found["keys"]):
            return Content(int(found["changed"]), keys)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise Failed(f"{name}: no signing keys. Restore it from a backup", code="signing_keys_unusable")


def write(path: Path, content: Content) -> None:
    """Replace the file. Raises `Failed`."""
    try:
        write_private(path, content.encode())
    except OSError as error:
        raise Failed(f"{path}: cannot be written: {error.strerror}", code="signing_keys_unusable") from None


def cdx_text(fqdn: str, version: str, sha256: str) -> bytes:
    """What is signed of a `cdx`: for which host it is, its version and its SHA-256."""
    return _text("cdx", fqdn, version, sha256)


def prompts_text(sequence: int, prompts: Iterable[tuple[str, str]]) -> bytes:
    """What is signed of a list of prompts, by name and SHA-256; `sequence` rises with each change of it."""
    listed = "".join(f"{sha256}  {filename}\n" for filename, sha256 in prompts)
    return _text("prompts", str(sequence), hashlib.sha256(listed.encode()).hexdigest())


def _text(*lines: str) -> bytes:
    if not all(_LINE.fullmatch(line) for line in lines):
        raise Failed("A name or version that is to be signed holds blanks or control characters")
    return "".join(f"{line}\n" for line in (_FORMAT, *lines)).encode()


def opened(key: SigningKey) -> rsa.RSAPrivateKey | None:
    """A key to sign with, or None when its secret half is damaged or of another key."""
    try:
        loaded = serialization.load_pem_private_key(key.private.encode(), None)
    except (ValueError, TypeError):
        return None
    if not isinstance(loaded, rsa.RSAPrivateKey) or f"{loaded.public_key().public_numbers().n:x}" != key.modulus:
        return None
    return loaded


def signature(key: rsa.RSAPrivateKey, text: bytes) -> str:
    """The signature of a text, in hex."""
    return key.sign(text, padding.PKCS1v15(), hashes.SHA256()).hex()


class SigningKeys:
    """The keys of a home, as its file has them now. Thread-safe. A file that cannot be read leaves the keys before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._content = Content()
        self._opened: dict[str, rsa.RSAPrivateKey] = {}
        self._signed: OrderedDict[tuple[str, bytes], str] = OrderedDict()

    def content(self) -> Content:
        """The keys; none where there is no file."""
        seen: tuple[int, ...] = ()
        with contextlib.suppress(OSError):
            seen = identity(self.path)
        with self._lock:
            if seen != self._seen:
                self._seen = seen
                try:
                    found = read(self.path)
                    if found is None and self._content.keys:
                        _log.error("%s is gone; what hosts run is signed with the keys before", self.path)
                    else:
                        self._content = found or Content()
                except CdxsyncError as error:
                    _log.error("%s; what hosts run is signed with the keys before", error.message)
            return self._content

    @property
    def public(self) -> str:
        """What is baked into `cdx`."""
        return self.content().public

    def sign(self, text: bytes) -> str:
        """The signatures of a text, in the form of `HEADER`; "" without keys. A damaged key signs nothing."""
        made = []
        for key in self.content().keys:
            try:
                made.append(f"{key.id}:{self._signature(key, text)}")
            except CdxsyncError as error:
                _log.error("%s", error.message)
        return ",".join(made)

    def _signature(self, key: SigningKey, text: bytes) -> str:
        name = (key.id, text)
        with self._lock:
            known = self._signed.get(name)
            if known is not None:
                self._signed.move_to_end(name)
                return known
        made = signature(self._open(key), text)
        with self._lock:
            self._signed[name] = made
            if len(self._signed) > _MAX_KEPT:
                self._signed.popitem(last=False)
        return made

    def _open(self, key: SigningKey) -> rsa.RSAPrivateKey:
        found = self._opened.get(key.id) or opened(key)
        if found is None:
            raise Failed(
                f"{self.path}: key {key.id} is damaged. Restore it from a backup", code="signing_keys_unusable"
            )
        self._opened[key.id] = found
        return found
