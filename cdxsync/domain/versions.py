"""Versions of Codex and of the wrapper: normalising, comparing, and the block in answers (`contract.md` 1.7)."""

import re
from typing import Any

from packaging.version import InvalidVersion, Version

from cdxsync.domain import wrapper
from cdxsync.store import named_values
from cdxsync.store.tables import Host

UNKNOWN = "unknown"
MAX_LENGTH = 64
_REPORTED = "reported_client"
_CACHED = "client_available"
_PREFIX = re.compile(r"(?:codex-cli|codex|rust-)", re.IGNORECASE)
WRAPPER_URL = "/wrapper/download"


def normalise(text: str) -> str | None:
    """A version without its prefixes: `rust-v0.63.0`, `codex-cli 0.63.0` and `v0.63.0` are `0.63.0` (1.8).

    None when nothing is left.
    """
    text = _PREFIX.sub("", text.strip(), count=1) if _PREFIX.match(text.strip()) else text.strip()
    return text.strip(" \t-").lstrip("vV") or None


def sort_key(text: str) -> tuple[int, Any]:
    """A key that orders versions component-wise; texts that are no versions come before all others."""
    try:
        return (1, Version(text))
    except InvalidVersion:
        return (0, text)


def reported(value: object) -> str:
    """A version as a client reports it, or `unknown` (1.8)."""
    return value.strip()[:MAX_LENGTH] if isinstance(value, str) and value.strip() else UNKNOWN


def note_reported(before: str | None, after: str | None) -> None:
    """Keep the highest Codex version over all hosts, when a host's changes from `before` to `after` (None: no host).

    Within the caller's write transaction and after the host's row was changed, so that no request has to look at
    all hosts.
    """
    if before == after:
        return
    highest = named_values.get(_REPORTED)
    if after not in (None, UNKNOWN) and (highest is None or sort_key(str(after)) >= sort_key(highest)):
        named_values.put(_REPORTED, str(after))
    elif before is not None and before == highest:
        rows = Host.select(Host.client_version).where(Host.client_version.not_in([UNKNOWN])).distinct()
        left = [str(row.client_version) for row in rows if row.client_version]
        if left:
            named_values.put(_REPORTED, max(left, key=sort_key))
        else:
            named_values.drop(_REPORTED)


def wrapper_metadata(sha256: str, size_bytes: int) -> dict[str, Any]:
    """What `GET /wrapper` says of a script, baked for a host or not (`contract.md` 5)."""
    return {
        "version": wrapper.version(),
        "sha256": sha256,
        "size_bytes": size_bytes,
        "updated_at": wrapper.template_updated_at(),
        "url": WRAPPER_URL,
    }


def block(wrapper_sha256: str) -> dict[str, Any]:
    """The `versions` block; `wrapper_sha256` is of the script baked for the calling host, or of the unbaked one."""
    return {
        "client_version": None,
        "client_version_checked_at": None,
        "client_version_source": UNKNOWN,
        "wrapper_version": wrapper.version(),
        "wrapper_sha256": wrapper_sha256,
        "wrapper_url": WRAPPER_URL,
        "reported_client_version": named_values.get(_REPORTED),
    }
