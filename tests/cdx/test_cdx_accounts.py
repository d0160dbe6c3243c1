"""Whose login a document is, as cdx sees it: the same as the server does."""

import json
from typing import Any

import pytest

from cdxsync.base.errors import KINDS
from cdxsync.wrapper.src import accounts, errors
from cdxsync.wrapper.src.document import holds_credentials
from tests.support import DATA
from tests.support.documents import jwt, make_auth, with_auths

VECTORS = json.loads((DATA / "account_vectors.json").read_text())
BY_NAME = {vector["name"]: vector["document"] for vector in VECTORS["documents"]}


@pytest.mark.parametrize("vector", VECTORS["documents"], ids=lambda vector: vector["name"])
def test_accounts_are_those_of_the_server(vector: dict[str, Any]) -> None:
    found, expected = accounts.account_of(vector["document"]), vector["account"]
    if expected is None:
        assert found is None
    elif expected["kind"] == "agent_identity":  # the server keeps none of it; here it is told from others
        assert found is not None
        assert found[0] == expected["kind"]
    else:
        assert found == (expected["kind"], expected["id"] or "", expected["user"] or "")


@pytest.mark.parametrize("pair", VECTORS["pairs"], ids=lambda pair: f"{pair['one']}, {pair['other']}")
def test_which_accounts_differ(pair: dict[str, Any]) -> None:
    one, other = (accounts.account_of(BY_NAME[pair[name]]) for name in ("one", "other"))
    assert accounts.same_account(one, other) is accounts.same_account(other, one) is not pair["differ"]


def test_a_login_of_a_kind_that_is_not_known_yet_is_one() -> None:
    later = {"auth_mode": "later", "OPENAI_API_KEY": None, "later_token": {"secret": "x"}}
    assert holds_credentials(later)
    account = accounts.account_of(later)
    assert account is not None
    assert account[0] == "later_token"
    assert not accounts.same_account(account, accounts.account_of({**later, "later_token": {"secret": "y"}}))
    for empty in ({}, {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": None, "last_refresh": "x"}):
        assert not holds_credentials(empty)


def test_one_login_in_two_forms() -> None:
    login = make_auth()
    granted = with_auths({**login, "tokens": {**login["tokens"], "refresh_token": "cdxr_x"}})
    assert accounts.same_login(login, granted)
    assert not accounts.same_login(login, make_auth(token_seed="two"))
    assert not accounts.same_login(login, {"OPENAI_API_KEY": "sk-0123456789"})
    key = {"OPENAI_API_KEY": "sk-0123456789"}
    assert accounts.same_login(key, {**key, "last_refresh": "2026-01-01T00:00:00Z", "auths": {"x": {}}})


@pytest.mark.parametrize("token", [None, 7, "", "a.b", "a.b.c", "a.!.c", "a.W10.c", jwt("x")[:-40]])
def test_what_is_no_token_says_nothing(token: object) -> None:
    assert accounts.claims_of(token) == {}
    assert accounts.expiry_of({"tokens": {"access_token": token}}) is None


def test_the_codes_of_kept_logins_are_those_of_the_server() -> None:
    declared = {code: kind.http_status for kind in KINDS.values() for code in kind.codes}
    assert {declared[code] for code in errors.KEPT_LOGINS} == {422}
