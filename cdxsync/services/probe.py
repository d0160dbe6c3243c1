"""Whether a service outside can be reached, with a request that does nothing there."""

from cdxsync.base.errors import ServiceError
from cdxsync.services import client

TIMEOUT_SECONDS = 10.0


def problem(url: str) -> str | None:
    """What keeps a service from being reached; None when it answers, whatever it says."""
    try:
        client.post_json(url, {}, timeout=TIMEOUT_SECONDS, headers={})
    except ServiceError as error:
        return None if error.status is not None else error.message
    return None
