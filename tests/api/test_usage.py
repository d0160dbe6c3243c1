"""POST /usage: what is taken, what is refused, and that nothing is lost or counted twice."""

import functools
import json
import threading
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.base import texts
from cdxsync.base.errors import Invalid
from cdxsync.usage import entries
from tests.support.fleet import Client, Fleet
from tests.support.together import at_once

pytestmark = pytest.mark.every_engine

names = (f"usage{number}.example.net" for number in count())
ABSENT = {"line": None, "total": None, "input": None, "output": None, "cached": None, "reasoning": None, "model": None}


def report(client: Client, body: Any, **headers: str) -> dict[str, Any]:
    response = client.call("POST", "/usage", json=body, headers=headers)
    assert response.status_code == 200, response.text
    data: dict[str, Any] = response.json()["data"]
    return data


def month(client: Client) -> dict[str, int]:
    answer = client.auth(last_refresh="2026-01-01T00:00:00Z", digest="0" * 64)
    totals: dict[str, int] = answer.json()["data"]["token_usage_month"]
    return totals


def test_one_entry(fleet: Fleet) -> None:
    name = next(names)
    with fleet.client(fleet.key(name)) as client:
        entry = {
            "total": 4880,
            "input": "4320",
            "output": 560.0,
            "cached": 120,
            "reasoning": None,
            "model": " gpt-5.1 ",
        }
        data = report(client, entry)
        shown = ABSENT | {"total": 4880, "input": 4320, "output": 560, "cached": 120, "model": "gpt-5.1"}
        assert data["recorded"] == 1
        assert {name: data["usages"][0][name] for name in shown} == shown
        assert {name: data[name] for name in shown} == shown
        assert data["recorded_at"] == data["usages"][0]["recorded_at"]
        assert isinstance(data["host_id"], int)
        totals = {"total": 4880, "input": 4320, "output": 560, "cached": 120, "reasoning": 0, "events": 1}
        assert month(client) == totals
    logged = fleet.rows("SELECT actor, details FROM logs WHERE action = 'token.usage' ORDER BY id DESC LIMIT 1")[0]
    assert logged[0] == f"host:{name}"
    assert json.loads(logged[1]) == {"total": 4880, "input": 4320, "output": 560, "cached": 120, "model": "gpt-5.1"}


def test_many_entries_and_their_roll_ups(fleet: Fleet) -> None:
    name = next(names)
    with fleet.client(fleet.key(name)) as client:
        data = report(
            client,
            {
                "usages": [
                    {"total": 10, "model": "a"},
                    {"total": 5, "output": 2, "model": "b"},
                    {"total": 1, "model": "a"},
                    {"line": "Token usage: total=1,000 input=900 (+ 50 cached) output=50 (reasoning 20)"},
                    {"line": "nothing to count here"},
                ]
            },
        )
        assert data["recorded"] == len(data["usages"]) == 5
        assert "recorded_at" not in data
        assert data["usages"][3]["total"] == 1000
        assert data["usages"][3]["cached"] == 50
        assert data["usages"][4] == ABSENT | {
            "line": "nothing to count here",
            "recorded_at": data["usages"][4]["recorded_at"],
        }
        assert month(client) == {
            "total": 1016,
            "input": 900,
            "output": 52,
            "cached": 50,
            "reasoning": 20,
            "events": 5,
        }
    days = fleet.rows(
        "SELECT model, total, events FROM usage_days JOIN hosts ON hosts.id = host_id WHERE fqdn = ? ORDER BY model",
        name,
    )
    assert days == [("", 1000, 2), ("a", 11, 2), ("b", 5, 1)]
    shown = json.loads(fleet.cli("--json", "usage", "month").stdout)["days"]
    assert [(row["model"], row["total"]) for row in shown if row["fqdn"] == name] == [(None, 1000), ("a", 11), ("b", 5)]
    listed = json.loads(fleet.cli("usage", "list", "--limit", "2", "--json").stdout)["usages"]
    assert [row["line"] for row in listed] == ["nothing to count here", data["usages"][3]["line"]]
    assert "\t1000\t900\t50\t50\tcdx\n" in fleet.cli("usage", "list").stdout
    assert fleet.cli("usage", "month", "2026-13", check=False).returncode == 2


def test_what_was_used_outside_cdx_is_marked(fleet: Fleet) -> None:
    name = next(names)
    entries = [{"total": 3, "outside": True}, {"total": 4, "outside": False}, {"total": 5, "outside": None}]
    with fleet.client(fleet.key(name)) as client:
        given = report(client, {"usages": entries})["usages"]
        assert [entry.get("outside") for entry in given] == [True, None, None]
        assert report(client, entries[0])["outside"] is True
        assert "outside" not in report(client, entries[1])
        assert month(client)["total"] == 19
    listed = json.loads(fleet.cli("usage", "list", "--limit", "5", "--host", name, "--json").stdout)["usages"]
    assert [(row["total"], row["outside"]) for row in listed] == [
        (4, False),
        (3, True),
        (5, False),
        (4, False),
        (3, True),
    ]
    shown = fleet.cli("usage", "list", "--host", name).stdout
    assert "\t3\t\t\t\toutside cdx\n" in shown
    assert "\t4\t\t\t\tcdx\n" in shown
    assert fleet.host(name)["token_usage"]["outside"] is False
    logged = fleet.rows("SELECT details FROM logs WHERE action = 'token.usage' ORDER BY id DESC LIMIT 2")
    assert [json.loads(details) for (details,) in logged] == [{"total": 4}, {"total": 3, "outside": True}]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"usages"}),
        ({"model": "gpt-5.1"}, {"usages"}),
        ({"line": " \x1b[31m "}, {"usages"}),
        ({"usages": []}, {"usages"}),
        ({"usages": [{"total": 1}] * 1001}, {"usages"}),
        ({"usages": [{"total": 1}, {}]}, {"usages.1"}),
        ({"usages": [{"total": 1}, "text", None]}, {"usages.1", "usages.2"}),
        ({"usages": [{"total": -1, "input": "1,000"}]}, {"usages.0.total", "usages.0.input"}),
        ({"usages": {"x": {"output": True}}}, {"usages.0.output"}),
        ({"total": "many"}, {"total"}),
        ({"total": [1]}, {"total"}),
        ({"total": 1, "cached": "1,000"}, {"cached"}),
        ({"total": 1, "reasoning": -5}, {"reasoning"}),
        ({"total": 10**10 + 1}, {"total"}),
        ({"total": "1e400"}, {"total"}),
        ({"total": 1, "model": 5}, {"model"}),
        ({"total": 1, "model": "m" * 129}, {"model"}),
        ({"line": 5}, {"line"}),
        ({"total": 1, "outside": "yes"}, {"outside"}),
        ({"usages": [{"total": 1, "outside": 1}]}, {"usages.0.outside"}),
        ({"line": "x" * 65536}, {"line"}),
    ],
)
def test_wrong_entries_are_named_and_nothing_is_stored(fleet: Fleet, body: Any, fields: set[str]) -> None:
    key = fleet.key("wrong.example.net")
    before = fleet.rows("SELECT count(*) FROM token_usages")
    with fleet.client(key) as client:
        response = client.call("POST", "/usage", json=body)
    assert response.status_code == 422
    assert set(response.json()["errors"]) == fields
    assert fleet.rows("SELECT count(*) FROM token_usages") == before


def test_a_scalar_usages_reads_the_top_level(fleet: Fleet) -> None:
    with fleet.client(fleet.key(next(names))) as client:
        assert report(client, {"usages": 5, "total": "1e3"})["total"] == 1000
        assert report(client, {"usages": {"a": {"total": 1.9}, "b": {"line": "x"}}})["recorded"] == 2


def test_a_thousand_entries_are_taken(fleet: Fleet) -> None:
    with fleet.client(fleet.key(next(names))) as client:
        assert report(client, {"usages": [{"total": 1}] * 1000})["recorded"] == 1000
        assert month(client)["total"] == 1000


def test_control_characters_are_removed(fleet: Fleet) -> None:
    with fleet.client(fleet.key(next(names))) as client:
        line = "\x1b]0;title\x07\x1b[1;31mred\x1b[0m\r\nnext\x00\x9b2J\u202eend"
        data = report(client, {"line": line, "model": "gpt\x1b[2J-5"})
    assert data["line"] == "red next2Jend"
    assert data["model"] == "gpt-5"


@given(st.text())
def test_clean_texts_hold_no_control_character_and_stay_as_they_are(text: str) -> None:
    clean = texts.clean(text)
    assert not any((ord(c) < 32 and c != "\t") or 0x7F <= ord(c) <= 0x9F for c in clean)
    assert texts.clean(clean) == clean


def test_a_retry_with_the_same_key_is_counted_once(fleet: Fleet) -> None:
    with fleet.client(fleet.key(next(names))) as client, fleet.client(fleet.key(next(names))) as other:
        first = report(client, {"total": 7}, **{"Idempotency-Key": "run-1"})
        assert report(client, {"total": 7}, **{"Idempotency-Key": "run-1"}) == first
        assert month(client)["total"] == 7
        assert report(client, {"total": 7}, **{"Idempotency-Key": "run-2"})["recorded"] == 1
        assert report(client, {"total": 7})["recorded"] == 1
        assert month(client)["events"] == 3
        # Another host's key of the same text is another key.
        report(other, {"total": 5}, **{"Idempotency-Key": "run-1"})
        assert month(other)["total"] == 5
        response = client.call("POST", "/usage", json={"total": 8}, headers={"Idempotency-Key": "run-1"})
        assert response.status_code == 422
        assert set(response.json()["errors"]) == {"Idempotency-Key"}
        for bad in ("\xe9", "x" * 256):
            response = client.call("POST", "/usage", json={"total": 8}, headers={"Idempotency-Key": bad})
            assert response.status_code == 422
        # A refused call may be corrected and sent again under its key.
        assert client.call("POST", "/usage", json={"total": -1}, headers={"Idempotency-Key": "k"}).status_code == 422
        assert report(client, {"total": 1}, **{"Idempotency-Key": "k"})["recorded"] == 1


def test_retries_at_once_are_counted_once(fleet: Fleet) -> None:
    key = fleet.key(next(names))
    barrier = threading.Barrier(8, timeout=60)
    answers: list[str] = []

    def send() -> None:
        with fleet.client(key) as client:
            barrier.wait()
            answers.append(json.dumps(report(client, {"total": 3}, **{"Idempotency-Key": "same"})))

    at_once([send] * 8)
    assert len(answers) == 8
    assert len(set(answers)) == 1
    with fleet.client(key) as client:
        assert month(client)["events"] == 1


def test_roll_ups_agree_with_rows_after_many_hosts_at_once(fresh_fleet: Fleet) -> None:
    keys = [fresh_fleet.key(f"h{number}.example.net") for number in range(6)]

    def send(number: int) -> None:
        with fresh_fleet.client(keys[number]) as client:
            for turn in range(10):
                report(client, {"usages": [{"total": turn, "model": f"m{turn % 2}"}, {"input": number, "output": 1}]})

    at_once(functools.partial(send, number) for number in range(6))
    columns = "coalesce(sum(total), 0), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0)"
    by_row = fresh_fleet.rows(
        f"SELECT host_id, substr(created_at, 1, 10), coalesce(model, ''), {columns}, count(*) FROM token_usages"
        " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    )
    rolled = fresh_fleet.rows(
        "SELECT host_id, day, model, total, input_tokens, output_tokens, events FROM usage_days ORDER BY 1, 2, 3",
    )
    assert rolled == by_row


def test_totals_outlive_their_host(fresh_fleet: Fleet) -> None:
    with fresh_fleet.client(fresh_fleet.key("gone.example.net")) as client:
        report(client, {"total": 9})
    fresh_fleet.cli("hosts", "delete", "gone.example.net", "--yes")
    days = json.loads(fresh_fleet.cli("--json", "usage", "month").stdout)["days"]
    assert [(row["fqdn"], row["total"]) for row in days] == [(None, 9)]
    assert json.loads(fresh_fleet.cli("--json", "usage", "list").stdout)["usages"][0]["fqdn"] is None


def test_what_a_month_has_cost(fresh_fleet: Fleet) -> None:
    """At the prices of the settings: cached tokens are added, reasoning is not charged, and no price is guessed."""
    with fresh_fleet.client(fresh_fleet.key("a.example.net")) as client:
        priced = {"total": 3000, "input": 1000, "output": 1000, "cached": 1000, "reasoning": 500}
        usages = [priced | {"model": "gpt-5.1"}, {"total": 10, "input": 4000}, {"total": 7, "model": "mystery"}]
        report(client, {"usages": usages})
    cost = json.loads(fresh_fleet.cli("--json", "usage", "month").stdout)["cost"]
    assert cost["totals"] == {"USD": 0.016375}
    assert cost["unpriced"] == ["mystery"]
    assert [(row["model"], row["cost"], row["currency"]) for row in cost["models"]] == [
        ("gpt-5.1", 0.011375, "USD"),
        (None, 0.005, "USD"),
        ("mystery", None, None),
    ]
    shown = fresh_fleet.cli("usage", "month", "--cost")
    assert "gpt-5.1\t3000\t1000\t1000\t1000\t0.0114 USD\n" in shown.stdout
    assert "mystery\t7\t0\t0\t0\tunpriced\n" in shown.stdout
    assert "Sum: 0.02 USD" in shown.stderr
    assert "no price is known: mystery" in shown.stderr
    assert fresh_fleet.admin_call("GET", "/admin/usage/month")["cost"] == cost
    overview = fresh_fleet.admin_call("GET", "/admin/overview")
    assert overview["pricing_month_cost"] == 0.016375
    assert overview["pricing_unpriced_models"] == ["mystery"]
    assert "0.02 USD; no price is known of mystery" in fresh_fleet.cli("overview").stdout


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        (
            "Token usage: total=4,880 input=4,200 (+ 120 cached) output=560 (reasoning 160)",
            {"total": 4880, "input": 4200, "output": 560, "cached": 120, "reasoning": 160},
        ),
        ("Token usage: total=10 input=7 output=3", {"total": 10, "input": 7, "output": 3}),
        ("TOKEN USAGE: Total: 5, Cached: 2", {"total": 5, "cached": 2}),
        ("token usage unknown", {}),
        ("total=5 input=3", {}),
        ("Token usage: subtotal=5", {}),
        (f"Token usage: total={'9' * 40}", {}),
    ],
)
def test_the_printed_line_of_codex(line: str, counts: dict[str, int]) -> None:
    assert entries.parse_line(line) == counts


COUNTS = st.integers(0, 10**10)


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_printed_numbers_are_read_back(total: int, given_in: int, cached: int, output: int, reasoning: int) -> None:
    line = f"Token usage: total={total:,} input={given_in:,} (+ {cached:,} cached)"
    line += f" output={output:,} (reasoning {reasoning:,})"
    entry = entries.read_body({"line": line}).usages[0]
    assert entry.numbers() == {
        "total": total,
        "input": given_in,
        "output": output,
        "cached": cached,
        "reasoning": reasoning,
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["total", "usages", "line", "x"]), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*entries.NUMBERS, "line", "model", "usages"]), JSON))
def test_any_body_is_read_or_its_fields_are_named(body: dict[str, Any]) -> None:
    try:
        found = entries.read_body(body).usages
    except Invalid as error:
        assert error.errors
        return
    assert all(any(value is not None for value in (*entry.numbers().values(), entry.line)) for entry in found)
