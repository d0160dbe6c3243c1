"""Silent hosts, and installers that were not run."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from cdxsync.base import clock
from cdxsync.hosts.registry import ACTIVE
from cdxsync.ops.doctor.model import Finding, Subject, ok, warn
from cdxsync.store.tables import Host, InstallToken

SHOWN = 5


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def silent(subject: Subject) -> Iterator[Finding]:
    """Every active host called lately; one with a valid installer may still be silent."""
    active = list(Host.select().where(Host.status == ACTIVE).order_by(Host.fqdn))
    if not active:
        yield warn("no host is active", "cdxsync hosts register NAME")
        return
    now = clock.stamp(subject.at)
    waiting = InstallToken.select(InstallToken.host).where(
        InstallToken.used_at.is_null() & (InstallToken.expires_at > now)
    )
    expected = {row.host_id for row in waiting}
    limit = clock.stamp(subject.at - timedelta(days=subject.silent_days))
    never = [host.fqdn for host in active if host.last_seen_at is None and host.id not in expected]
    quiet = [host.fqdn for host in active if host.last_seen_at is not None and host.last_seen_at < limit]
    if never:
        yield warn(
            f"never called: {_listed(never)}",
            f"cdxsync hosts register {never[0]}   then run the printed command on the host",
        )
    if quiet:
        yield warn(
            f"silent for {subject.silent_days} days: {_listed(quiet)}",
            f"run cdx on it; if the host is gone: cdxsync hosts delete {quiet[0]}",
        )
    if not never and not quiet:
        yield ok(f"{len(active)} active hosts, none silent for {subject.silent_days} days")


def expired_installers(subject: Subject) -> Iterator[Finding]:
    """Every installer was run in time."""
    expired = InstallToken.used_at.is_null() & (InstallToken.expires_at <= clock.stamp(subject.at))
    rows = InstallToken.select(InstallToken.fqdn).where(expired).order_by(InstallToken.fqdn)
    names = [str(row.fqdn) for row in rows]
    if names:
        yield warn(f"expired unused: {_listed(names)}", f"cdxsync hosts register {names[0]}")
    else:
        yield ok("none has expired unused")
