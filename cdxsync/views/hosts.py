"""What admins see of hosts (`docs/protocol.md 11.4`): the list, one host, and the credentials of one."""

from collections.abc import Iterable
from typing import Any

import msgspec
from peewee import JOIN

from cdxsync.auth import canonical, offers
from cdxsync.hosts import registry
from cdxsync.hosts.schemas import HostBrief
from cdxsync.store import audit
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Host, HostAuthDigest, HostGrant, TokenUsage
from cdxsync.usage.schemas import LatestUsage
from cdxsync.views.schemas import HostCredentials, HostHolding, HostItem, HostList, HostShown


def list_all() -> HostList:
    """All hosts by FQDN, as `GET /admin/hosts` lists them.

    A constant number of queries, whatever the number of hosts.
    """
    return HostList(hosts=_items(None))


def show(host: Host) -> HostShown:
    """One host, as in the list. Raises `NotFound` when it was deleted meanwhile."""
    items = _items(host)
    if not items:
        registry.by_id(host.id)
    return HostShown(host=items[0], offer=offers.standing_of(host))


def _items(only: Host | None) -> list[HostItem]:
    query = (
        Host.select(Host, TokenUsage, HostGrant.holds, HostGrant.given_at)
        .join(TokenUsage, JOIN.LEFT_OUTER, on=(Host.latest_usage_id == TokenUsage.id), attr="latest_usage")
        .switch(Host)
        .join(HostGrant, JOIN.LEFT_OUTER, on=(HostGrant.host == Host.id), attr="given")
    )
    rows: Iterable[Any] = list((query if only is None else query.where(Host.id == only.id)).order_by(Host.fqdn))
    digests = _recent_digests(only)
    return [
        HostItem.listed(
            host,
            digests.get(host.id, []),
            _latest(getattr(host, "latest_usage", None)),
            _given(getattr(host, "given", None)),
        )
        for host in rows
    ]


def _given(row: HostGrant | None) -> tuple[str, str] | None:
    return None if row is None or row.holds is None else (row.holds, row.given_at)


def _latest(row: TokenUsage | None) -> LatestUsage | None:
    return None if row is None or row.id is None else LatestUsage.of(row)


def _recent_digests(only: Host | None) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    query = HostAuthDigest.select(HostAuthDigest.host_id, HostAuthDigest.digest)
    if only is not None:
        query = query.where(HostAuthDigest.host == only.id)
    rows: Iterable[Any] = query.order_by(HostAuthDigest.last_seen.desc(), HostAuthDigest.id.desc()).tuples()
    for host_id, digest in rows:
        found.setdefault(host_id, []).append(digest)
    return found


def credentials(fleet: Fleet, host: Host, *, include_body: bool, actor: str) -> HostCredentials:
    """The credentials of a host beside the fleet's, as `GET /admin/hosts/{id}/auth` shows them.

    `canonical_*` and `auth` are of the fleet's canonical document, which the host holds when `in_sync`; `host` says
    what it held when it last called. With `include_body` the document's secrets too, and an audit row with the reader.
    """

    def work() -> HostCredentials:
        shown = registry.by_id(host.id)
        _, document = canonical.current(fleet) or (None, None)
        digest = document.digest if document else None
        body: msgspec.Raw | msgspec.UnsetType | None = msgspec.UNSET
        if include_body:
            body = msgspec.Raw(document.body) if document else None
            audit.record("admin.auth.show", actor=actor, host=shown, digest=digest)
        return HostCredentials(
            host=HostHolding(
                **msgspec.structs.asdict(HostBrief.of(shown)),
                last_refresh=shown.last_refresh,
                auth_digest=shown.auth_digest,
                updated_at=shown.updated_at,
                client_version=shown.client_version,
                wrapper_version=shown.wrapper_version,
            ),
            canonical_last_refresh=document.last_refresh if document else None,
            canonical_digest=digest,
            in_sync=digest is not None and shown.auth_digest == digest,
            recent_digests=_recent_digests(shown).get(shown.id, []),
            api_calls=shown.api_calls,
            auth=body,
        )

    return write(work)
