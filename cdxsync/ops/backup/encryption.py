"""Encrypting a file with a password: scrypt, and AES-256-GCM over chunks.

    magic, log2(N) of scrypt (1 byte), salt (16), nonce prefix (7)      the header; it is authenticated too
    chunks of 1 MiB, each with its tag (16)

A chunk's nonce is the prefix, its number (4 bytes, big-endian), and 1 for the last chunk, else 0: swapped, missing or
truncated chunks do not open (the STREAM construction of Hoang, Reyhanitabar, Rogaway, Vizár).
"""

import os
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from cdxsync.base.errors import Failed, Refused

MAGIC = b"cdxsync encrypted backup 1\n"
CHUNK_BYTES = 1 << 20
_LOG2_N = 16
_MAX_LOG2_N = 20
_SALT_BYTES, _PREFIX_BYTES, _TAG_BYTES = 16, 7, 16


def is_encrypted(source: BinaryIO) -> bool:
    """Whether an encrypted file begins at the position of `source`, which does not move."""
    position = source.tell()
    start = source.read(len(MAGIC))
    source.seek(position)
    return start == MAGIC


def _cipher(password: bytes, salt: bytes, log2_n: int) -> AESGCM:
    return AESGCM(Scrypt(salt=salt, length=32, n=1 << log2_n, r=8, p=1).derive(password))


def encrypt(source: BinaryIO, target: BinaryIO, password: bytes) -> None:
    """Write all of `source` to `target`, encrypted."""
    salt, prefix = os.urandom(_SALT_BYTES), os.urandom(_PREFIX_BYTES)
    header = MAGIC + bytes([_LOG2_N]) + salt + prefix
    cipher = _cipher(password, salt, _LOG2_N)
    target.write(header)
    number = 0
    chunk = source.read(CHUNK_BYTES)
    last = False
    while not last:
        following = source.read(CHUNK_BYTES)
        last = not following
        target.write(cipher.encrypt(_nonce(prefix, number, last), chunk, header))
        chunk = following
        number += 1


def decrypt(source: BinaryIO, target: BinaryIO, password: bytes) -> None:
    """Write the decrypted content to `target`. Raises `Refused` for a wrong password, `Failed` for a damaged file."""
    header = source.read(len(MAGIC) + 1 + _SALT_BYTES + _PREFIX_BYTES)
    log2_n, rest = header[len(MAGIC)] if len(header) > len(MAGIC) else 0, header[len(MAGIC) + 1 :]
    salt, prefix = rest[:_SALT_BYTES], rest[_SALT_BYTES:]
    if not 10 <= log2_n <= _MAX_LOG2_N or len(prefix) < _PREFIX_BYTES:
        raise Failed(
            "The encrypted backup is damaged: its header cannot be read. Nothing was changed. Take another backup",
            code="backup_damaged",
        )
    cipher = _cipher(password, salt, log2_n)
    number = 0
    chunk = source.read(CHUNK_BYTES + _TAG_BYTES)
    last = False
    while not last:
        following = source.read(CHUNK_BYTES + _TAG_BYTES)
        last = not following
        try:
            target.write(cipher.decrypt(_nonce(prefix, number, last), chunk, header))
        except (InvalidTag, ValueError):
            if number == 0:
                raise Refused(
                    "The password is wrong, or the encrypted backup is damaged. Nothing was changed. Give the password"
                    " that the backup was made with, or take another backup",
                    code="password_wrong",
                ) from None
            raise Failed(
                "The encrypted backup is damaged or truncated. Nothing was changed. Take another backup",
                code="backup_damaged",
            ) from None
        chunk = following
        number += 1


def _nonce(prefix: bytes, number: int, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([last])
