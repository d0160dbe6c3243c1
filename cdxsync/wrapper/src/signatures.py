"""Signatures of the fleet's keys on what this host runs: cdx itself, and the list of prompts.

RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017): one block of bytes is right for a text, and it is compared as a whole, so
that there is nothing in it that could be read in two ways.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.baked import CODEX_SYNC_SIGNING_KEYS
from cdxsync.wrapper.src.errors import SyncError

if TYPE_CHECKING:
    from typing import Dict, Iterable, Tuple

    # When the keys were changed last, in seconds since 1970; the modulus of each by its name.
    Keys = Tuple[int, Dict[str, int]]

SIGNATURE_HEADER = "X-Cdxsync-Signature"
SIGNATURE_FORMAT = "cdxsync-signature-1"
KEY_BYTES = 384
EXPONENT = 65537
# What comes before the digest in a block: the name of SHA-256, with NULL for its parameters.
SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
DIGITS = dict.fromkeys(map(ord, "0123456789abcdef"))
# A server signs with a few keys; more are not looked at.
MOST_SIGNATURES = 16


class Unsigned(SyncError):
    """What came from the server is not signed by a key that this cdx knows, or is older than what is here."""


def keys_in(text: str) -> Keys:
    """The public keys in a text as it is baked: none in an empty one. Raises Unsigned for another text."""
    if not text:
        return 0, {}
    changed, *moduli = text.split(" ")
    good = all(is_number(modulus) and modulus[0] in "89abcdef" for modulus in moduli)
    if not moduli or not good or not changed.isdecimal() or not changed.isascii() or len(changed) > 12:
        raise Unsigned(
            "what CODEX_SYNC_SIGNING_KEYS says is no list of signing keys; if it is not set, install cdx again"
        )
    return int(changed), {hashlib.sha256(bytes.fromhex(each)).hexdigest()[:16]: int(each, 16) for each in moduli}


def is_number(text: str) -> bool:
    """Whether a text is a modulus or a signature in hex: all digits of it, in lower case."""
    return len(text) == 2 * KEY_BYTES and not text.translate(DIGITS)


def signing_keys() -> Keys:
    """The keys that this cdx was installed with, or those of another fleet, whose server the user has named as well.

    Without any it takes what is not signed.
    """
    return keys_in(os.environ.get("CODEX_SYNC_SIGNING_KEYS") or CODEX_SYNC_SIGNING_KEYS)


def keys_changed_in(program: bytes) -> int:
    """When the keys in another cdx were changed."""
    found = re.search(rb'^CODEX_SYNC_SIGNING_KEYS="([0-9a-f ]*)"$', program, re.MULTILINE)
    return keys_in(found.group(1).decode())[0] if found else 0


def has_signed(modulus: int, text: bytes, signature: bytes) -> bool:
    """Whether the key of this modulus has signed a text."""
    number = int.from_bytes(signature, "big")
    if len(signature) != KEY_BYTES or number >= modulus:
        return False
    end = b"\x00" + SHA256_INFO + hashlib.sha256(text).digest()
    block = b"\x00\x01" + b"\xff" * (KEY_BYTES - 2 - len(end)) + end
    return pow(number, EXPONENT, modulus).to_bytes(KEY_BYTES, "big") == block


def is_signed(text: bytes, signatures: object) -> bool:
    """Whether one of our keys has made one of these signatures: `<name>:<hex>`, with commas between."""
    keys = signing_keys()[1]
    for given in signatures.split(",", MOST_SIGNATURES)[:MOST_SIGNATURES] if isinstance(signatures, str) else ():
        name, _, digits = given.strip(" ").partition(":")
        if name in keys and is_number(digits) and has_signed(keys[name], text, bytes.fromhex(digits)):
            return True
    return False


def cdx_text(fqdn: str, version: str, sha256: str) -> bytes:
    """What is signed of a cdx."""
    return signed_text("cdx", fqdn, version, sha256)


def prompts_text(sequence: int, prompts: Iterable[tuple[str, str]]) -> bytes:
    """What is signed of a list of prompts, by name and SHA-256."""
    listed = "".join("%s  %s\n" % (sha, name) for name, sha in prompts)
    return signed_text("prompts", "%d" % sequence, hashlib.sha256(listed.encode("utf-8", "surrogatepass")).hexdigest())


def signed_text(*lines: str) -> bytes:
    """A text of lines, of which none can be taken for two."""
    if any(line.split() != [line] for line in lines):
        raise Unsigned("the server sent a name or version that cannot be signed")
    return "".join("%s\n" % line for line in (SIGNATURE_FORMAT, *lines)).encode("utf-8", "surrogatepass")
