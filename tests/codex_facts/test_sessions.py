"""How Codex says what it has used: session files, events and printed numbers."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.codex_home import HI, CodexHome
from tests.support.provider import running_provider
from tests.support.real_codex import RealCodex

pytestmark = [pytest.mark.codex, pytest.mark.every_codex]

COUNTS = {
    "input_tokens": 4320,
    "cached_input_tokens": 120,
    "output_tokens": 560,
    "reasoning_output_tokens": 160,
    "total_tokens": 4880,
}


@dataclass
class Ran:
    """A home in which `codex exec --json` has run once, and its events."""

    home: CodexHome
    events: list[dict[str, Any]]

    @property
    def thread(self) -> str:
        """The session."""
        return str(self.events[0]["thread_id"])


@pytest.fixture(scope="module")
def ran(codex: RealCodex, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    with running_provider() as provider:
        home = CodexHome(codex, tmp_path_factory.mktemp("ran"), provider)
        home.put_auth(provider.login())
        yield Ran(home, [json.loads(line) for line in home.exec("--json").stdout.splitlines()])


def within(counts: dict[str, int], value: object) -> bool:
    """Whether an object has these counts, and may have others."""
    return isinstance(value, dict) and {name: value.get(name) for name in counts} == counts


def test_a_session_file_says_whose_it_is_and_what_each_answer_has_used(ran: Ran) -> None:
    [path] = ran.home.sessions()
    records = ran.home.records(path)
    assert re.fullmatch(r"rollout-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-[0-9a-f-]{36}\.jsonl", path.name)
    meta = records[0]
    assert (meta["type"], meta["payload"]["cwd"]) == ("session_meta", str(ran.home.work))
    assert path.name.endswith(f"{meta['payload']['id']}.jsonl")
    assert (meta["payload"]["id"], meta["payload"]["originator"]) == (ran.thread, "codex_exec")
    assert {"timestamp", "source"} <= meta["payload"].keys()
    [model] = {record["payload"]["model"] for record in records if record["type"] == "turn_context"}
    assert model == "gpt-5.1"
    [used] = [record["payload"] for record in records if record["type"] == "token_usage_record"]
    assert used["thread_id"] == ran.thread
    assert within(COUNTS, used["usage"])
    totals = [record["payload"]["info"] for record in records if record["payload"].get("type") == "token_count"]
    assert within(COUNTS, totals[-1]["total_token_usage"])
    assert within(COUNTS, totals[-1]["last_token_usage"])


def test_a_fork_names_its_parent_and_counts_for_itself(ran: Ran) -> None:
    assert ran.home.run("exec", "--skip-git-repo-check", "fork", ran.thread, "forked").returncode == 0
    [path] = [path for path in ran.home.sessions() if ran.thread not in path.name]
    meta, *records = ran.home.records(path)
    assert meta["payload"]["forked_from_id"] == ran.thread
    used = [record["payload"] for record in records if record["type"] == "token_usage_record"]
    assert [within(COUNTS, one["usage"]) for one in used if one["thread_id"] == meta["payload"]["id"]] == [True]


def test_events_are_running_totals_also_of_a_session_that_is_resumed(ran: Ran) -> None:
    done = ran.home.run("exec", "--skip-git-repo-check", "resume", "--json", ran.thread, "again")
    again = [json.loads(line) for line in done.stdout.splitlines()]
    for times, events in enumerate((ran.events, again), 1):
        [usage] = [event["usage"] for event in events if event["type"] == "turn.completed"]
        assert within({name: number * times for name, number in COUNTS.items() if name != "total_tokens"}, usage)
    # The session goes on in its file.
    [path] = [path for path in ran.home.sessions() if ran.thread in path.name]
    assert sum(record["type"] == "token_usage_record" for record in ran.home.records(path)) == 2


def test_an_ephemeral_run_leaves_no_file_and_prints_a_number_without_cached_tokens(ran: Ran) -> None:
    before = ran.home.sessions()
    done = ran.home.exec("--ephemeral")
    assert (done.stdout, ran.home.sessions()) == (f"{HI}\n", before)
    assert re.search(r"^tokens used\n4,760\n", done.stderr, re.MULTILINE)


def test_version_is_printed_alone(home: CodexHome) -> None:
    assert home.run("--version").stdout == f"codex-cli {home.codex.version}\n"
