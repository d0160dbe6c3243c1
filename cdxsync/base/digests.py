"""Digests as they go over the wire: 64 hex digits of a SHA-256."""

import re

DIGEST = re.compile(r"[0-9a-f]{64}")


def read_digest(value: object) -> str:
    """A digest as sent, trimmed and lower-cased. Raises ValueError with the text for the field."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("is required: 64 hex digits (SHA-256 of the compact document)")
    digest = value.strip().lower()
    if not DIGEST.fullmatch(digest):
        raise ValueError("must be 64 hex digits (SHA-256)")
    return digest
