"""Encryption at rest: AES-256-GCM under a keyring of named keys.

A sealed text is `cdx1:<key id>:<base64 of nonce and ciphertext>`. Each is bound to the place where it is kept (its
context), so that it opens nowhere else.
"""

import base64
import json
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cdxsync.errors import Failed
from cdxsync.files import write_private

_FORMAT = "cdx1"
_NONCE_BYTES = 12


class Keyring:
    """The keys of one server by id; the active one seals, all open."""

    def __init__(self, active: str, keys: dict[str, bytes]) -> None:
        self._active = active
        self._keys = {key_id: AESGCM(key) for key_id, key in keys.items()}

    def seal(self, plaintext: bytes, context: str) -> str:
        """Seal `plaintext` for the place `context`, for example `auth_payloads.body:7`."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._keys[self._active].encrypt(nonce, plaintext, context.encode())
        return f"{_FORMAT}:{self._active}:{base64.b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, context: str) -> bytes:
        """What was sealed. Raises `Failed` when its key is not in the ring, or it was altered or moved."""
        parts = sealed.split(":")
        if len(parts) != 3 or parts[0] != _FORMAT:
            raise Failed(f"{context}: not a sealed value")
        key = self._keys.get(parts[1])
        if key is None:
            raise Failed(f"{context}: sealed with key {parts[1]!r}, which is not in the keyring; restore that key")
        try:
            raw = base64.b64decode(parts[2], validate=True)
            return key.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError):
            raise Failed(f"{context}: cannot be opened with key {parts[1]!r}: altered, or a wrong key") from None


def create_keyring(path: Path) -> None:
    """Write a new keyring file with one random key, mode 0600."""
    key_id = secrets.token_hex(4)
    keys = {key_id: base64.b64encode(AESGCM.generate_key(256)).decode()}
    write_private(path, json.dumps({"active": key_id, "keys": keys}, indent=2).encode() + b"\n")


def load_keyring(path: Path) -> Keyring:
    """Read a keyring file. Raises `Failed` when it is missing or not one."""
    try:
        content = json.loads(path.read_bytes())
        keys = {str(key_id): base64.b64decode(key, validate=True) for key_id, key in content["keys"].items()}
        if content["active"] not in keys:
            raise ValueError("the active key is not among the keys")
        return Keyring(content["active"], keys)
    except FileNotFoundError:
        raise Failed(
            f"{path}: the keyring is missing; without it stored credentials cannot be read. Restore it"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failed(f"{path}: not a keyring: {type(error).__name__}") from None
