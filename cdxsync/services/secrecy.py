"""Removes a document's secrets from what programs and services say about it."""

from collections.abc import Iterator
from typing import Any

MIN_LENGTH = 4
"""Shorter texts are too common to replace, and are no secrets."""


def redact(text: str, *documents: Any) -> str:
    """`text` with `…` in place of every token of the documents."""
    for secret in sorted({found for document in documents for found in _secrets(document)}, key=len, reverse=True):
        text = text.replace(secret, "…")
    return text


def _secrets(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, member in value.items():
            yield from _secrets(member, str(key))
    elif isinstance(value, list):
        for member in value:
            yield from _secrets(member, name)
    elif isinstance(value, str) and len(value) >= MIN_LENGTH and _is_secret(name):
        yield value
        if value.count(".") == 2:  # a JWT: its parts are secret too
            yield from (part for part in value.split(".") if len(part) >= MIN_LENGTH)


def _is_secret(name: str) -> bool:
    lowered = name.lower()
    return ("token" in lowered and lowered != "token_type") or "key" in lowered or "secret" in lowered
