"""API keys of hosts and tokens of installers: minting, and the form in which they are stored."""

import hashlib
import secrets
import uuid

PREFIX = "cdx_"
MAX_LENGTH = 256
"""Longer texts are not keys and are not hashed."""


def mint() -> str:
    """A new API key: `cdx_` and 64 hex digits (32 random bytes)."""
    return PREFIX + secrets.token_hex(32)


def mint_installer_token() -> str:
    """A new installer token: a random UUID, 36 characters (`docs/protocol.md 10.1`)."""
    return str(uuid.uuid4())


def fingerprint(secret: str) -> str:
    """The SHA-256 under which a key or token is stored and looked up.

    Both are 122 random bits or more, so a plain hash cannot be reversed, and the timing of a look-up leaks nothing of
    the secret. Keys of the reference implementation, 64 hex digits, are stored the same way.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def shortened(secret: str) -> str:
    """The first 8 characters, for the audit log (`docs/protocol.md 14`)."""
    return secret[:8] + "…"
