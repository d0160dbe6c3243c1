"""The audit log."""

from collections.abc import Iterator

from cdxsync.ops import audit_log
from cdxsync.ops.doctor.model import Finding, Subject, fail, ok
from cdxsync.ops.doctor.storage import fleet_of
from cdxsync.store import audit

NEWEST = 2000
"""How many rows are checked here; `logs verify` checks all."""


def rows(subject: Subject) -> Iterator[Finding]:
    """The newest rows are as they were written."""
    if not audit.has_chain():
        yield ok("it begins with the next start of the server")
        return
    found = audit_log.verify(fleet_of(subject), NEWEST)
    if found.ok:
        yield ok(f"the newest {found.checked} rows are as they were written")
    else:
        yield fail(found.problems[0].problem, "cdxsync logs verify   (and when you know why: --accept)")
