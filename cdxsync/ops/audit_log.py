"""The audit log as a whole: whether it is as it was written, and accepting it as it is."""

from cdxsync.store import audit, audit_chain, audit_check
from cdxsync.store.database import snapshot, write
from cdxsync.store.fleet import Fleet
from cdxsync.store.schemas import LogsVerified


def verify(fleet: Fleet, newest: int | None = None) -> LogsVerified:
    """Check all rows, or only about the `newest` ones, in one state of the database; changes nothing."""
    known = audit_chain.witnessed(fleet.database)  # before the state that is read
    with snapshot():
        return audit_check.verify(fleet.keyring, known, newest=newest)


def accept(fleet: Fleet, *, actor: str) -> LogsVerified:
    """Let the chain begin at its present end, with an audit row about what was found; returns what is found then."""
    found = verify(fleet)

    def work() -> None:
        audit_chain.begin_anew()
        first = found.problems[0].problem if found.problems else None
        problems = len(found.problems) + found.more
        audit.record("admin.logs.accept", actor=actor, checked=found.checked, problems=problems, first=first)

    write(work)
    return verify(fleet)
