"""The audit log, and where it is sent."""

from collections.abc import Iterator

from cdxsync.background import audit_sending, audit_sinks
from cdxsync.ops import audit_log
from cdxsync.ops.doctor.model import Finding, Subject, fail, ok, warn
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


def sinks(subject: Subject) -> Iterator[Finding]:
    """The file and the syslog that get audit rows have them."""
    sinks = audit_sinks.of(subject.settings)
    if not sinks:
        yield ok("none is set")
    for sink in sinks:
        state = audit_sending.state_of(subject.home).get(sink.name)
        if state is None:
            yield warn(f"{sink.name}: no audit row was sent yet", "start the server, or look at its log")
        elif state["error"] is not None:
            count = audit_sending.waiting(subject.home, sink.name)
            yield fail(
                f"{sink.name}: {count} audit rows wait since {state['since']}: {state['error']}",
                "remove the cause: they are sent then, while keep_log_days keeps them",
            )
        else:
            yield ok(f"{sink.name} has all audit rows")
