"""Encryption at rest: AES-256-GCM under a keyring of named keys; and MACs under keys that are derived from them.

A sealed text is `cdx1:<key id>:<base64 of nonce and ciphertext>`. Each is bound to the place where it is stored (its
context, see `cdxsync.store.sealed_values`), so that it opens nowhere else.

A MAC is `<key id>:<64 hex digits>`: HMAC-SHA256 under a key that HKDF-SHA256 derives from that key for one purpose.
"""

import base64
import hashlib
import hmac
import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cdxsync.base.errors import Failed, Unavailable

_FORMAT = "cdx1"
_NONCE_BYTES = 12


class UnknownKey(Unavailable, Failed):
    """Sealed, or to be sealed, with a key that the keyring here lacks; another server may have it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="keyring_key_missing")


def key_id_of(sealed: str) -> str:
    """The id of the key under which a text, or the start of one, was sealed; "" for other texts."""
    parts = sealed.split(":", 2)
    return parts[1] if len(parts) == 3 and parts[0] == _FORMAT else ""


def prefix_of(key_id: str) -> str:
    """The beginning of every text sealed under a key."""
    return f"{_FORMAT}:{key_id}:"


class Keyring:
    """Keys by id; the active one seals, all open."""

    def __init__(self, active: str, keys: Mapping[str, bytes]) -> None:
        self.active = active
        self.ids = frozenset(keys)
        self._keys = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._secrets = dict(keys)
        self._derived: dict[tuple[str, str], bytes] = {}
        """By purpose and key."""

    def mac(self, message: bytes, purpose: str, key_id: str | None = None) -> str:
        """The MAC of `message` for `purpose`, for example `logs`, under `key_id` if given, else the active key."""
        name = key_id or self.active
        return f"{name}:{self._digest(message, purpose, name)}"

    def is_mac_of(self, message: bytes, mac: str, purpose: str) -> bool:
        """Whether `mac` is one of `message` for `purpose`. Raises `UnknownKey` when the ring lacks its key."""
        name, _, digest = mac.rpartition(":")
        if name not in self._secrets:
            raise UnknownKey(
                f"{purpose}: authenticated with key {name!r}, which is not in the keyring. Restore that key from a"
                " backup"
            )
        return hmac.compare_digest(digest.encode(), self._digest(message, purpose, name).encode())

    def _digest(self, message: bytes, purpose: str, name: str) -> str:
        key = self._derived.get((purpose, name))
        if key is None:
            derive = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=f"cdxsync mac {purpose}".encode())
            key = self._derived[purpose, name] = derive.derive(self._secrets[name])
        return hmac.digest(key, message, hashlib.sha256).hex()

    def seal(self, plaintext: bytes, context: str, key_id: str | None = None) -> str:
        """Seal `plaintext` for the place `context`, for example `auth_payloads.body:7`, under `key_id` if given."""
        name = key_id or self.active
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._keys[name].encrypt(nonce, plaintext, context.encode())
        return f"{prefix_of(name)}{base64.b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, context: str) -> bytes:
        """The plain text of a sealed one. Raises `Failed` when the ring lacks its key, or it was altered or moved."""
        parts = sealed.split(":")
        if len(parts) != 3 or parts[0] != _FORMAT:
            raise Failed(
                f"{context}: not a sealed value. Restore the database from a backup", code="sealed_value_unusable"
            )
        key = self._keys.get(parts[1])
        if key is None:
            raise UnknownKey(
                f"{context}: sealed with key {parts[1]!r}, which is not in the keyring. Restore that key from a backup"
            )
        try:
            raw = base64.b64decode(parts[2], validate=True)
            return key.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError):
            raise Failed(
                f"{context}: cannot be opened with key {parts[1]!r}: altered, or the key is wrong. Restore database and"
                " keyring from one backup",
                code="sealed_value_unusable",
            ) from None
