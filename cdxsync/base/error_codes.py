"""One table: what each error means as an HTTP status and as an exit code.

Statuses follow `docs/decisions.md 9`; exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 database away.
"""

from typing import NamedTuple

from cdxsync.base import errors


class Codes(NamedTuple):
    """How an error leaves through each door."""

    http_status: int
    exit_code: int


_TABLE: dict[type[errors.CdxsyncError], Codes] = {
    errors.Failed: Codes(500, 1),
    errors.Malformed: Codes(400, 2),
    errors.Invalid: Codes(422, 2),
    errors.Unauthenticated: Codes(401, 4),
    errors.Refused: Codes(403, 4),
    errors.NotFound: Codes(404, 3),
    errors.Gone: Codes(410, 3),
    errors.Conflict: Codes(409, 4),
    errors.TooLarge: Codes(413, 2),
    errors.UnsupportedMedia: Codes(415, 2),
    errors.TooManyRequests: Codes(429, 4),
    errors.Unavailable: Codes(503, 1),
    errors.DatabaseAway: Codes(503, 5),
    errors.SettingError: Codes(500, 2),
}


def codes_for(error: errors.CdxsyncError) -> Codes:
    """Status and exit code of `error`; a class without a row of its own takes its nearest ancestor's."""
    for cls in type(error).__mro__:
        if cls in _TABLE:
            return _TABLE[cls]
    return Codes(500, 1)
