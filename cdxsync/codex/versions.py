"""Versions of Codex and of the wrapper: normalising, comparing, and the block in answers (`docs/protocol.md 7.1`)."""

import re
from datetime import timedelta
from typing import Any

from packaging.version import InvalidVersion, Version

from cdxsync.base import clock, texts
from cdxsync.codex.schemas import AvailableClient, Versions, VersionsCheck, VersionSource, WrapperMetadata
from cdxsync.store import named_values
from cdxsync.store.caches import GenerationCache
from cdxsync.store.database import write
from cdxsync.store.tables import Host
from cdxsync.wrapper import baking

JOB = "versions"
CACHE_SECONDS = 10800
UNKNOWN = "unknown"
MAX_LENGTH = 64
_REPORTED = "reported_client"
_AVAILABLE = "client_available"
_ETAG = "client_available_etag"
_PREFIX = re.compile(r"(?:codex-cli|codex|rust-)", re.IGNORECASE)
WRAPPER_URL = "/wrapper/download"


def normalise(text: str) -> str | None:
    """A version without its prefixes: `rust-v0.63.0`, `codex-cli 0.63.0` and `v0.63.0` are `0.63.0`.

    None when nothing is left (`docs/protocol.md 7.2`).
    """
    text = _PREFIX.sub("", text.strip(), count=1) if _PREFIX.match(text.strip()) else text.strip()
    return text.strip(" \t-").lstrip("vV") or None


def sort_key(text: str) -> tuple[int, Any]:
    """A key that orders versions component-wise; other texts come first."""
    try:
        return (1, Version(text))
    except InvalidVersion:
        return (0, text)


def reported(value: object) -> str:
    """A version as a client reports it, or `unknown` (`docs/protocol.md 7.2`)."""
    return texts.clean(value)[:MAX_LENGTH] or UNKNOWN if isinstance(value, str) else UNKNOWN


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


def release_of(body: object) -> str:
    """The version of GitHub's answer about a release (`docs/protocol.md 12.1`).

    `tag_name`, else `name`: the first that is a version. Raises ValueError when there is none, or when it is a draft
    or a pre-release, which never win.
    """
    if not isinstance(body, dict):
        raise ValueError("the answer is not a JSON object")
    if body.get("prerelease") is True or body.get("draft") is True:
        raise ValueError("the latest release is a draft or a pre-release")
    for name in ("tag_name", "name"):
        text = body.get(name)
        version = normalise(text) if isinstance(text, str) and len(text) <= MAX_LENGTH else None
        if version is None or sort_key(version)[0] == 0:
            continue
        if Version(version).is_prerelease:
            raise ValueError(f"the latest release, {version}, is a pre-release")
        return version
    raise ValueError("the answer names no version")


def etag() -> str | None:
    """What marks the answer that the known release was read from, to ask whether it has changed."""
    return named_values.get(_ETAG) if named_values.get(_AVAILABLE) is not None else None


def keep_release(version: str, etag: str | None) -> None:
    """Store the newest release as fetched now."""

    def work() -> None:
        named_values.put(_AVAILABLE, version)
        if etag is not None and len(etag) <= 191:
            named_values.put(_ETAG, etag)
        else:
            named_values.drop(_ETAG)

    write(work)


def keep_unchanged() -> None:
    """Record that the known release is still the newest."""

    def work() -> None:
        known = named_values.get(_AVAILABLE)
        if known is not None:
            named_values.put(_AVAILABLE, known)

    write(work)


def available(known: tuple[str, str] | None, *, fetched: bool = False) -> tuple[str | None, str | None, VersionSource]:
    """The newest release, when it was fetched, and where it comes from (`docs/protocol.md 7.1`), of what is `known`.

    `github` when this call has `fetched` it, `cache` for three hours, then `cache_stale`; `unknown` without any.
    """
    if known is None:
        return None, None, "unknown"
    version, checked_at = known
    if fetched:
        return version, checked_at, "github"
    fresh_since = clock.stamp(clock.now() - timedelta(seconds=CACHE_SECONDS))
    return version, checked_at, "cache" if checked_at >= fresh_since else "cache_stale"


def wrapper_metadata(sha256: str, size_bytes: int) -> WrapperMetadata:
    """What `GET /wrapper` says of a script, baked for a host or not (`docs/protocol.md 8.2`)."""
    return WrapperMetadata(
        version=baking.version(),
        sha256=sha256,
        size_bytes=size_bytes,
        updated_at=baking.template_updated_at(),
        url=WRAPPER_URL,
    )


_kept = GenerationCache(lambda: named_values.get_dated(_AVAILABLE, _REPORTED))


def current(wrapper_sha256: str, *, fetched: bool = False) -> Versions:
    """The versions that hosts should have (`docs/protocol.md 7.1`).

    `wrapper_sha256` is of the script baked for the calling host, or of the unbaked one. `fetched` says that the newest
    release was read from GitHub for this very call.
    """
    values = _kept.get()
    version, checked_at, source = available(values.get(_AVAILABLE), fetched=fetched)
    reported, _ = values.get(_REPORTED) or (None, None)
    return Versions(
        client_version=version,
        client_version_checked_at=checked_at,
        client_version_source=source,
        wrapper_version=baking.version(),
        wrapper_sha256=wrapper_sha256,
        wrapper_url=WRAPPER_URL,
        reported_client_version=reported,
    )


def check_report(*, fetched: bool, pending: bool, error: str | None) -> VersionsCheck:
    """What `POST /admin/versions/check` answers; `error` says why nothing new could be fetched."""
    shown = current(baking.template_sha256(), fetched=fetched)
    return VersionsCheck(
        available_client=AvailableClient(
            version=shown.client_version,
            updated_at=shown.client_version_checked_at,
            source=shown.client_version_source,
        ),
        versions=shown,
        error=error,
        pending=pending,
    )
