"""`POST /auth` and the admin's upload: the sync rule, with reading and writing (`docs/protocol.md 4`)."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

import msgspec
from msgspec import UNSET, UnsetType

from cdxsync.auth import canonical, documents, grants, history, login, runner, sync
from cdxsync.auth.documents import AuthDocument
from cdxsync.auth.schemas import AuthAnswer, AuthStatus, LoginState, RetrieveBody
from cdxsync.base import clock, texts
from cdxsync.base.errors import CdxsyncError, Invalid
from cdxsync.base.fields import Fields
from cdxsync.base.settings import Settings
from cdxsync.codex import quota, versions
from cdxsync.codex.schemas import QuotaSummary, Versions
from cdxsync.hosts import admission, registry
from cdxsync.hosts.admission import Caller
from cdxsync.hosts.schemas import HostSummary
from cdxsync.store import audit
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet
from cdxsync.store.queries import Prepared
from cdxsync.store.tables import Host, HostAuthState
from cdxsync.usage import reports
from cdxsync.usage.schemas import TokenTotals
from cdxsync.wrapper import baking

_COUNT = Prepared(
    lambda host, client_version, wrapper_version, stamp: Host.update(
        api_calls=Host.api_calls + 1,
        client_version=client_version,
        wrapper_version=wrapper_version,
        last_seen_at=stamp,
        updated_at=stamp,
    ).where(Host.id == host)
)
_HOLDS = Prepared(
    lambda host, payload, digest, stamp: HostAuthState.update(payload=payload, seen_digest=digest, seen_at=stamp).where(
        HostAuthState.host == host
    )
)


@dataclass(frozen=True)
class Reported:
    """What a host says that it runs."""

    client_version: str
    wrapper_version: str


def run(fleet: Fleet, caller: Caller, given: Mapping[str, Any], reported: Reported) -> AuthAnswer:
    """Carry out the `command` of a `POST /auth` body.

    Raises `Invalid`, `Refused` when the host may not store, or `RowChanged` as `Caller.row` does. A call with a valid
    command counts and reports its versions even if it then fails.
    """
    command = read_command(given.get("command"))
    at = clock.now()
    try:
        request = read_claim(given, at) if command == "retrieve" else _read_document(fleet, given.get("auth"), at)
    except Invalid:
        write(lambda: _count(caller, reported, at))
        raise
    accepts = grants.accepted(given)
    answer = write(lambda: _exchange(fleet, caller, reported, request, at, accepts=accepts))
    if isinstance(answer, CdxsyncError):
        raise answer
    return answer


def read_command(value: object) -> Literal["retrieve", "store"]:
    """The `command` of a body; `retrieve` when it names none. Raises `Invalid`."""
    command = value.strip().lower() if isinstance(value, str) and value.strip() else "retrieve"
    if command not in ("retrieve", "store") or not isinstance(value, str | None):
        raise Invalid({"command": ["must be retrieve or store"]})
    return "retrieve" if command == "retrieve" else "store"


def read_claim(given: Mapping[str, Any], at: datetime) -> RetrieveBody:
    """What a `retrieve` says that the host holds, at the time `at`. Raises `Invalid` with all wrong fields."""
    fields = Fields(given)
    aliases = (given.get(name) for name in ("digest", "auth_digest", "auth_sha"))
    digest = next((value for value in aliases if isinstance(value, str) and value.strip()), given.get("digest"))
    claimed = fields.read("digest", lambda _: texts.read_digest(digest), "")
    fields.read("last_refresh", lambda value: clock.check_document_date(_trimmed(value), at), clock.Instant(0))
    fields.check()
    return RetrieveBody(last_refresh=str(given["last_refresh"]).strip(), digest=claimed)


def _trimmed(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _read_document(fleet: Fleet, value: object, at: datetime) -> AuthDocument:
    return documents.canonicalise(value, at=at, token_min_length=fleet.settings.token_min_length)


def _count(caller: Caller, reported: Reported, at: datetime) -> Host:
    """Count the call and keep the versions that it reports; returns the host as it is then."""
    stamp = clock.stamp(at)
    host = caller.row()
    before, client, wrapper = host.client_version, reported.client_version, reported.wrapper_version
    _COUNT.execute(host=host.id, client_version=client, wrapper_version=wrapper, stamp=stamp)
    versions.note_reported(before, client)
    # The write transaction excludes others: reading the row again would find the same.
    host.api_calls += 1
    host.client_version, host.wrapper_version = client, wrapper
    host.last_seen_at = host.updated_at = stamp
    return host


def _exchange(
    fleet: Fleet,
    caller: Caller,
    reported: Reported,
    request: RetrieveBody | AuthDocument,
    at: datetime,
    *,
    accepts: bool,
) -> AuthAnswer | CdxsyncError:
    host = _count(caller, reported, at)
    returned = isinstance(request, AuthDocument) and grants.in_document(request.content) is not None
    if isinstance(request, AuthDocument) and not returned and (refusal := admission.permit_refusal(host, "store_auth")):
        # Not raised: the call counts, and the audit row stays.
        canonical_id, document = canonical.current(fleet) or (None, None)
        outcome = _Outcome("refused", canonical_id, document)
        more = {"client_version": host.client_version, "reason": "not permitted"}
        _record("auth.store", outcome, request, actor=audit.host_actor(host), host=host, more=more)
        return refusal
    summary = HostSummary.of(host)
    grant = grants.derive(caller.api_key) if accepts and fleet.settings.server_refreshes else None
    if isinstance(request, RetrieveBody):
        outcome = _retrieve(fleet, request, host, grant)
    elif returned:
        outcome = _take_back(fleet, request, host, grant, own=grants.derive(caller.api_key))
        if outcome.document is None:
            return Invalid(grants.FIELD_PROBLEM)
    else:
        actor = audit.host_actor(host)
        outcome = _store(fleet, request, host=host, source="host", actor=actor, force=False, grant=grant)
    _note_host_state(host, request, outcome, at)
    _note_given(host, caller, request, outcome, at)
    return outcome.answer(
        fleet.settings,
        summary,
        api_calls=host.api_calls,
        token_usage_month=reports.host_month_totals(at, host),
        versions=versions.current(_wrapper_sha256(fleet, caller, host.fqdn)),
        chatgpt_usage=quota.for_host(fleet.settings, at),
        login=login.describe(fleet.settings, outcome.document) if accepts else UNSET,
    )


_wrapper_hashes: OrderedDict[tuple[str, ...], str] = OrderedDict()
"""By what a wrapper is baked from, with the key's SHA-256 in the key's place; used by the writer's thread alone."""
_MAX_HASHES = 20_000


def _wrapper_sha256(fleet: Fleet, caller: Caller, fqdn: str) -> str:
    """The SHA-256 of the host's wrapper, which is only baked to learn it when it is not known yet."""
    settings = fleet.settings
    made_of = (settings.public_url, caller.api_key_sha256, fqdn, fleet.host_ca_pem, settings.github_api_url)
    known = _wrapper_hashes.get(made_of)
    if known is None:
        baked = baking.bake(settings.public_url, caller.api_key, fqdn, fleet.host_ca_pem, settings.github_api_url)
        known = baked.sha256
        _wrapper_hashes[made_of] = known
        if len(_wrapper_hashes) > _MAX_HASHES:
            _wrapper_hashes.popitem(last=False)
    return known


@dataclass(frozen=True)
class _Outcome:
    """The decision, with the canonical document after it, and the grant that its host gets in it, if any."""

    status: str
    payload_id: int | None
    document: AuthDocument | None
    grant: str | None = None

    @property
    def shown(self) -> AuthDocument | None:
        """The canonical document as the host gets it."""
        return _as_shown(self.payload_id, self.document, self.grant)

    def answer(
        self,
        settings: Settings,
        host: HostSummary | None,
        *,
        api_calls: int,
        token_usage_month: TokenTotals | None,
        versions: Versions,
        chatgpt_usage: QuotaSummary | UnsetType = UNSET,
        login: LoginState | UnsetType = UNSET,
    ) -> AuthAnswer:
        """The answer; what of it depends on the status, by `docs/protocol.md 4.4`."""
        document, shown = self.document, self.shown
        returned = shown if self.status in sync.RETURNS_DOCUMENT else None
        is_store = isinstance(self.status, sync.StoreStatus) and document is not None
        return AuthAnswer(
            status=cast(AuthStatus, str(self.status)),
            action="store" if self.status in sync.ASKS_TO_STORE else UNSET,
            canonical_last_refresh=document.last_refresh if document else None,
            canonical_digest=shown.digest if shown else None,
            runner_applied=False if is_store else UNSET,
            validation=runner.validation_of(settings, document) if is_store and document is not None else UNSET,
            auth=UNSET if returned is None else msgspec.Raw(returned.body),
            host=UNSET if returned is None or host is None else host,
            api_calls=api_calls,
            token_usage_month=token_usage_month,
            versions=versions,
            chatgpt_usage=chatgpt_usage,
            login=login,
        )


def _as_shown(payload_id: int | None, document: AuthDocument | None, grant: str | None) -> AuthDocument | None:
    if grant is None or document is None or payload_id is None or not grants.applies_to(document):
        return document
    return grants.variant(payload_id, document, grant)


def _retrieve(fleet: Fleet, claim: RetrieveBody, host: Host, grant: str | None) -> _Outcome:
    payload_id, document = canonical.current(fleet) or (None, None)
    shown = _as_shown(payload_id, document, grant)
    status = sync.decide_retrieve(claim.instant, claim.digest, shown)
    outcome = _Outcome(status, payload_id, document, grant)
    _record("auth.retrieve", outcome, claim, actor=audit.host_actor(host), host=host)
    return outcome


def _take_back(fleet: Fleet, incoming: AuthDocument, host: Host, grant: str | None, *, own: str) -> _Outcome:
    """The answer to a stored document with a grant in it, whosever: it is never taken, whatever its date."""
    payload_id, document = canonical.current(fleet) or (None, None)
    shown = _as_shown(payload_id, document, grant)
    unchanged = shown is not None and incoming.instant == shown.instant and incoming.same_content(shown)
    status = sync.StoreStatus.UNCHANGED if unchanged else sync.StoreStatus.OUTDATED
    outcome = _Outcome(status, payload_id, document, grant)
    whose = "own" if grants.in_document(incoming.content) == own else "foreign"
    more = {"client_version": host.client_version, "grant": whose}
    _record("auth.store", outcome, incoming, actor=audit.host_actor(host), host=host, more=more)
    return outcome


def _store(
    fleet: Fleet,
    incoming: AuthDocument,
    *,
    host: Host | None,
    source: str,
    actor: str,
    force: bool,
    grant: str | None = None,
) -> _Outcome:
    payload_id, document = canonical.current(fleet) or (None, None)
    status = sync.decide_store(incoming, document, force=force)
    if status is sync.StoreStatus.UPDATED:
        payload_id, document = canonical.replace(fleet, incoming, source=source, host=host), incoming
    outcome = _Outcome(status, payload_id, document, grant)
    more: dict[str, Any] = {"client_version": host.client_version if host else None}
    if force:
        more["forced"] = True
    _record("auth.store", outcome, incoming, actor=actor, host=host, more=more)
    return outcome


def _record(
    action: str,
    outcome: _Outcome,
    incoming: RetrieveBody | AuthDocument,
    *,
    actor: str,
    host: Host | None,
    more: dict[str, Any] | None = None,
) -> None:
    """The audit row of an exchange, with what came in and what is canonical after it (`docs/protocol.md 4.5`)."""
    audit.record(
        action,
        actor=actor,
        host=host,
        status=outcome.status,
        incoming_last_refresh=incoming.last_refresh,
        incoming_digest=incoming.digest,
        stored_last_refresh=outcome.document.last_refresh if outcome.document else None,
        stored_digest=outcome.document.digest if outcome.document else None,
        **(more or {}),
    )


def _note_host_state(host: Host, request: RetrieveBody | AuthDocument, outcome: _Outcome, at: datetime) -> None:
    """Record what the host holds: the canonical document, or what it sent while it is behind or ahead."""
    if isinstance(request, AuthDocument):
        registry.note_digest(host, request.digest, refresh=True)
    document = outcome.document
    if document is None:
        return
    if host.auth_digest != document.digest:  # otherwise it was recorded with that
        registry.note_digest(host, document.digest, refresh=False)
    in_sync = outcome.status in sync.HOLDS_CANONICAL
    held = (document.last_refresh, document.digest) if in_sync else (request.last_refresh, request.digest)
    if (host.last_refresh, host.auth_digest) != held:
        Host.update(last_refresh=held[0], auth_digest=held[1]).where(Host.id == host.id).execute()
    if in_sync:
        payload, digest, stamp = outcome.payload_id, document.digest, clock.stamp(at)
        if not _HOLDS.changed(host=host.id, payload=payload, digest=digest, stamp=stamp):
            HostAuthState.insert(host=host.id, payload=payload, seen_digest=digest, seen_at=stamp).execute()


def _note_given(
    host: Host, caller: Caller, request: RetrieveBody | AuthDocument, outcome: _Outcome, at: datetime
) -> None:
    """Keep what the host has of the canonical login after this call, where the call tells."""
    if outcome.status not in sync.HOLDS_CANONICAL | sync.RETURNS_DOCUMENT:
        if outcome.grant is not None:
            grants.renew(host, caller.api_key, at)
        return
    held = outcome.shown
    if outcome.status == sync.StoreStatus.UNCHANGED and isinstance(request, AuthDocument):
        held = request
    has_grant = held is not None and grants.in_document(held.content) is not None
    holds = grants.Holds.GRANT if has_grant else grants.Holds.LOGIN
    api_key = caller.api_key if outcome.grant is not None else None
    grants.note(host, api_key, holds, outcome.payload_id, at)


def upload(fleet: Fleet, document: object, *, host: Host | None, actor: str, force: bool = False) -> AuthAnswer:
    """Store an admin's document, for the fleet or in a host's name (`docs/protocol.md 11.5`).

    Newest wins here too, unless forced: then a document that is not newer gets the present as its date, because hosts
    with a later one would send that back. Raises `Invalid`.
    """
    at = clock.now()
    incoming = _read_document(fleet, document, at)
    if grants.in_document(incoming.content) is not None:
        raise Invalid(grants.FIELD_PROBLEM)

    def work() -> AuthAnswer:
        if host is not None:
            Host.update(api_calls=Host.api_calls + 1).where(Host.id == host.id).execute()
        named = registry.by_id(host.id) if host is not None else None
        document = _forced(fleet, incoming) if force else incoming
        outcome = _store(fleet, document, host=named, source="admin", actor=actor, force=force)
        if named is not None:
            _note_host_state(named, document, outcome, at)
        return outcome.answer(
            fleet.settings,
            HostSummary.of(named) if named is not None else None,
            api_calls=named.api_calls if named is not None else 0,
            token_usage_month=reports.host_month_totals(at, named) if named is not None else None,
            versions=versions.current(baking.template_sha256()),
        )

    return write(work)


def _forced(fleet: Fleet, incoming: AuthDocument) -> AuthDocument:
    """What to store so that `incoming` becomes canonical and stays so; within a write transaction."""
    _, document = canonical.current(fleet) or (None, None)
    outdated = sync.decide_store(incoming, document) is sync.StoreStatus.OUTDATED
    return history.redated(fleet, incoming) if outdated else incoming
