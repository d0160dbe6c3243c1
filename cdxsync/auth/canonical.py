"""The canonical document: loading and replacing it.

A payload row never changes, so a process opens, checks and caches each once.
"""

import functools
import json
import re
from dataclasses import replace as changed
from datetime import datetime, timedelta
from typing import NamedTuple

from peewee import fn

from cdxsync.auth import documents, grants, sights
from cdxsync.auth.documents import AuthDocument
from cdxsync.auth.schemas import Canonical
from cdxsync.base import clock, jsontext
from cdxsync.base.clock import Instant
from cdxsync.base.errors import CdxsyncError, Invalid
from cdxsync.jobs import lease
from cdxsync.store import audit, named_values, rights, sealed_values
from cdxsync.store.caches import GenerationCache
from cdxsync.store.fleet import Fleet
from cdxsync.store.queries import Prepared
from cdxsync.store.sealing import UnknownKey
from cdxsync.store.tables import AuthEntry, AuthPayload, Host

POINTER = "canonical_payload_id"
REFRESH_JOB = "refresh"
"""The job that refreshes the canonical document, where the server does that."""
REFRESH_SOURCE = "refresh"
RUNNER_JOB = "runner"
"""The job that checks a new document; it runs in the background, after the answer."""
_IDENTITY = Prepared(
    lambda payload: AuthPayload.select(AuthPayload.id, AuthPayload.sha256).where(AuthPayload.id == payload)
)
_RIGHTS = Prepared(lambda payload: AuthPayload.select(*rights.columns_of(AuthPayload)).where(AuthPayload.id == payload))
_WITH_DIGEST = Prepared(lambda sha256: AuthPayload.select(AuthPayload.id).where(AuthPayload.sha256 == sha256))
_WITH_CREDENTIAL = Prepared(
    lambda sha256: AuthPayload.select(AuthPayload.id).where(AuthPayload.credential_sha256 == sha256)
)
NONE_YET = "The fleet has no auth.json yet. Log in on one host with `cdx login`, or run: cdxsync auth upload FILE"


def current(fleet: Fleet) -> tuple[int, AuthDocument] | None:
    """The canonical payload's id and document, or None without a valid one.

    A stored document that no longer passes (altered, or by stricter rules) counts as none; an
    audit row `auth.canonical_invalid` says so, once per process (`docs/protocol.md 3.7`). Raises `UnknownKey` when this
    server lacks the key for it, `RowAltered` when its row, or which one is canonical, was changed past cdxsync.
    """
    found = _pointed.get()
    if found is None:
        return None
    document = _load(fleet, found.id, found.sha256)
    return None if document is None else (found.id, document)


_NUMBER = re.compile(r"[0-9]{1,18}")


def id_in(pointer: str | None) -> int | None:
    """The id of a payload in the pointer; None in one that is not there, or that others wrote."""
    return int(pointer) if pointer is not None and _NUMBER.fullmatch(pointer) else None


class Pointed(NamedTuple):
    """Which payload is canonical."""

    id: int
    sha256: str


def pointed_payload() -> Pointed | None:
    """The id and digest of the payload that the pointer names, or of the newest when it names none that exists."""
    pointer = named_values.get(POINTER)
    number = id_in(pointer)
    row = _IDENTITY.row(payload=number) if number is not None else None
    if row is None:
        newest_first = (fn.COALESCE(AuthPayload.rank_us, AuthPayload.last_refresh_us).desc(), AuthPayload.id.desc())
        row = AuthPayload.select(AuthPayload.id, AuthPayload.sha256).order_by(*newest_first).tuples().first()
    return None if row is None else Pointed(*row)


_pointed = GenerationCache(pointed_payload)


@functools.lru_cache(maxsize=8)
def _load(fleet: Fleet, payload_id: int, sha256: str) -> AuthDocument | None:
    try:
        return open_payload(fleet, AuthPayload.get_by_id(payload_id))
    except (UnknownKey, rights.RowAltered):
        raise  # there is one: without it an older document would count as the newest
    except CdxsyncError as error:
        audit.record(
            "auth.canonical_invalid", actor="server", payload_id=payload_id, sha256=sha256, reason=error.explain()
        )
        return None


def open_payload(fleet: Fleet, row: AuthPayload) -> AuthDocument:
    """The document of a payload row, checked like a new one.

    Raises `Failed` when it cannot be opened, `Invalid` when it does not pass or its digest is not the row's, and
    `RowAltered`.
    """
    rights.check(row)
    content = jsontext.decode(fleet.keyring.open(row.body, sealed_values.payload_body(row.id)))
    # Its date was valid when stored; a clock that was set back must not make it invalid.
    accepted = clock.read_stamp(row.created_at) + timedelta(seconds=1)
    document = documents.canonicalise(content, at=accepted, token_min_length=fleet.settings.token_min_length)
    if document.digest != row.sha256:
        raise Invalid({"digest": ["does not match the stored document"]})
    return changed(document, rank=_rank(row.last_refresh_us, row.created_at, row.rank_us))


def _rank(last_refresh_us: int, created_at: str, rank_us: int | None) -> Instant:
    """The rank of a stored document: as stored, or, where none was, its date, but not after it was stored."""
    if rank_us is not None:
        return Instant(rank_us)
    # A stamp has whole seconds: it was stored before that second was over.
    return min(Instant(last_refresh_us), Instant(Instant.of(clock.read_stamp(created_at)).microseconds + 999_999))


def rank() -> Instant | None:
    """The rank of the canonical document, which is not opened; None when the fleet has none."""
    found = pointed_payload()
    found_row = _RIGHTS.row(payload=found.id) if found is not None else None
    if found_row is None:
        return None
    row = dict(zip(("id", *AuthPayload.RIGHTS, "mac"), found_row, strict=True))
    rights.check_values(AuthPayload, row)
    return _rank(row["last_refresh_us"], row["created_at"], row["rank_us"])


def was_replaced(pointed: int, *, digest: str, credential: str | None = None) -> bool:
    """Whether a document, or one with its credentials, was canonical before the one of the id `pointed`."""
    rows = _WITH_DIGEST.rows(sha256=digest)
    if credential is not None:
        rows += _WITH_CREDENTIAL.rows(sha256=credential)
    return any(row[0] < pointed for row in rows)


def replace(fleet: Fleet, document: AuthDocument, *, source: str, host: Host | None, at: datetime | None = None) -> int:
    """Store `document` as a new payload, as of `at`, and make it canonical; within the caller's write transaction.

    It ranks after the one that it replaces, and not later than now otherwise: what comes after it is newer. One that is
    dated ahead is remembered (`sights`): it must not win by that date when another has replaced it and its row is gone.
    Payloads beyond `payload_history` are deleted, oldest first. Returns its id. Raises `Invalid` for a document with a
    grant for its refresh token: what the fleet lives on must never be replaced by that.
    """
    if grants.in_document(document.content) is not None:
        raise Invalid(grants.FIELD_PROBLEM)
    stamp = clock.stamp(at or clock.now())
    before, now = rank(), Instant.of(clock.now())
    ranked = min(document.rank, now) if before is None else max(min(document.rank, now), Instant(before[0] + 1))
    if document.instant > now:
        sights.rank_of(document.instant, {*document.digests, document.credential}, now, host)
    source_host = host.id if host is not None else None
    payload_id = insert(fleet, document, source=source, source_host=source_host, at=stamp, ranked=ranked)
    named_values.put(POINTER, str(payload_id))
    if source != "runner":
        lease.mark(RUNNER_JOB, "new_document")
    if source != REFRESH_SOURCE and fleet.settings.server_refreshes:
        lease.mark(REFRESH_JOB, "new_document")
    drop_old(fleet.settings.payload_history)
    return payload_id


def insert(
    fleet: Fleet,
    document: AuthDocument,
    *,
    source: str,
    source_host: int | None,
    at: str,
    ranked: Instant | None = None,
    payload_id: int | None = None,
) -> int:
    """Store `document`, as of `at`, with its entries, sealed; within a write transaction. Returns its id.

    With `payload_id` it gets that id. Without a rank it has that of its date, or of `at`.
    """
    row = {
        "last_refresh": document.last_refresh,
        "last_refresh_us": document.instant.microseconds,
        "sha256": document.digest,
        "source": source,
        "source_host": source_host,
        "body": "",
        "created_at": at,
        "rank_us": None if ranked is None else ranked.microseconds,
        "credential_sha256": document.credential,
    }
    payload_id = rights.insert(AuthPayload, **(row if payload_id is None else {"id": payload_id, **row}))
    sealed = fleet.keyring.seal(document.body, sealed_values.payload_body(payload_id))
    AuthPayload.update(body=sealed).where(AuthPayload.id == payload_id).execute()
    for target, entry in document.entries.items():
        context = sealed_values.entry_token(payload_id, target)
        meta = {
            key: entry[key] for key in entry.keys() - {"token", "token_type", "organization", "project", "api_base"}
        }
        AuthEntry.insert(
            payload=payload_id,
            target=target,
            token=fleet.keyring.seal(entry["token"].encode(), context),
            token_type=entry["token_type"],
            organization=entry.get("organization"),
            project=entry.get("project"),
            api_base=entry.get("api_base"),
            meta=json.dumps(meta, sort_keys=True) if meta else None,
            created_at=at,
        ).execute()
    return payload_id


def drop_old(history: int) -> int:
    """Delete payloads beyond the newest `history`, except the canonical one; within a write transaction.

    Returns their number.
    """
    pointed = pointed_payload()
    kept = [row.id for row in AuthPayload.select(AuthPayload.id).order_by(AuthPayload.id.desc()).limit(history)]
    kept += [pointed.id] if pointed is not None else []
    return int(AuthPayload.delete().where(AuthPayload.id.not_in(kept)).execute())


def pointed() -> Canonical | None:
    """What is kept of the canonical document beside its content, which is not opened: cheap, and needs no keyring."""
    found = pointed_payload()
    if found is None:
        return None
    row = AuthPayload.get_by_id(found.id)
    return Canonical(last_refresh=row.last_refresh, digest=row.sha256, source=source_of(row), stored_at=row.created_at)


def source_of(row: AuthPayload) -> str:
    """Who stored a document: a host's name, or what else there is."""
    return str(row.source_host.fqdn if row.source_host is not None else row.source)
