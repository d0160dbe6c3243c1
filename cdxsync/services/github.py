"""The newest release of Codex, from GitHub (`docs/protocol.md 12.1`)."""

from cdxsync.base.errors import ServiceError
from cdxsync.codex import versions
from cdxsync.jobs.schedule import Outcome
from cdxsync.services import client
from cdxsync.store.fleet import Fleet

REPOSITORY = "openai/codex"


def check(fleet: Fleet) -> Outcome:
    """Ask for the latest release; of a known one, only whether it has changed. Raises `ServiceError`."""
    url = f"{fleet.settings.github_api_url}/repos/{REPOSITORY}/releases/latest"
    headers = {"Accept": "application/vnd.github+json"}
    known = versions.etag()
    if known is not None:
        headers["If-None-Match"] = known
    answer = client.get(url, timeout=fleet.settings.outside_timeout, headers=headers)
    if answer.status == 304:
        versions.keep_unchanged()
        return Outcome("unchanged")
    try:
        release = versions.release_of(answer.json())
    except ValueError as error:
        raise ServiceError(f"{client.place(url)}: {error}", status=answer.status) from None
    versions.keep_release(release, answer.headers.get("ETag"))
    return Outcome(f"Codex {release}")
