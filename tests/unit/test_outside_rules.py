"""The rules about what comes from outside, as pure functions."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.auth import refresh
from cdxsync.base import clock
from cdxsync.codex import quota, versions
from cdxsync.jobs import schedule
from cdxsync.jobs.schedule import Outcome, Spec, State
from cdxsync.services import client
from cdxsync.services.secrecy import redact
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Job
from cdxsync.usage import pricing
from cdxsync.usage.schemas import TokenTotals
from tests.support.documents import make_auth

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=12,
)


def at(seconds: int) -> str:
    return clock.stamp(NOW + timedelta(seconds=seconds))


def _idle(fleet: Fleet, cause: str, owner: str) -> Outcome:
    return Outcome("nothing to do")


SCHEDULED = Spec("a", "", interval=3600, time_limit=60, run=_idle)
ON_DEMAND = Spec("b", "", interval=None, time_limit=60, run=_idle)


@pytest.mark.parametrize(
    ("spec", "row", "state"),
    [
        (SCHEDULED, {}, State.DUE),
        (SCHEDULED, {"next_run": at(1)}, State.IDLE),
        (SCHEDULED, {"next_run": at(0)}, State.DUE),
        (SCHEDULED, {"next_run": at(1), "wanted": "manual"}, State.DUE),
        (SCHEDULED, {"next_run": at(-9), "lease_until": at(1)}, State.RUNNING),
        (SCHEDULED, {"next_run": at(-9), "lease_until": at(0)}, State.DUE),
        (SCHEDULED, {"next_run": at(-9), "not_before": at(1)}, State.HELD),
        (SCHEDULED, {"next_run": at(-9), "not_before": at(0)}, State.DUE),
        (SCHEDULED, {"wanted": "manual", "not_before": at(1)}, State.HELD),
        # After the clock was set back by a year:
        (SCHEDULED, {"next_run": at(365 * 86400)}, State.DUE),
        (SCHEDULED, {"next_run": at(365 * 86400), "lease_until": at(365 * 86400)}, State.DUE),
        (SCHEDULED, {"next_run": at(-9), "not_before": at(365 * 86400)}, State.DUE),
        (ON_DEMAND, {}, State.IDLE),
        (ON_DEMAND, {"next_run": at(-9)}, State.IDLE),
        (ON_DEMAND, {"next_run": at(9), "wanted": "stale"}, State.DUE),
        (Spec("c", "", 1, 1, _idle, off="why"), {"wanted": "manual"}, State.OFF),
    ],
)
def test_when_a_job_may_start(spec: Spec, row: dict[str, str], state: State) -> None:
    assert schedule.state_of(spec, Job(name=spec.name, **row), NOW) is state


@pytest.mark.parametrize(
    ("row", "may"),
    [
        (None, True),
        ({}, True),
        ({"next_run": at(1)}, False),
        ({"next_run": at(0)}, True),
        ({"wanted": "stale"}, False),
        ({"lease_until": at(1)}, False),
        ({"lease_until": at(0)}, True),
        ({"not_before": at(1)}, False),
        ({"next_run": at(365 * 86400)}, True),
    ],
)
def test_when_a_request_asks_for_a_job(row: dict[str, str] | None, may: bool) -> None:
    assert schedule.may_mark(None if row is None else Job(name="a", **row), NOW) is may


@given(st.integers(1, 50), st.floats(0, 1), st.none() | st.floats(1, 86400))
def test_failures_back_off_up_to_the_interval(failures: int, spread: float, wait: float | None) -> None:
    delay = schedule.next_delay(SCHEDULED, Outcome("", error="x", wait=wait), failures, spread)
    plain = min(3600, 60 * 2 ** (failures - 1))
    if wait is None:
        assert plain * 0.9 <= delay <= plain
    else:
        assert delay == max(plain, wait)


def test_a_good_run_comes_again_before_its_interval_is_over() -> None:
    assert schedule.next_delay(SCHEDULED, Outcome("ok"), 0, 0.0) == 3600
    assert schedule.next_delay(SCHEDULED, Outcome("ok"), 0, 1.0) == 3240
    assert schedule.next_delay(SCHEDULED, Outcome("ok", next_in=7), 0, 1.0) == 7


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ({"tag_name": "rust-v0.169.0"}, "0.169.0"),
        ({"tag_name": "v1.2.3", "name": "9.9.9"}, "1.2.3"),
        ({"tag_name": "", "name": "0.170.0"}, "0.170.0"),
        ({"tag_name": "nightly", "name": "codex-cli 0.170.0"}, "0.170.0"),
        ({"tag_name": None, "name": "0.63.0"}, "0.63.0"),
    ],
)
def test_releases(release: dict[str, Any], version: str) -> None:
    assert versions.release_of(release) == version


@pytest.mark.parametrize(
    "release",
    [
        {"tag_name": "rust-v0.170.0-alpha.3"},
        {"tag_name": "v0.170.0rc1", "name": "0.169.0"},
        {"tag_name": "rust-v0.170.0", "prerelease": True},
        {"tag_name": "rust-v0.170.0", "draft": True},
        {"tag_name": "nightly", "name": "latest"},
        {},
        [],
        "0.1",
        None,
    ],
)
def test_what_is_no_release(release: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        versions.release_of(release)


@given(JSON)
def test_any_answer_is_a_release_or_is_refused(value: object) -> None:
    try:
        assert versions.release_of(value)
    except ValueError as error:
        assert str(error)


def test_quota_numbers_are_cut_and_nonsense_is_null() -> None:
    body = {
        "plan_type": "pro\x1b[31m",
        "rate_limit": {
            "allowed": True,
            "limit_reached": "yes",
            "primary_window": {
                "used_percent": 37.9,
                "limit_window_seconds": "18000",
                "reset_after_seconds": -1,
                "reset_at": 1795567745,
            },
            "secondary_window": [],
        },
        "credits": {"has_credits": False, "balance": 12.5, "approx_local_messages": [1, 2]},
    }
    row = quota.columns(quota.parse(body))
    assert row["plan_type"] == "pro"
    assert (row["rate_allowed"], row["rate_limit_reached"]) == (True, None)
    assert (row["primary_used_percent"], row["primary_limit_seconds"]) == (37, 18000)
    assert (row["primary_reset_after_seconds"], row["primary_reset_at"]) == (None, "1795567745")
    assert row["secondary_used_percent"] is None
    assert (row["credit_balance"], row["approx_local_messages"]) == ("12.5", "[1, 2]")


@given(st.dictionaries(st.sampled_from(["plan_type", "rate_limit", "credits"]), JSON))
def test_any_quota_answer_makes_a_row(body: dict[str, Any]) -> None:
    row = quota.columns(quota.parse(body))
    assert all(value is None or isinstance(value, str | int | bool) for value in row.values())


def test_prices() -> None:
    body = {
        "gpt-5.1": {"input_per_1k": 0.00125, "output_per_1k": "0.01", "cached_per_1k": 0.000125, "currency": "eur"},
        "no-output": {"input_per_1k": 1},
        "negative": {"input_per_1k": -1, "output_per_1k": 1},
        "free": {"input_per_1k": 0, "output_per_1k": 0},
        "text": "x",
        "plain": {"input_per_1k": 1, "output_per_1k": 2},
    }
    first, second = pricing.parse(body, "USD")
    assert first == pricing.Price("gpt-5.1", "EUR", Decimal("0.00125"), Decimal("0.01"), Decimal("0.000125"))
    assert second.currency == "USD"
    assert second.cached == 0
    wrong: list[Any] = [[], {}, None, {"gpt-5.1": {}}]
    for bad in wrong:
        with pytest.raises(ValueError, match="the answer"):
            pricing.parse(bad, "USD")


@given(JSON)
def test_any_price_list_is_read_or_refused(value: object) -> None:
    try:
        assert pricing.parse(value, "USD")
    except ValueError as error:
        assert str(error)


PRICES = {
    "gpt-5.1": pricing.Price("gpt-5.1", "USD", Decimal("0.00125"), Decimal("0.01"), Decimal("0.000125")),
    "other": pricing.Price("other", "EUR", Decimal(1), Decimal(2), Decimal(3)),
}


def tokens(input: int, output: int, cached: int) -> TokenTotals:
    return TokenTotals(total=0, input=input, output=output, cached=cached, reasoning=0, events=1)


def test_the_cost_is_exact_and_unknown_models_are_not_guessed() -> None:
    usage = [
        ("gpt-5.1", tokens(4320, 560, 120)),
        (None, tokens(1000, 0, 0)),
        ("other", tokens(1, 1, 1)),
        ("gpt-9", tokens(10**9, 0, 0)),
    ]
    cost = pricing.cost_of(usage, PRICES)
    # 4.32 * 0.00125 + 0.56 * 0.01 + 0.12 * 0.000125, and 1 * 0.00125 for the row that names no model
    assert cost.by_model["gpt-5.1"] == Decimal("0.011015") + Decimal("0.00125")
    assert cost.totals == {"USD": Decimal("0.012265"), "EUR": Decimal("0.006")}
    assert cost.unpriced == ("gpt-9",)


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12)), max_size=8))
def test_costs_add_up(rows: list[tuple[int, int, int]]) -> None:
    usage = [("gpt-5.1", tokens(*row)) for row in rows]
    sums = tokens(*(sum(row[place] for row in rows) for place in range(3)))
    total = pricing.cost_of(usage, PRICES).totals.get("USD", Decimal(0))
    assert total == PRICES["gpt-5.1"].cost(sums)


@given(st.text(max_size=60))
def test_any_text_has_claims_or_none(text: str) -> None:
    assert isinstance(refresh.claims_of(text), dict)


def test_secrets_are_taken_out_of_texts() -> None:
    content = make_auth()
    tokens = content["tokens"]
    said = (
        f"401 for {tokens['access_token']} and {tokens['refresh_token']}: {json.dumps(content)} {content['auth_mode']}"
    )
    shown = redact(said, content)
    for secret in (tokens["access_token"], tokens["id_token"], tokens["refresh_token"]):
        assert secret not in shown
        assert all(part not in shown for part in secret.split(".") if len(part) >= 8)
    assert "401 for" in shown
    assert "chatgpt" in shown


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (200, {"Retry-After": "9"}, None),
        (500, {"Retry-After": "9"}, None),
        (429, {}, 60.0),
        (429, {"Retry-After": "9"}, 9.0),
        (429, {"Retry-After": "0"}, 1.0),
        (503, {"Retry-After": "9"}, 9.0),
        (503, {}, None),
        (403, {}, None),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "0"}, 1.0),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999"}, 86400.0),
        (403, {"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "99999999999"}, None),
        (429, {"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, 86400.0),
        (429, {"Retry-After": "soon"}, 60.0),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "soon"}, 60.0),
    ],
)
def test_how_long_a_service_asks_us_to_wait(status: int, headers: dict[str, str], wait: float | None) -> None:
    assert client.wait_of(status, client.dict_of(headers)) == wait


def test_places_hide_queries_and_users() -> None:
    assert client.place("https://user:pass@host:1/path?token=x#y") == "https://host:1/path"
    assert client.place("http://[::1]:9/a") == "http://[::1]:9/a"
    assert client.place("http://[::1") == client.place("http://a:b:c/") == "an invalid address"
