"""What admins see of hosts (`docs/protocol.md 11.4`): the list, one host, and the credentials of one."""

from collections.abc import Iterable
from typing import Any

import msgspec
from peewee import JOIN

from cdxsync.auth import canonical
from cdxsync.hosts import admission, permits, registry
from cdxsync.store import audit
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Host, HostAuthDigest, TokenUsage
from cdxsync.usage import reports


def listing() -> dict[str, Any]:
    """`hosts`: all hosts by FQDN, as `GET /admin/hosts` lists them.

    A constant number of queries, whatever the number of hosts.
    """
    return {"hosts": _items(None)}


def one(host: Host) -> dict[str, Any]:
    """`host`: one host as it stands in the list."""
    items = _items(host)
    if not items:
        registry.by_id(host.id)  # deleted meanwhile: raises NotFound
    return {"host": items[0]}


def _items(only: Host | None) -> list[dict[str, Any]]:
    query = Host.select(Host, TokenUsage).join(
        TokenUsage, JOIN.LEFT_OUTER, on=(Host.latest_usage_id == TokenUsage.id), attr="latest_usage"
    )
    rows: Iterable[Any] = list((query if only is None else query.where(Host.id == only.id)).order_by(Host.fqdn))
    digests = _recent_digests(only)
    return [
        registry.summary(host)
        | {
            "id": host.id,
            "ip": host.ip,
            "canonical_digest": host.auth_digest,
            "recent_digests": digests.get(host.id, []),
            "authed": bool(host.auth_digest),
            "token_usage": _latest(getattr(host, "latest_usage", None)),
            "last_seen_at": host.last_seen_at,
            "blocked_at": admission.blocked_at(host),
            "created_at": host.created_at,
        }
        | permits.shown(host)
        for host in rows
    ]


def _latest(row: TokenUsage | None) -> dict[str, Any] | None:
    if row is None or row.id is None:
        return None
    return reports.counts(row) | {"created_at": row.created_at}


def _recent_digests(only: Host | None) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    query = HostAuthDigest.select(HostAuthDigest.host_id, HostAuthDigest.digest)
    if only is not None:
        query = query.where(HostAuthDigest.host == only.id)
    rows: Iterable[Any] = query.order_by(HostAuthDigest.last_seen.desc(), HostAuthDigest.id.desc()).tuples()
    for host_id, digest in rows:
        found.setdefault(host_id, []).append(digest)
    return found


def credentials(fleet: Fleet, host: Host, *, include_body: bool, actor: str) -> dict[str, Any]:
    """The credentials of a host beside the fleet's, as `GET /admin/hosts/{id}/auth` shows them.

    `canonical_*` and `auth` are of the fleet's canonical document, which the host holds when `in_sync`; `host` says
    what it held when it last called. With `include_body` the document's secrets too, and an audit row that says who
    has seen them.
    """

    def work() -> dict[str, Any]:
        shown = registry.by_id(host.id)
        _, document = canonical.current(fleet) or (None, None)
        data: dict[str, Any] = {
            "host": registry.brief(shown)
            | {
                name: getattr(shown, name)
                for name in ("last_refresh", "auth_digest", "updated_at", "client_version", "wrapper_version")
            },
            "canonical_last_refresh": document.last_refresh if document else None,
            "canonical_digest": document.digest if document else None,
            "in_sync": document is not None and shown.auth_digest == document.digest,
            "recent_digests": _recent_digests(shown).get(shown.id, []),
            "api_calls": shown.api_calls,
        }
        if include_body:
            data["auth"] = msgspec.Raw(document.body) if document else None
            audit.record("admin.auth.show", actor=actor, host=shown, digest=data["canonical_digest"])
        return data

    return write(work)
