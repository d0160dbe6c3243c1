"""`POST /auth` and the admin's upload: the sync rule, with reading and writing (`docs/protocol.md 4`)."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from msgspec import UNSET

from cdxsync.auth import canonical, documents, grants, login, offers, sights, storing, sync
from cdxsync.auth.documents import AuthDocument
from cdxsync.auth.outcome import Outcome, as_shown, record
from cdxsync.auth.schemas import AuthAnswer, RetrieveBody
from cdxsync.auth.storing import Given
from cdxsync.auth.sync import RetrieveStatus
from cdxsync.base import clock, texts
from cdxsync.base.errors import CdxsyncError, Invalid, Refused
from cdxsync.base.fields import Fields
from cdxsync.codex import quota, versions
from cdxsync.hosts import admission, registry
from cdxsync.hosts.admission import Caller
from cdxsync.hosts.schemas import NO_SCHEDULER, HostSummary, Scheduler
from cdxsync.prompts import catalog
from cdxsync.store import audit
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet
from cdxsync.store.queries import Prepared
from cdxsync.store.tables import Host, HostAuthState
from cdxsync.usage import reports
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
    background: Scheduler | Literal["none"] | None = None
    """What has started the call, where that is the host's background sync; `none` where it has none any more."""

    @property
    def is_background(self) -> bool:
        """Whether the host's background sync calls."""
        return self.background not in (None, NO_SCHEDULER)


def run(fleet: Fleet, caller: Caller, given: Mapping[str, Any], reported: Reported) -> AuthAnswer:
    """Carry out the `command` of a `POST /auth` body.

    Raises `Invalid`, `Refused` when the host may not store, or `RowChanged` as `Caller.row` does. A call with a valid
    command counts and reports its versions even if it then fails.
    """
    command = read_command(given.get("command"))
    at = clock.now()
    request: RetrieveBody | Given
    try:
        if command == "retrieve":
            request = read_claim(given, at)
        else:
            request = storing.read(fleet.settings, given.get("auth"), at, brought=given.get("brought"))
    except Invalid:
        write(lambda: _refuse(caller, reported, given, at))
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
    claimed = fields.read("digest", lambda _: texts.read_digest(_digest(given)), "")
    fields.read("last_refresh", lambda value: clock.check_document_date(_trimmed(value), at), clock.Instant(0))
    fields.check()
    return RetrieveBody(last_refresh=str(given["last_refresh"]).strip(), digest=claimed)


def _digest(given: Mapping[str, Any]) -> object:
    aliases = (given.get(name) for name in ("digest", "auth_digest", "auth_sha"))
    return next((value for value in aliases if isinstance(value, str) and value.strip()), given.get("digest"))


def _trimmed(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _refuse(caller: Caller, reported: Reported, given: Mapping[str, Any], at: datetime) -> None:
    """Count a call with wrong fields. A document that is dated too far ahead is remembered, so that it does not win
    when that time has come."""
    host = _count(caller, reported, at)
    try:
        digest, date = texts.read_digest(_digest(given)), clock.parse_rfc3339(str(given.get("last_refresh")).strip())
    except ValueError:
        return
    if date > clock.Instant.of(at):
        sights.rank_of(date, [digest], clock.Instant.of(at), host)


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
    if reported.background is not None:
        known = (reported.background, stamp) if reported.is_background else (None, None)
        Host.update(background_by=known[0], background_at=known[1]).where(Host.id == host.id).execute()
    return host


def _exchange(
    fleet: Fleet,
    caller: Caller,
    reported: Reported,
    request: RetrieveBody | Given,
    at: datetime,
    *,
    accepts: bool,
) -> AuthAnswer | CdxsyncError:
    host = _count(caller, reported, at)
    if not accepts and fleet.settings.grants_only and fleet.settings.server_refreshes:
        audit.record("auth.refused", actor=audit.host_actor(host), host=host, reason="takes no grant")
        return Refused(
            "This client takes no grant, and this fleet gives nothing else: install cdx again on this host",
            code="grant_required",
        )
    summary = HostSummary.of(host)
    grant = grants.derive(caller.api_key) if accepts and fleet.settings.server_refreshes else None
    held: RetrieveBody | AuthDocument
    if isinstance(request, RetrieveBody):
        held, outcome = request, _retrieve(fleet, request, host, grant, at, background=reported.is_background)
    else:
        held = request.document
        found = _store(fleet, caller, request, host, grant)
        if isinstance(found, CdxsyncError):
            return found
        outcome = found
    _note_host_state(host, held, outcome, at)
    _note_given(host, caller, held, outcome, at)
    return outcome.answer(
        fleet.settings,
        summary,
        api_calls=host.api_calls,
        token_usage_month=reports.host_month_totals(at, host),
        versions=versions.current(_wrapper_sha256(fleet, caller, host.fqdn)),
        chatgpt_usage=quota.for_host(fleet.settings, at),
        login=login.describe(fleet.settings, outcome.document, host) if accepts else UNSET,
        prompts_etag=catalog.entity_tag() if reported.is_background else UNSET,
    )


def _store(fleet: Fleet, caller: Caller, given: Given, host: Host, grant: str | None) -> Outcome | CdxsyncError:
    """What came of a `store`. What is refused is not raised: the call counts, and the audit row stays."""
    incoming = given.document
    if grants.in_document(incoming.content) is not None:
        outcome = _take_back(fleet, incoming, host, grant, own=grants.derive(caller.api_key))
        return Invalid(grants.FIELD_PROBLEM) if outcome.document is None else outcome
    refusal = admission.permit_refusal(host, "store_auth")
    if refusal is not None:
        if given.problem is not None and not given.brought:
            return given.problem
        canonical_id, document = canonical.current(fleet) or (None, None)
        outcome = Outcome("refused", canonical_id, document)
        more = {"client_version": host.client_version, "reason": "not permitted"}
        record("auth.store", outcome, incoming, actor=audit.host_actor(host), host=host, more=more)
        return refusal
    return storing.by_host(fleet, given, host, grant)


_wrapper_hashes: OrderedDict[tuple[str, ...], str] = OrderedDict()
"""By what a wrapper is baked from, with the key's SHA-256 in the key's place; used by the writer's thread alone."""
_MAX_HASHES = 20_000


def _wrapper_sha256(fleet: Fleet, caller: Caller, fqdn: str) -> str:
    """The SHA-256 of the host's wrapper, which is only baked to learn it when it is not known yet."""
    settings = fleet.settings
    rest = (fqdn, fleet.host_ca_pem, settings.github_api_url, fleet.signing.public)
    made_of = (settings.public_url, caller.api_key_sha256, *rest)
    known = _wrapper_hashes.get(made_of)
    if known is None:
        known = baking.bake(settings.public_url, caller.api_key, *rest).sha256
        _wrapper_hashes[made_of] = known
        if len(_wrapper_hashes) > _MAX_HASHES:
            _wrapper_hashes.popitem(last=False)
    return known


def _retrieve(
    fleet: Fleet, claim: RetrieveBody, host: Host, grant: str | None, at: datetime, *, background: bool
) -> Outcome:
    payload_id, document = canonical.current(fleet) or (None, None)
    shown = as_shown(payload_id, document, grant)
    status = sync.decide_retrieve(claim.instant, claim.digest, shown)
    if payload_id is not None and status is not RetrieveStatus.VALID:
        if status is RetrieveStatus.UPLOAD_REQUIRED:
            rank = sights.rank_of(claim.instant, [claim.digest], clock.Instant.of(at), host)
            status = sync.decide_retrieve(claim.instant, claim.digest, shown, rank=rank)
            if status is RetrieveStatus.UPLOAD_REQUIRED and canonical.was_replaced(payload_id, digest=claim.digest):
                status = RetrieveStatus.OUTDATED
        # Only with a rule of its own a host is asked for a document that is not newer.
        if (
            status is RetrieveStatus.OUTDATED
            and host.other_account
            and offers.is_wanted(host, claim.digest, payload_id)
        ):
            status = RetrieveStatus.UPLOAD_REQUIRED
    outcome = Outcome(status, payload_id, document, grant)
    if not (background and status is RetrieveStatus.VALID):
        # Hosts that ask every few minutes, and hear that nothing has changed, would be all that the log holds.
        record("auth.retrieve", outcome, claim, actor=audit.host_actor(host), host=host)
    return outcome


def _take_back(fleet: Fleet, incoming: AuthDocument, host: Host, grant: str | None, *, own: str) -> Outcome:
    """The answer to a stored document with a grant in it, whosever: it is never taken, whatever its date."""
    payload_id, document = canonical.current(fleet) or (None, None)
    shown = as_shown(payload_id, document, grant)
    unchanged = shown is not None and incoming.instant == shown.instant and incoming.same_content(shown)
    status = sync.StoreStatus.UNCHANGED if unchanged else sync.StoreStatus.OUTDATED
    outcome = Outcome(status, payload_id, document, grant)
    whose = "own" if grants.in_document(incoming.content) == own else "foreign"
    more = {"client_version": host.client_version, "grant": whose}
    record("auth.store", outcome, incoming, actor=audit.host_actor(host), host=host, more=more)
    return outcome


def _note_host_state(host: Host, request: RetrieveBody | AuthDocument, outcome: Outcome, at: datetime) -> None:
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
    host: Host, caller: Caller, request: RetrieveBody | AuthDocument, outcome: Outcome, at: datetime
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
    """Store an admin's document, for the fleet or in a host's name (`docs/protocol.md 11.5`): `storing.by_admin`.

    One without a date is dated now. Raises `Invalid`.
    """
    at = clock.now()
    given, undated = storing.read(fleet.settings, document, at), documents.is_undated(document)
    if given.problem is not None and not undated:
        raise given.problem
    storing.refuse_grant(given.document)

    def work() -> AuthAnswer:
        if host is not None:
            Host.update(api_calls=Host.api_calls + 1).where(Host.id == host.id).execute()
        named = registry.by_id(host.id) if host is not None else None
        outcome, stored = storing.by_admin(fleet, given, host=named, actor=actor, force=force, undated=undated)
        if named is not None:
            _note_host_state(named, stored, outcome, at)
        return outcome.answer(
            fleet.settings,
            HostSummary.of(named) if named is not None else None,
            api_calls=named.api_calls if named is not None else 0,
            token_usage_month=reports.host_month_totals(at, named) if named is not None else None,
            versions=versions.current(baking.template_sha256()),
        )

    return write(work)
