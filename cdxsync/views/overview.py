"""The fleet at a glance, as `GET /admin/overview` shows it (`docs/protocol.md 11.3`)."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec import structs
from peewee import Case, fn

from cdxsync.auth import canonical
from cdxsync.auth.documents import NO_DATE
from cdxsync.background import status
from cdxsync.base import clock
from cdxsync.codex import versions
from cdxsync.hosts import admission, api_state, registry
from cdxsync.store import audit
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Host
from cdxsync.usage import reports
from cdxsync.views.schemas import ClientCertificate, FleetStates, Overview
from cdxsync.wrapper import baking


def build(fleet: Fleet, mtls: ClientCertificate | None) -> Overview:
    """The whole overview, with what services outside said.

    The number of queries does not depend on the number of hosts or usage rows. `mtls` is the client certificate of
    the caller, None for a caller without one.
    """
    at = clock.now()
    document = canonical.pointed()
    last_refresh, mean_age = _refreshes(at)
    return Overview(
        mtls=mtls,
        totals=host_totals(document.digest if document else None),
        canonical=document,
        api_disabled=api_state.get().disabled,
        latest_log_at=audit.latest_at(),
        last_refresh=last_refresh,
        avg_refresh_age_days=mean_age,
        versions=versions.current(baking.template_sha256()),
        tokens=reports.fleet_totals(),
        tokens_month=reports.fleet_month_totals(at),
        **structs.asdict(status.report(fleet)),
    )


def host_totals(digest: str | None) -> FleetStates:
    """How many hosts there are, and in which state.

    Each is counted once: `disabled`; or `blocked`, when its newest call was refused for its address; or `never_seen`;
    or `in_sync` with the canonical document; or `behind`.
    """
    active = Host.status == registry.ACTIVE
    passing = active & ~admission.blocked()
    seen = passing & Host.last_seen_at.is_null(False)
    same = seen & (Host.auth_digest == (digest or ""))

    def count(condition: Any) -> Any:
        return fn.COALESCE(fn.SUM(Case(None, [(condition, 1)], 0)), 0)

    query = Host.select(fn.COUNT(Host.id), count(active), count(passing), count(seen), count(same))
    row: tuple[Any, ...] = query.tuples().get()  # type: ignore[assignment]
    total, enabled, unblocked, called, in_sync = (int(value) for value in row)
    return FleetStates(
        hosts=total,
        disabled=total - enabled,
        blocked=enabled - unblocked,
        never_seen=unblocked - called,
        in_sync=in_sync,
        behind=called - in_sync,
    )


def _refreshes(at: datetime) -> tuple[str | None, float | None]:
    """The newest `last_refresh` over the hosts, and their mean age in days.

    Those that claim no document are left out. Hosts share few documents, so the distinct dates are few however many
    hosts there are.
    """
    query = Host.select(Host.last_refresh, fn.COUNT(Host.id)).where(Host.last_refresh.is_null(False))
    groups: Iterable[Any] = query.group_by(Host.last_refresh).tuples()
    found = [(_instant(text), text, int(count)) for text, count in groups]
    no_date = _instant(NO_DATE)
    dated = [(instant, text, count) for instant, text, count in found if instant is not None and instant != no_date]
    if not dated:
        return None, None
    now = clock.Instant.of(at).microseconds
    age = sum((now - instant.microseconds) * count for instant, _, count in dated) / sum(count for *_, count in dated)
    return max(dated)[1], round(max(0.0, age / 86_400_000_000), 3)


def _instant(text: str) -> clock.Instant | None:
    """The instant of a host's date; None of one that was written past cdxsync."""
    try:
        return clock.parse_rfc3339(text)
    except ValueError:
        return None
