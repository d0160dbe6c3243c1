"""`POST /oauth/token`: what a host gets for its grant. Reading, deciding and noting are one transaction."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from msgspec import UNSET

from cdxsync.auth import canonical, grants, login, refresh
from cdxsync.auth.grants import Holds
from cdxsync.auth.login import Asked, Dead, Step
from cdxsync.auth.token_schemas import TokenAnswer
from cdxsync.base import clock
from cdxsync.base.errors import Unauthenticated, Unavailable
from cdxsync.hosts.admission import Caller
from cdxsync.jobs import lease, schedule
from cdxsync.store import audit
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Host

REFUSED = "unauthorized_recovery"
"""The `refresh_reason` of Codex when an API has refused its access token."""
MAX_REPEATS = 10
REPEAT_SECONDS = 60.0
_MAX_REMEMBERED = 20_000


@dataclass(frozen=True)
class Answer:
    """A step, with the document's id that it was taken for, and what to send where the step is `GIVE`."""

    step: Step
    payload_id: int
    tokens: TokenAnswer | None = None
    dead: Dead | None = None


class Repeats:
    """Counts how often a host was given the same token: one that takes none for fresh asks without end."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[int, int], tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def count(self, host_id: int, payload_id: int) -> None:
        """Count a token given. Raises `Unavailable` above `MAX_REPEATS` in a minute."""
        at, key = time.monotonic(), (host_id, payload_id)
        with self._lock:
            since, count = self._counts.pop(key, (at, 0))
            if at - since > REPEAT_SECONDS:
                since, count = at, 0
            self._counts[key] = (since, count + 1)
            if len(self._counts) > _MAX_REMEMBERED:
                self._counts.popitem(last=False)
        if count >= MAX_REPEATS:
            raise Unavailable(
                "This host has the newest access token, and asks for another one again and again; see its clock",
                code="grant_repeated",
            )


def answer(fleet: Fleet, caller: Caller, grant: str, reason: str, *, waited: bool) -> Answer:
    """What a host that asks gets now, within a write transaction. `waited` when a refresh was waited for already.

    Raises `RowChanged` as `Caller.row` does, `Unauthenticated` when the fleet has no access token.
    """
    host, at = caller.row(), clock.now()
    found = canonical.current(fleet)
    life = login.life_of(found[1]) if found is not None else None
    if found is None or life is None:
        raise Unauthenticated("The fleet has no login that has an access token; run cdx again", code="login_missing")
    payload_id, document = found
    dead = login.dead(document.content)
    asked = Asked(
        life=life,
        newer=grants.given(host.id) != payload_id,
        refused=reason == REFUSED,
        settled=waited or (login.is_settled(at) and not _is_refreshing(at)),
        dead=dead is not None,
        can_refresh=fleet.settings.server_refreshes and refresh.has_refresh_token(document.content) and not waited,
    )
    step = login.decide(asked, at)
    if step is not Step.GIVE:
        return Answer(step, payload_id, dead=dead)
    _note(host, payload_id, reason, at)
    tokens = refresh.tokens_of(document.content)
    id_token = tokens.get("id_token")
    given = TokenAnswer(
        access_token=str(tokens["access_token"]),
        id_token=id_token if isinstance(id_token, str) else UNSET,
        refresh_token=grant,
    )
    return Answer(step, payload_id, tokens=given)


def _is_refreshing(at: datetime) -> bool:
    """Whether a server is at it, or was when it was cut off: what comes of it is to be waited for."""
    row = lease.row_of(canonical.REFRESH_JOB)
    return row.owner is not None and schedule.is_ahead(row.lease_until, at, schedule.LONGEST_LEASE_SECONDS)


def _note(host: Host, payload_id: int, reason: str, at: datetime) -> None:
    stamp = clock.stamp(at)
    Host.update(api_calls=Host.api_calls + 1, last_seen_at=stamp, updated_at=stamp).where(Host.id == host.id).execute()
    grants.note(host, None, Holds.GRANT, payload_id, at)
    audit.record("oauth.token", actor=audit.host_actor(host), host=host, payload=payload_id, reason=reason[:40])
