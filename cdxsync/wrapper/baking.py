"""The `cdx` client as it is baked for one host."""

import functools
import hashlib
import importlib.resources
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

import cdxsync
from cdxsync.base import clock
from cdxsync.base.names import check_values


@dataclass(frozen=True)
class Baked:
    """A wrapper for one host: its bytes, which hold the host's API key, and their SHA-256."""

    body: bytes = field(repr=False)
    sha256: str


def version() -> str:
    """The version of the wrapper that this server bakes."""
    return cdxsync.__version__


@functools.cache
def template() -> bytes:
    """The unbaked script."""
    return importlib.resources.files("cdxsync.wrapper").joinpath("cdx").read_bytes()


@functools.cache
def template_sha256() -> str:
    """The SHA-256 of the unbaked script."""
    return hashlib.sha256(template()).hexdigest()


@functools.cache
def modules() -> tuple[str, ...]:
    """The modules of Python that the script imports anywhere, but for those that it can do without, sorted."""
    # `src/join.py` has found them: to read so long a program takes a second, and may fail in several threads at once.
    return tuple(importlib.resources.files("cdxsync.wrapper").joinpath("modules.txt").read_text().split())


@functools.cache
def template_updated_at() -> str:
    """When the unbaked script was last changed."""
    with importlib.resources.as_file(importlib.resources.files("cdxsync.wrapper").joinpath("cdx")) as path:
        return clock.stamp(datetime.fromtimestamp(path.stat().st_mtime, UTC))


@functools.lru_cache(maxsize=4)
def _server_part(base_url: str, ca_pem: str, github_api_url: str, signing_keys: str) -> bytes:
    """The template with all that is the same for every host; no key is kept in a cache."""
    text = template()
    for name, value in (
        ("WRAPPER_VERSION", version()),
        ("CODEX_SYNC_BASE_URL", base_url),
        ("CODEX_SYNC_CA_PEM", ca_pem),
        ("GITHUB_API_URL", github_api_url),
        ("CODEX_SYNC_SIGNING_KEYS", signing_keys),
    ):
        text = _fill(text, name, value)
    return text


def _fill(text: bytes, name: str, value: str) -> bytes:
    # A JSON string of ASCII with no escape but \n is a Python string too, and can be read with grep.
    return text.replace(f'"__{name}__"'.encode(), json.dumps(value).encode())


def bake(base_url: str, api_key: str, fqdn: str, ca_pem: str, github_api_url: str, signing_keys: str = "") -> Baked:
    """The wrapper for a host: it calls `base_url` with `api_key`, trusting `ca_pem` alone unless that is empty.

    Releases of Codex are looked up at `github_api_url`. What it runs must be signed by one of the `signing_keys`
    (`SigningKeys.public`) unless there are none.
    """
    check_values(base_url, fqdn)
    body = _fill(_server_part(base_url, ca_pem, github_api_url, signing_keys), "CODEX_SYNC_API_KEY", api_key)
    body = _fill(body, "CODEX_SYNC_FQDN", fqdn)
    return Baked(body=body, sha256=hashlib.sha256(body).hexdigest())
