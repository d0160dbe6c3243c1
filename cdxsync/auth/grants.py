"""Grants: what a host gets instead of the canonical login's refresh token, which the server alone spends.

A grant is derived from the host's API key, so that the server can name the same one each time the host calls. The
database has its SHA-256, with that of the key: rotating the key ends the grant, whoever rotates it.
"""

import hashlib
import hmac
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from peewee import JOIN

from cdxsync.auth import documents, refresh
from cdxsync.auth.documents import AuthDocument
from cdxsync.base import clock
from cdxsync.base.errors import Unauthenticated
from cdxsync.security import apikeys
from cdxsync.store import rights
from cdxsync.store.queries import Prepared
from cdxsync.store.tables import Host, HostGrant

PREFIX = "cdxr_"
ACCEPTS = "grant"
"""What a host says in `accepts` when it can live with a grant."""
PLACEHOLDER = PREFIX + "0" * 64
"""Stands for a refresh token where a document is only used, as by the runner. It is nobody's grant."""
FIELD_PROBLEM = {
    "auth.tokens.refresh_token": ["is a grant of a server, and no login: store what codex login has written"]
}
_LABEL = b"cdxsync: refresh grant, 1"
MAX_VARIANTS = 2048
_variants: OrderedDict[tuple[int, str, str], AuthDocument] = OrderedDict()
_lock = threading.Lock()
_BY_GRANT = Prepared(
    lambda grant: HostGrant.select(*rights.columns_of(HostGrant)).where(HostGrant.grant_sha256 == grant)
)
_HOST = Prepared(lambda host: Host.select().where(Host.id == host))
_OF_HOST = Prepared(
    lambda host: HostGrant.select(
        HostGrant.grant_sha256, HostGrant.api_key_sha256, HostGrant.holds, HostGrant.payload_id
    ).where(HostGrant.host == host)
)


class Holds(StrEnum):
    """What a host was last given."""

    GRANT = "grant"
    LOGIN = "login"
    """The real refresh token."""


def derive(api_key: str) -> str:
    """The grant of the host with this key: `cdxr_` and 64 hex digits."""
    return PREFIX + hmac.new(api_key.encode(), _LABEL, hashlib.sha256).hexdigest()


def is_grant(value: object) -> bool:
    """Whether a token is a grant, of whatever host or server, and in whatever case it was written."""
    return isinstance(value, str) and value.strip().lower().startswith(PREFIX)


def in_document(content: Mapping[str, Any]) -> str | None:
    """The grant that a document has for its refresh token, or for any other token, where none belongs; or None."""
    tokens, entries = refresh.tokens_of(content), content.get("auths")
    found = [tokens.get("refresh_token"), tokens.get("access_token")]
    found += [content.get("OPENAI_API_KEY"), content.get("personal_access_token")]
    found += (
        [one.get("token") for one in entries.values() if isinstance(one, dict)] if isinstance(entries, dict) else []
    )
    return next((str(token).strip() for token in found if is_grant(token)), None)


def accepted(body: Mapping[str, Any]) -> bool:
    """Whether the body of a host's call says that the host can live with a grant."""
    named = body.get("accepts")
    return isinstance(named, list) and ACCEPTS in named


def applies_to(document: AuthDocument) -> bool:
    """Whether the document has a refresh token that a grant can stand for."""
    return refresh.has_refresh_token(document.content)


def variant(payload_id: int, document: AuthDocument, grant: str) -> AuthDocument:
    """The document of a payload as the host with this grant gets it; the latest are kept in memory."""
    key = (payload_id, document.digest, grant)
    with _lock:
        kept = _variants.get(key)
        if kept is not None:
            _variants.move_to_end(key)
            return kept
    made = documents.with_refresh_token(document, grant)
    with _lock:
        _variants[key] = made
        if len(_variants) > MAX_VARIANTS:
            _variants.popitem(last=False)
    return made


def authenticate(grant: object) -> Host:
    """The host whose grant this is. Raises `Unauthenticated`."""
    if isinstance(grant, str) and is_grant(grant) and len(grant) <= apikeys.MAX_LENGTH:
        found = _BY_GRANT.row(grant=apikeys.fingerprint(grant))
        row = dict(zip(("host", *HostGrant.RIGHTS, "mac"), found, strict=True)) if found is not None else None
        host: Host | None = _HOST.model(host=row["host"]) if row is not None else None
        if (
            row is not None
            and host is not None
            and hmac.compare_digest(str(host.api_key_sha256), str(row["api_key_sha256"]))
            and rights.are_good(HostGrant, row)
            and rights.is_good(host)
        ):
            return host
    raise Unauthenticated(
        "This refresh token is no grant of a host of this fleet, or it has ended. Run cdx, which fetches another",
        code="grant_invalid",
    )


def given(host_id: int) -> int | None:
    """The id of the document that a host was given last, as far as it is known."""
    row = _OF_HOST.row(host=host_id)
    return None if row is None else row[3]


def renew(host: Host, api_key: str, at: datetime) -> None:
    """Make the grant of the host's present key good, whatever it was given; within a write transaction."""
    row = _OF_HOST.row(host=host.id)
    note(host, api_key, Holds.LOGIN if row is None else Holds(row[2]), None if row is None else row[3], at)


def note(host: Host, api_key: str | None, holds: Holds, payload_id: int | None, at: datetime) -> None:
    """Keep what a host was given, within the write transaction of its call.

    With `api_key` the host's grant is good from now on. A host without a row holds the real token, as all did once.
    """
    row = _OF_HOST.row(host=host.id)
    if row is None and api_key is None:
        return
    grant, key = (row[0], row[1]) if row is not None else ("", "")
    if api_key is not None:
        grant, key = apikeys.fingerprint(derive(api_key)), apikeys.fingerprint(api_key)
    if row is not None and tuple(row) == (grant, key, holds.value, payload_id):
        return
    changes = {
        "grant_sha256": grant,
        "api_key_sha256": key,
        "holds": holds.value,
        "payload_id": payload_id,
        "given_at": clock.stamp(at),
    }
    if row is None:
        rights.insert(HostGrant, host=host.id, **changes)
    else:
        if (grant, key) == (row[0], row[1]) and api_key is None:  # nothing that others wrote gets a MAC here
            changes = {name: value for name, value in changes.items() if name not in HostGrant.RIGHTS}
        rights.update(HostGrant, host.id, **changes)


def _rows(*columns: Any) -> Any:
    """Active hosts that hold something, each with its row where it has one."""
    joined = Host.select(*columns).join(HostGrant, JOIN.LEFT_OUTER, on=(HostGrant.host == Host.id))
    return joined.where((Host.status == "active") & (HostGrant.host.is_null(False) | Host.auth_digest.is_null(False)))


_HAS_LOGIN = HostGrant.host.is_null() | (HostGrant.holds == Holds.LOGIN.value)


def counts() -> dict[str, int]:
    """How many active hosts hold a grant, and how many the real login."""
    login = int(_rows(Host.id).where(_HAS_LOGIN).count())
    return {"grant": int(_rows(Host.id).count()) - login, "login": login}


def holders_of_login(limit: int) -> list[str]:
    """The names of the first active hosts that hold the real login."""
    return [host.fqdn for host in _rows(Host.fqdn).where(_HAS_LOGIN).order_by(Host.fqdn).limit(limit)]
