"""The decisions of POST /auth: docs/protocol.md 4.2 and 4.3, and newest wins as a property."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.auth import documents
from cdxsync.auth.documents import AuthDocument
from cdxsync.auth.sync import RetrieveStatus, StoreStatus, decide_retrieve, decide_store
from tests.support.documents import make_auth, plain_digest

EARLY, LATE = "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.500001Z"


def document(date: str, seed: str = "one") -> AuthDocument:
    return documents.canonicalise(make_auth(date, seed), at=datetime(2026, 2, 1, tzinfo=UTC), token_min_length=24)


CANONICAL = document(EARLY)


@pytest.mark.parametrize(
    ("incoming", "digest", "canonical", "status"),
    [
        (document(EARLY), "0" * 64, None, RetrieveStatus.MISSING),
        (document(LATE), CANONICAL.digest, CANONICAL, RetrieveStatus.VALID),
        (document(EARLY), plain_digest(make_auth(EARLY)), CANONICAL, RetrieveStatus.VALID),
        (document(LATE), "0" * 64, CANONICAL, RetrieveStatus.UPLOAD_REQUIRED),
        (document(EARLY), "0" * 64, CANONICAL, RetrieveStatus.OUTDATED),
        (document("2025-01-01T00:00:00Z"), "0" * 64, CANONICAL, RetrieveStatus.OUTDATED),
    ],
)
def test_retrieve(incoming: AuthDocument, digest: str, canonical: AuthDocument | None, status: RetrieveStatus) -> None:
    assert decide_retrieve(incoming.instant, digest, canonical) is status


@pytest.mark.parametrize(
    ("incoming", "canonical", "force", "status"),
    [
        (document(EARLY), None, False, StoreStatus.UPDATED),
        (document(LATE), CANONICAL, False, StoreStatus.UPDATED),
        (document(EARLY), CANONICAL, False, StoreStatus.UNCHANGED),
        (document("2026-01-01T01:00:00.5+01:00"), CANONICAL, False, StoreStatus.OUTDATED),
        (document(EARLY, "two"), CANONICAL, False, StoreStatus.OUTDATED),
        (document("2025-01-01T00:00:00Z"), CANONICAL, False, StoreStatus.OUTDATED),
        (document("2025-01-01T00:00:00Z"), CANONICAL, True, StoreStatus.UPDATED),
        (document(EARLY, "two"), CANONICAL, True, StoreStatus.UPDATED),
        (document(EARLY), CANONICAL, True, StoreStatus.UNCHANGED),
    ],
)
def test_store(incoming: AuthDocument, canonical: AuthDocument | None, force: bool, status: StoreStatus) -> None:
    assert decide_store(incoming, canonical, force=force) is status


AHEAD = replace(document(LATE), rank=document(EARLY).instant)
"""Dated ahead: it ranks as of when the server first saw it."""


@pytest.mark.parametrize(
    ("incoming", "canonical", "retrieve", "store"),
    [
        (document("2026-01-01T00:00:00.5000005Z", "two"), AHEAD, RetrieveStatus.OUTDATED, StoreStatus.OUTDATED),
        (document("2026-01-01T00:00:00.6Z", "two"), AHEAD, RetrieveStatus.UPLOAD_REQUIRED, StoreStatus.UPDATED),
        (document(LATE, "two"), AHEAD, RetrieveStatus.OUTDATED, StoreStatus.OUTDATED),
        (replace(AHEAD, digest="0" * 64), AHEAD, RetrieveStatus.OUTDATED, StoreStatus.UNCHANGED),
        (AHEAD, CANONICAL, RetrieveStatus.OUTDATED, StoreStatus.OUTDATED),
        (AHEAD, document("2025-01-01T00:00:00Z", "old"), RetrieveStatus.UPLOAD_REQUIRED, StoreStatus.UPDATED),
    ],
)
def test_ranks(incoming: AuthDocument, canonical: AuthDocument, retrieve: RetrieveStatus, store: StoreStatus) -> None:
    digest = "0" * 64
    assert decide_retrieve(incoming.instant, digest, canonical, rank=incoming.rank) is retrieve
    assert decide_store(incoming, canonical) is store


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abc")), min_size=1, max_size=12))
def test_whatever_the_order_the_newest_acknowledged_document_is_canonical(stores: list[tuple[int, str]]) -> None:
    canonical: AuthDocument | None = None
    for second, seed in stores:
        incoming = document(f"2026-01-01T00:00:0{second}Z", seed)
        if decide_store(incoming, canonical) is StoreStatus.UPDATED:
            canonical = incoming
        # What a host is told to do after a store ends the matter: no document goes to and fro.
        assert canonical is not None
        assert decide_retrieve(canonical.instant, canonical.digest, canonical) is RetrieveStatus.VALID
    assert canonical is not None
    assert canonical.instant == max(document(f"2026-01-01T00:00:0{second}Z").instant for second, _ in stores)
