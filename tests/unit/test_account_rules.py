"""Whose login a document is, and which of two comes later: docs/protocol.md 3.6, 3.8, 4.2, 4.3 and 4.9."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.auth import account, documents, storing, sync
from cdxsync.auth.account import Account, Kind, account_of, differs
from cdxsync.auth.documents import AuthDocument
from cdxsync.auth.sync import RetrieveStatus, StoreStatus
from cdxsync.base import clock, jsontext
from cdxsync.base.clock import Instant
from cdxsync.base.errors import Invalid
from cdxsync.base.settings import Settings
from tests.support import DATA
from tests.support.documents import ACCESS_TOKEN, AGENT, API_KEY, BEDROCK, make_auth, plain_digest

AT = datetime(2026, 2, 1, tzinfo=UTC)
VECTORS = json.loads((DATA / "account_vectors.json").read_text())
BY_NAME = {vector["name"]: vector["document"] for vector in VECTORS["documents"]}
ACCOUNTS = st.none() | st.builds(
    Account, st.sampled_from(Kind), st.sampled_from([None, "a", "b"]), st.sampled_from([None, "u", "v"])
)


def canonical(content: dict[str, Any]) -> AuthDocument:
    return documents.canonicalise(content, at=AT, token_min_length=24)


@pytest.mark.parametrize("vector", VECTORS["documents"], ids=lambda vector: vector["name"])
def test_whose_login_it_is(vector: dict[str, Any]) -> None:
    found = account_of(vector["document"])
    assert (None if found is None else {"kind": found.kind, "id": found.id, "user": found.user}) == vector["account"]


@pytest.mark.parametrize("pair", VECTORS["pairs"], ids=lambda pair: f"{pair['one']}, {pair['other']}")
def test_which_accounts_differ(pair: dict[str, Any]) -> None:
    one, other = account_of(BY_NAME[pair["one"]]), account_of(BY_NAME[pair["other"]])
    assert differs(one, other) is differs(other, one) is pair["differ"]


@given(ACCOUNTS, ACCOUNTS)
def test_difference_has_no_direction_and_nothing_differs_from_itself(
    one: Account | None, other: Account | None
) -> None:
    assert differs(one, other) is differs(other, one)
    assert not differs(one, one)
    assert not differs(None, other)


def test_words_for_an_account_hold_no_secret() -> None:
    labels = [found.label for found in map(account_of, (make_auth(), API_KEY, ACCESS_TOKEN, BEDROCK)) if found]
    assert labels[0] == "ChatGPT a@example.net"
    assert [label.rpartition(" ")[0] for label in labels[1:]] == ["API key", "access token", "Bedrock API key"]
    written = " ".join(labels)
    assert all(
        secret not in written for secret in map(str, (API_KEY["OPENAI_API_KEY"], ACCESS_TOKEN["personal_access_token"]))
    )
    strange = make_auth(user="\x1b]0;x\x07" + "y" * 300)
    shown = account_of(strange)
    assert shown is not None
    assert len(shown.label) < 140
    assert shown.label.isprintable()


def test_a_credential_is_of_the_tokens_alone() -> None:
    first = canonical(make_auth("2026-01-01T00:00:00Z"))
    later = canonical(dict(reversed(make_auth("2026-01-02T00:00:00Z").items())) | {"more": 1})
    assert first.credential == later.credential != canonical(make_auth(token_seed="two")).credential
    bare = {"last_refresh": "2026-01-01T00:00:00Z", "auths": {"a": {"token": "example-access-token-0123456789"}}}
    other = {**bare, "auths": {"a": {"token": "example-access-token-9876543210"}}}
    assert canonical(bare).credential != canonical(other).credential


@pytest.mark.parametrize("kind", [API_KEY, ACCESS_TOKEN, BEDROCK], ids=["key", "token", "bedrock"])
def test_each_static_login_is_taken_as_codex_writes_it(kind: dict[str, Any]) -> None:
    given = storing.read(Settings(home=DATA), kind, AT, brought="login")
    document = given.document
    assert given.problem is not None
    assert {name: document.content[name] for name in kind} == kind
    assert list(document.content) == [*kind, "last_refresh", "auths"]
    assert document.last_refresh == clock.rfc3339(Instant.of(AT))
    # What a host holds that writes it as it got it, and one that leaves out the made `auths`.
    assert plain_digest(dict(document.content)) in document.digests
    bare = {name: value for name, value in document.content.items() if name != "auths"}
    assert plain_digest(bare) in document.digests
    # What a host may claim of the file that it sent.
    assert {plain_digest(kind), plain_digest({**kind, "last_refresh": "2000-01-01T00:00:00Z"})} <= given.names
    assert account.static_kind(document.content)


def test_an_agent_identity_is_named_and_not_shared() -> None:
    with pytest.raises(Invalid) as caught:
        canonical({**AGENT, "last_refresh": "2026-01-01T00:00:00Z"})
    assert caught.value.code == "login_not_shareable"
    assert caught.value.errors.keys() == {"auth"}
    beside = canonical({**make_auth(), "agent_identity": "e30.e30.c2ln"})
    assert beside.account is not None
    assert beside.account.kind is Kind.CHATGPT


@pytest.mark.parametrize("value", ["x", "Login", True, 1, [], {}])
def test_what_else_is_brought(value: object) -> None:
    with pytest.raises(Invalid) as caught:
        storing.read(Settings(home=DATA), {}, AT, brought=value)
    assert {"brought", "auth.auths", "auth.last_refresh"} == caught.value.errors.keys()


def test_only_a_date_may_be_wrong() -> None:
    settings = Settings(home=DATA)
    for date in (None, "", "never", "2026-02-01T00:05:01Z", "1999-01-01T00:00:00Z", 5):
        read = storing.read(settings, make_auth() | {"last_refresh": date}, AT)
        assert read.problem is not None
        assert read.problem.errors.keys() == {"auth.last_refresh"}
        assert read.document.instant == Instant.of(AT)
    good = storing.read(settings, make_auth(), AT)
    assert (good.problem, good.brought, good.digest) == (None, False, good.document.digest)
    first, second = (storing.read(settings, API_KEY, moment) for moment in (AT, AT.replace(hour=1)))
    assert first.digest == second.digest, "a document without a date is the same offer tomorrow"
    with pytest.raises(Invalid):
        storing.read(settings, {"auths": {}}, AT)


# Ranks: a small world of a server's clock, hosts whose clocks are ahead or behind, and what each stores.


def ranked(date: int, seen: int, seed: str) -> AuthDocument:
    text = clock.rfc3339(Instant(Instant.of(AT).microseconds + date * 1_000_000))
    made = documents.canonicalise(make_auth(text, seed), at=AT.replace(hour=1), token_min_length=24)
    return replace(made, rank=min(made.instant, Instant(Instant.of(AT).microseconds + seen * 1_000_000)))


@given(st.lists(st.tuples(st.integers(-3, 3), st.sampled_from("abcdef")), min_size=1, max_size=12))
def test_a_login_that_comes_later_is_not_outranked_by_a_clock_that_is_ahead(stores: list[tuple[int, str]]) -> None:
    """Documents come one second after the other; each is dated so many seconds ahead of when it comes, or behind."""
    held: AuthDocument | None = None
    for second, (ahead, seed) in enumerate(stores):
        incoming = ranked(second + ahead, second, f"{seed}{second}")
        before = held
        if sync.decide_store(incoming, held) is StoreStatus.UPDATED:
            held = incoming
        assert held is not None
        assert held.rank <= ranked(second, second, "x").rank, "nothing ranks later than it came"
        if before is not None and ahead >= 0 and incoming.instant != before.instant:
            assert held is incoming, "what is made now is newer than all that came before"


@given(st.integers(-5, 5), st.integers(0, 5), st.integers(-5, 5), st.integers(0, 5))
def test_retrieve_asks_for_what_store_would_take(date: int, seen: int, other_date: int, other_seen: int) -> None:
    held, mine = ranked(date, seen, "held"), ranked(other_date, other_seen, "mine")
    asked = sync.decide_retrieve(mine.instant, mine.digest, held, rank=mine.rank)
    stored = sync.decide_store(mine, held)
    assert (asked is RetrieveStatus.UPLOAD_REQUIRED) is (stored is StoreStatus.UPDATED)
    # The rank is only asked for where the date says newer: it can only turn that down.
    by_date = sync.decide_retrieve(mine.instant, mine.digest, held)
    assert by_date is RetrieveStatus.UPLOAD_REQUIRED or asked is by_date
    by_date_stored = sync.decide_store(replace(mine, rank=mine.instant), held)
    assert by_date_stored is StoreStatus.UPDATED or stored is by_date_stored


def test_a_login_is_newer_whatever_its_date() -> None:
    held = ranked(0, 0, "one")
    for date, replaced in product((-3, 0, 3), (False, True)):
        other = sync.decide_login(ranked(date, 0, "two"), held, replaced=replaced)
        assert other is (StoreStatus.OUTDATED if replaced else StoreStatus.UPDATED)
        again = sync.decide_login(ranked(date, 0, "one"), held, replaced=replaced)
        assert again is (StoreStatus.OUTDATED if date else StoreStatus.UNCHANGED)
        assert sync.decide_login(ranked(date, 0, "one"), None, replaced=replaced) is StoreStatus.UPDATED


@given(st.dictionaries(st.sampled_from(["auth_mode", "tokens", "OPENAI_API_KEY", "personal_access_token"]), st.text()))
def test_any_document_has_an_account_or_none(content: dict[str, Any]) -> None:
    account_of(content)
    account.credential_of(content)
    jsontext.plain(content)
