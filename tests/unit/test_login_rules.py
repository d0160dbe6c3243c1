"""The rules of the canonical login: grants, the life of its access token, and what a host that asks gets."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.auth import documents, giving, grants, login, refresh
from cdxsync.auth.documents import AuthDocument
from cdxsync.auth.login import Asked, Life, Step
from cdxsync.base.errors import Unavailable
from cdxsync.services import token_endpoint
from tests.support.documents import jwt, make_auth, plain_digest

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def document(last_refresh: str, expires: datetime) -> AuthDocument:
    content = make_auth(last_refresh)
    content["tokens"]["access_token"] = jwt("x", int(expires.timestamp()))
    return canonical(content)


def canonical(content: dict[str, Any]) -> AuthDocument:
    return documents.canonicalise(content, at=NOW, token_min_length=24)


NOT_LISTED: list[Any] = [None, 1, {}, [], ["Grant"], [["grant"]]]


def test_a_grant_is_of_its_key() -> None:
    one, two = grants.derive("cdx_" + "a" * 64), grants.derive("cdx_" + "b" * 64)
    assert one == grants.derive("cdx_" + "a" * 64) != two
    assert len(one) == 69
    assert grants.is_grant(one)
    assert not grants.is_grant("rt-1")
    assert not grants.is_grant(None)


@given(st.text(max_size=80))
def test_any_key_has_a_grant(key: str) -> None:
    grant = grants.derive(key.encode(errors="replace").decode())
    assert (len(grant), grants.is_grant(grant), key in grant and len(key) > 8) == (69, True, False)


def test_the_document_with_a_grant_differs_in_that_alone() -> None:
    before = canonical(make_auth())
    made = grants.variant(1, before, "cdxr_x")
    assert made.content == {**before.content, "tokens": {**before.content["tokens"], "refresh_token": "cdxr_x"}}
    assert list(made.content["tokens"]) == list(before.content["tokens"])
    assert made.digest == plain_digest(dict(made.content))
    bare = {name: value for name, value in made.content.items() if name != "auths"}
    assert plain_digest(bare) in made.digests
    assert not made.digests & before.digests
    assert grants.variant(1, before, "cdxr_x") is made
    assert grants.in_document(made.content) == "cdxr_x"
    assert grants.in_document(before.content) is None


def test_variants_in_memory_are_bounded() -> None:
    before = canonical(make_auth())
    for number in range(grants.MAX_VARIANTS + 10):
        grants.variant(2, before, f"cdxr_{number}")
    assert len(grants._variants) == grants.MAX_VARIANTS


@pytest.mark.parametrize(
    ("body", "accepts"),
    [({"accepts": ["grant"]}, True), ({"accepts": ["more", "grant"]}, True), ({}, False), ({"accepts": "grant"}, False)]
    + [({"accepts": value}, False) for value in NOT_LISTED],
)
def test_who_accepts_a_grant(body: dict[str, Any], accepts: bool) -> None:
    assert grants.accepted(body) is accepts


def test_when_the_server_refreshes() -> None:
    ten_days = document("2026-11-20T12:00:00Z", datetime(2026, 11, 30, 12, tzinfo=UTC))
    assert login.due_at(ten_days, 86400) == datetime(2026, 11, 29, 12, tzinfo=UTC)
    one_hour = document("2026-11-24T11:30:00Z", datetime(2026, 11, 24, 12, 30, tzinfo=UTC))
    assert login.due_at(one_hour, 86400) == NOW
    expired = document("2026-11-20T12:00:00Z", datetime(2026, 11, 19, tzinfo=UTC))
    assert login.due_at(expired, 86400) == datetime(2026, 11, 19, tzinfo=UTC)


def test_an_opaque_token_is_refreshed_by_its_age() -> None:
    content = make_auth("2026-11-20T12:00:00Z")
    content["tokens"]["access_token"] = "x" * 20 + "abcdefgh"
    assert login.due_at(canonical(content), 86400) == datetime(2026, 11, 27, 12, tzinfo=UTC)


def test_what_cannot_be_refreshed() -> None:
    for change in ({"refresh_token": ""}, {"refresh_token": None}, {"access_token": None}):
        content = make_auth()
        content["tokens"] |= change
        content["auths"] = {"api.openai.com": {"token": "example-access-token-0123456789"}}
        assert login.due_at(canonical(content), 60) is None
    content = make_auth()
    del content["tokens"]
    content["OPENAI_API_KEY"] = "sk-abcdefghijklmnopqrstuvwxyz0123456789"
    assert login.due_at(canonical(content), 60) is None


def life(left: int, whole: int) -> Life:
    """A life of so many seconds, of which so many are left."""
    return Life(NOW + timedelta(seconds=left - whole), NOW + timedelta(seconds=left))


@pytest.mark.parametrize(
    ("left", "whole", "fresh", "usable"),
    [
        (864000, 864000, True, True),
        (601, 864000, True, True),
        (600, 864000, False, True),
        (331, 864000, False, True),
        (330, 864000, False, False),
        (299, 864000, False, False),
        (-1, 864000, False, False),
        (31, 60, True, True),
        (30, 60, False, False),
        (1, 0, True, True),
        (0, 0, False, False),
    ],
)
def test_what_codex_takes_for_fresh(left: int, whole: int, fresh: bool, usable: bool) -> None:
    found = life(left, whole)
    assert (found.is_fresh(NOW), found.is_usable(NOW)) == (fresh, usable)


FRESH = Asked(life(7200, 864000), newer=True, refused=False, settled=False, dead=False, can_refresh=True)
OVER = replace(FRESH, life=life(10, 864000))
SHORT = replace(FRESH, life=life(400, 864000))


@pytest.mark.parametrize(
    ("asked", "step"),
    [
        (FRESH, Step.GIVE),
        (replace(FRESH, newer=False), Step.GIVE),
        (replace(FRESH, refused=True), Step.GIVE),
        (replace(FRESH, newer=False, refused=True), Step.REFRESH),
        (replace(FRESH, newer=False, refused=True, settled=True), Step.GIVE),
        (replace(FRESH, newer=False, refused=True, can_refresh=False), Step.GIVE),
        (replace(FRESH, dead=True), Step.GIVE),
        (replace(FRESH, newer=False, refused=True, dead=True), Step.DEAD),
        (SHORT, Step.REFRESH),
        (replace(SHORT, dead=True), Step.GIVE),
        (replace(SHORT, can_refresh=False), Step.GIVE),
        (OVER, Step.REFRESH),
        (replace(OVER, settled=True), Step.REFRESH),
        (replace(OVER, can_refresh=False), Step.AWAY),
        (replace(OVER, dead=True), Step.DEAD),
    ],
)
def test_what_a_host_that_asks_gets(asked: Asked, step: Step) -> None:
    assert login.decide(asked, NOW) is step


@given(
    st.builds(
        Asked,
        life=st.builds(life, st.integers(-3600, 864000), st.integers(0, 864000)),
        newer=st.booleans(),
        refused=st.booleans(),
        settled=st.booleans(),
        dead=st.booleans(),
        can_refresh=st.booleans(),
    )
)
def test_nothing_is_given_that_codex_would_refresh_at_once(asked: Asked) -> None:
    step = login.decide(asked, NOW)
    left = asked.life.expires - NOW
    if step is Step.GIVE:
        assert left > min(timedelta(minutes=5), asked.life.half)
    if step is Step.REFRESH:
        assert asked.can_refresh
        assert not asked.dead
    if step is Step.DEAD:
        assert asked.dead


def test_a_host_is_given_the_same_token_ten_times_a_minute() -> None:
    repeats = giving.Repeats()
    for _ in range(giving.MAX_REPEATS):
        repeats.count(1, 1)
    repeats.count(1, 2)
    repeats.count(2, 1)
    with pytest.raises(Unavailable):
        repeats.count(1, 1)


def test_the_client_is_codex_or_whom_the_tokens_name() -> None:
    assert token_endpoint.client_id(make_auth()) == token_endpoint.CLIENT_ID
    content = make_auth()
    part = jwt("x").split(".")

    def signed(claims: dict[str, Any]) -> str:
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return f"{part[0]}.{body}.{part[2]}"

    content["tokens"]["id_token"] = signed({"aud": ["app_OfAnotherClient1"]})
    assert token_endpoint.client_id(content) == "app_OfAnotherClient1"
    content["tokens"]["access_token"] = signed({"client_id": "app_OfTheAccessToken"})
    assert token_endpoint.client_id(content) == "app_OfTheAccessToken"
    content["tokens"]["access_token"] = signed({"client_id": "https://elsewhere.example.net"})
    content["tokens"]["id_token"] = None
    assert token_endpoint.client_id(content) == token_endpoint.CLIENT_ID


@given(st.text(max_size=60))
def test_any_text_has_a_date_of_issue_or_none(text: str) -> None:
    assert refresh.issued_at(text) is None
