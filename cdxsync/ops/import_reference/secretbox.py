"""Opening values that the reference implementation encrypted (`docs/protocol.md 17.2`).

`sbox:v1:` and base64 of a nonce (24 bytes) and libsodium's secretbox (XSalsa20-Poly1305). Without that prefix a value
is plain text.
"""

import base64
import re

from cdxsync.base.errors import Failed, Unavailable

PREFIX = "sbox:v1:"
KEY_BYTES = 32
_VARIABLE = re.compile(r"^[ \t]*(?:export[ \t]+)?AUTH_ENCRYPTION_KEY[ \t]*=(.*)$", re.MULTILINE)


class CannotOpen(Exception):
    """A value that the key does not open."""


def read_key(text: str, name: str) -> bytes:
    """The key in a file: the value of AUTH_ENCRYPTION_KEY, or a `.env` with that variable. Raises `Failed`."""
    found: list[str] = _VARIABLE.findall(text)
    value = (found[-1] if found else text).strip().strip("\"'")
    try:
        key = base64.b64decode(value, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise Failed(
            f"{name}: has no AUTH_ENCRYPTION_KEY: base64 of exactly {KEY_BYTES} bytes", code="encryption_key_unusable"
        )
    return key


class SecretBox:
    """Opens values with the key, if there is one."""

    def __init__(self, key: bytes | None) -> None:
        self.opened = 0
        self._box = None
        if key is not None:
            try:
                from nacl.secret import SecretBox as Box
            except ImportError:
                raise Unavailable(
                    "Encrypted values need PyNaCl, which is not installed. Run: pip install 'cdxsync[reference]'",
                    code="driver_missing",
                ) from None
            self._box = Box(key)

    def open(self, value: str) -> str:
        """The plain text of a stored value. Raises `Failed` when a key is needed and there is none, `CannotOpen`."""
        if not value.startswith(PREFIX):
            return value
        if self._box is None:
            raise Failed(
                "The dump has encrypted values. Add --encryption-key-file FILE, with the AUTH_ENCRYPTION_KEY of the"
                " old server's .env",
                code="encryption_key_unusable",
            )
        from nacl.exceptions import CryptoError

        try:
            plain = self._box.decrypt(base64.b64decode(value[len(PREFIX) :], validate=True)).decode()
        except (CryptoError, ValueError):
            raise CannotOpen from None
        self.opened += 1
        return plain
