"""How cdx reads Codex's counts: running totals, events and printed forms, as rules alone."""

import json
import tempfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.wrapper.src.owners import RunFacts, owners
from cdxsync.wrapper.src.printed_usage import OutputReader, event_usage, printed_usage
from cdxsync.wrapper.src.session_files import SessionFile, read_counts, used_since
from cdxsync.wrapper.src.sweep import merged
from cdxsync.wrapper.src.taps import plan_taps
from tests.support.sessions import COUNTS, usage


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(20, 60))
def test_the_printed_form_is_read_however_it_is_wrapped(
    given_: int, cached: int, output: int, reasoning: int, width: int
) -> None:
    total = given_ + cached + output
    numbers = f"total={total:,} input={given_:,} (+ {cached:,} cached) output={output:,} (reasoning {reasoning:,})"
    wrapped = "\n".join(numbers[i : i + width] for i in range(0, len(numbers), width))
    reader = OutputReader(False)
    for piece in ("noise\x1b[2K\r\n\x1b]0;title\x07Token usage: ", wrapped, "\nTo continue, run codex resume 0123\n"):
        reader.feed(piece.encode())
    reader.close()
    (entry,) = printed_usage(reader.text())
    counts = {"total": total, "input": given_, "cached": cached, "output": output, "reasoning": reasoning}
    assert {name: entry[name] for name in counts} == counts
    assert entry["line"] == "Token usage: " + numbers


def test_a_number_on_the_next_line_is_another() -> None:
    (entry,) = printed_usage("Token usage: total=12 input=7 output=5\n2026-01-01 done\n")
    assert (entry["output"], entry["total"]) == (5, 12)


@pytest.mark.parametrize("blank", [" ", "\t", "\n", "\r"])
def test_blanks_after_tokens_used(blank: str) -> None:
    reader = OutputReader(False)
    reader.feed(f"tokens used{blank * 60_000}x\ntokens used{blank * 3}1,234\n".encode())
    reader.close()
    assert len(reader.text()) <= OutputReader.MAX_KEPT
    assert [entry["total"] for entry in printed_usage(reader.text())] == [1234]


def test_what_is_kept_of_an_output_is_bounded_and_its_end() -> None:
    reader = OutputReader(False)
    for number in range(20_000):
        reader.feed(f"tokens {number} {'x' * 100}\n".encode())
    reader.feed(b"Token usage: total=12 input=7 output=5\n")
    for _ in range(100_000):
        reader.feed(b"y")
    reader.close()
    assert len(reader.text()) <= OutputReader.MAX_KEPT
    assert [entry["total"] for entry in printed_usage(reader.text())] == [12]


def test_a_line_that_comes_byte_by_byte() -> None:
    reader = OutputReader(False)
    for byte in b"x" * 200_000 + b"\nTokens used: 7\n":
        reader.feed(bytes([byte]))
    assert [entry["total"] for entry in printed_usage(reader.text())] == [7]


def test_the_same_entry_counts_once_and_the_order_stays() -> None:
    lines = [f"Token usage: total={n} input={n} output=0" for n in (3, 1, 3, 2, 1)]
    assert [entry["total"] for entry in printed_usage("\n".join(lines) + "\n")] == [3, 1, 2]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 7), st.integers(0, 500))
def test_running_totals_count_each_answer_once(answers: list[int], repeat: int, inherited: int) -> None:
    before, counted, running = None, 0, inherited
    for index, answer in enumerate(answers):
        running += answer
        event = read_counts(usage(running)), read_counts(usage(answer))
        for _ in range(2 if index == repeat else 1):
            used = used_since(before, *event)
            counted += used["total"] if used else 0
            before = event[0]
    assert counted == sum(answers)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [([], None), ([10], 10), ([10, 10], 20), ([10, 25], 25), ([25, 10], 35), ([10, 25, 5], 30)],
)
def test_turn_events_are_totals_of_the_session(inputs: list[int], expected: int | None) -> None:
    """Seen with Codex 0.169: a resumed session's event tells the sum of all its turns."""
    events = [read_counts({"input_tokens": value, "output_tokens": value}) for value in inputs]
    found = event_usage(events)
    assert (found and found["input"]) == expected


@given(st.dictionaries(st.text(max_size=20), st.one_of(st.integers(), st.text(), st.booleans(), st.none())))
def test_strange_counts_are_no_counts(value: dict[str, Any]) -> None:
    assert read_counts(value) is None


pieces = st.sampled_from(
    [
        "Token usage:",
        "tokens used",
        "total=",
        "input=",
        "(+",
        "cached)",
        "output=",
        "(reasoning",
        ",",
        "1,234",
        "9" * 40,
    ]
)


@given(st.lists(pieces | st.text(max_size=4), max_size=15).map(" ".join))
def test_what_looks_like_usage_is_read_or_left(text: str) -> None:
    for entry in printed_usage(text):
        assert all(isinstance(entry[name], int) for name in COUNTS if name in entry)
        assert len(entry["line"]) <= 300


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = "id cwd source originator timestamp parent_thread_id forked_from_id turn_id model type info usage thread_id"
strange_facts = st.dictionaries(st.sampled_from(names.split()), json_values)
strange_records = st.fixed_dictionaries(
    {"type": st.sampled_from(("session_meta", "turn_context", "event_msg", "token_usage_record")) | json_values},
    optional={"payload": strange_facts | json_values, "timestamp": json_values},
)


@given(st.lists(strange_records, max_size=6))
def test_strange_records_are_read_or_left(records: list[dict[str, Any]]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write("".join(json.dumps(record) + "\n" for record in records) + "[" * 9999 + '"session_meta"\n')
        file.flush()
        session = SessionFile(file.name, find=lambda _: file.name)
        assert session.is_read
        run = RunFacts({"cwd": "/one", "started": 1.0})
        assert set(owners([session], [run])) == {session.name}
        assert isinstance(merged([session]), list)


@given(st.binary(max_size=300))
def test_any_bytes_can_be_output_and_session(data: bytes) -> None:
    for events in (True, False):
        reader = OutputReader(events)
        reader.feed(data)
        reader.close()
        printed_usage(reader.text())
        event_usage(reader.events)


@pytest.mark.parametrize(
    "words", ["app-server", "-c a=b app-server", "-m exec mcp-server", "-c a=b login", "hello logout"]
)
def test_what_speaks_a_protocol_is_not_read_along(words: str) -> None:
    assert plan_taps(words.split(), "0.1.0", {"prints": True}) == []
    assert plan_taps(["exec", *words.split()], "0.1.0", {"prints": True}) == [1, 2]
