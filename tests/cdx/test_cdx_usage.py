"""Token usage of runs: from session files, JSON events and printed lines, each run counted once."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cdxsync.wrapper.src.document import format_time
from tests.support.documents import make_auth
from tests.support.fleet import Fleet, free_port
from tests.support.machines import Machine, Terminal, host
from tests.support.sessions import COUNTS, SESSIONS, count, meta, model, record, usage
from tests.support.together import until

LINE = "Token usage: total=4,880 input=4,200 (+ 120 cached) output=560 (reasoning 160)"
TURN = {
    "input_tokens": 4320,
    "cached_input_tokens": 120,
    "cache_write_input_tokens": 0,
    "output_tokens": 560,
    "reasoning_output_tokens": 160,
}

EVENT = json.dumps({"type": "turn.completed", "usage": TURN}) + "\n"


def rows(fleet: Fleet, machine: Machine) -> list[dict[str, Any]]:
    """The usage of a host as the server has it, oldest first, without what is absent."""
    names = (*COUNTS, "model", "line")
    return [
        {name: row[name] for name in names if row[name] is not None}
        for row in fleet.usages()
        if row["fqdn"] == machine.env["NAME"]
    ]


def session(machine: Machine, *steps: list[Any], arguments: tuple[str, ...] = ("exec",)) -> None:
    done = machine.run_cdx(*arguments, json.dumps(steps))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_run_is_counted_from_its_session_file_by_model(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    done = machine.run_cdx(
        "exec",
        json.dumps(
            [
                ["open", "a-1"],
                meta("a-1"),
                model("gpt-5.1"),
                count(usage(4880, 120, 560, 160)),
                count(None),
                count(usage(4880, 120, 560, 160)),
                count(usage(5000, 130, 600, 170), usage(120, 10, 40, 10)),
                model("gpt-5.1-mini"),
                count(usage(5100, 130, 650, 170), usage(100, 0, 50, 0)),
                ["say", LINE + "\n"],
                ["say", "tokens used\n4,760\n", 2],
            ]
        ),
    )
    assert done.returncode == 0
    assert rows(synced, machine) == [
        {"total": 5000, "input": 4270, "cached": 130, "output": 600, "reasoning": 170, "model": "gpt-5.1"},
        {"total": 100, "input": 50, "cached": 0, "output": 50, "reasoning": 0, "model": "gpt-5.1-mini"},
    ]
    assert machine.spooled() == []


def test_only_what_was_appended_counts(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    session(machine, ["open", "b-1"], meta("b-1"), model("m"), count(usage(100, 0, 10)))
    # The resumed session goes on in its file, with its running total.
    session(machine, ["open", "b-1"], model("m"), count(usage(150, 0, 15), usage(50, 0, 5)))
    # A fork starts with the total of its parent.
    session(
        machine,
        ["open", "b-2"],
        meta("b-2", forked_from_id="b-1"),
        model("m"),
        count(usage(190, 0, 20), usage(40, 0, 5)),
    )
    assert [row["total"] for row in rows(synced, machine)] == [100, 50, 40]
    assert machine.note("state.json")["sessions"] is True


def test_a_fork_that_copies_its_parents_history(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    parent, child = "0123456789ab", "ba9876543210"
    history = [model("m"), count(usage(100)), count(usage(170), usage(70))]
    session(machine, ["open", parent], meta(parent), *history)
    session(
        machine,
        ["open", child],
        meta(child, forked_from_id=parent),
        meta(parent),
        *history,
        count(usage(200), usage(30)),
    )
    records = [record(child, usage(11)), record(parent, usage(5))]
    session(machine, ["open", "third"], meta("third"), record("third", usage(7)), *records, count(usage(23), usage(7)))
    assert [row["total"] for row in rows(synced, machine)] == [170, 30, 7]


def test_a_total_that_goes_back_does_not_count_twice(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    session(
        machine,
        ["open", "r-1"],
        meta("r-1"),
        model("m"),
        count(usage(100)),
        count(usage(300), usage(200)),
        count(usage(130), usage(30)),  # the user went back to the first answer
        count(usage(140), usage(10)),
    )
    assert [row["total"] for row in rows(synced, machine)] == [340]


@pytest.mark.parametrize("ending", [["kill", 9], ["kill", 11], ["kill", 15]])
def test_a_crash_is_counted_too(synced: Fleet, tmp_path: Path, ending: list[Any]) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    steps = [["open", "c-1"], meta("c-1"), model("m"), count(usage(100)), ending]
    assert machine.run_cdx("exec", json.dumps(steps)).returncode == -ending[1]
    assert [row["total"] for row in rows(synced, machine)] == [100]


def test_a_killed_wrapper_leaves_its_run_to_the_next(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    process = subprocess.Popen(
        [
            str(machine.cdx),
            "exec",
            json.dumps([["open", "k-1"], meta("k-1"), model("m"), count(usage(100)), ["say", "ready\n"], ["wait"]]),
        ],
        env=machine.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    folder = machine.home / ".codex" / ".cdx" / "runs"
    until(lambda: any("k-1" in path.read_text() for path in folder.glob("*.json")))
    process.kill()
    process.wait(30)
    process.stdin.close()
    with process.stdout:
        process.stdout.read()  # ends when Codex has ended
    assert rows(synced, machine) == []
    until(lambda: (machine.run_cdx("--wrapper-sync").returncode, list(folder.glob("*.json"))) == (0, []))
    machine.run_cdx("--wrapper-sync")
    assert [row["total"] for row in rows(synced, machine)] == [100]


@pytest.mark.parametrize(
    ("arguments", "out", "err", "expected"),
    [
        (["exec"], LINE + "\n", "", [COUNTS | {"line": LINE}]),
        (
            ["exec"],
            "",
            "\x1b[1mToken usage:\x1b[0m total=9 input=7 output=2\n",
            [{"total": 9, "input": 7, "output": 2}],
        ),
        (["exec"], "", "tokens used\n4,760\n", [{"total": 4760, "line": "tokens used 4,760"}]),
        (["exec"], "hi\n", "[2025-08-01T10:00:00] tokens used: 1,234\n", [{"total": 1234}]),
        (
            ["exec", "--json"],
            EVENT,
            "tokens used\n4,760\n",
            [COUNTS],
        ),
        (["exec"], "how token usage is counted: total=5\n", "", []),
    ],
)
def test_without_a_session_file_the_output_tells(
    synced: Fleet, tmp_path: Path, arguments: list[str], out: str, err: str, expected: list[dict[str, Any]]
) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    (machine.home / ".codex").mkdir()
    (machine.home / ".codex" / "config.toml").write_text('model = "gpt-5.1"\n[other]\nmodel = "no"\n')
    done = machine.run_cdx(*arguments, json.dumps([["say", out], ["say", err, 2]]))
    assert (done.returncode, done.stdout, done.stderr) == (0, out, err)
    found = rows(synced, machine)
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert row["model"] == "gpt-5.1"
        assert {name: row.get(name) for name in wanted} == wanted


def test_a_terminal_is_read_along_only_where_it_must_be(synced: Fleet, tmp_path: Path) -> None:
    probe = f"""#!{sys.executable}
import os, sys
if sys.argv[1:] == ["--version"]:
    print("codex-cli VERSION"); sys.exit()
size = os.get_terminal_size(1)
names = [os.ttyname(n) == os.ttyname(0) for n in (0, 1, 2)]
print("seen", [os.isatty(n) for n in (0, 1, 2)], names, size.columns, size.lines, os.tcgetpgrp(0) == os.getpgrp())
print("{LINE}")
"""
    for version, own in (("0.169.0", True), ("0.20.0", False)):
        machine = host(synced, tmp_path, codex=probe.replace("VERSION", version))
        terminal = Terminal(machine)
        terminal.resize(97, 31)
        assert os.waitstatus_to_exitcode(terminal.wait()) == 0
        assert f"seen [True, True, True] [True, {own}, {own}] 97 31 True\r\n" in terminal.seen.replace("\r\r", "\r")
        assert [row["total"] for row in rows(synced, machine)] == ([] if own else [4880])


def test_what_could_not_be_sent_is_sent_next_time_and_once(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    machine.run_cdx("--wrapper-sync")
    steps = [["open", "s-1"], meta("s-1"), model("m"), count(usage(100))]
    machine.put_auth(make_auth(format_time(time.time())))
    done = machine.run_cdx("exec", json.dumps(steps), CODEX_SYNC_BASE_URL=f"https://localhost:{free_port()}")
    assert done.returncode == 0
    assert "the next run tries again" in done.stderr
    (waiting,) = machine.spooled()
    (path,) = machine.home.glob(".codex/.cdx/spool/*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    # As if an answer had been lost: the server has it, and the file is still there.
    kept = path.read_bytes()
    assert machine.run_cdx("--wrapper-sync").returncode == 0
    assert machine.spooled() == []
    path.write_bytes(kept)
    assert machine.run_cdx("--wrapper-sync").returncode == 0
    assert machine.spooled() == []
    assert waiting["key"] in path.name
    assert [row["total"] for row in rows(synced, machine)] == [100]


def test_runs_at_once_in_one_home_count_their_own(synced: Fleet, tmp_path: Path) -> None:
    """Two runs hold their session files open, two have closed them; all four end one after the other."""
    machine = host(synced, tmp_path, codex=SESSIONS)
    machine.run_cdx("--wrapper-sync")
    processes = []
    for number in range(4):
        steps: list[Any] = [["open", f"x-{number}"], meta(f"x-{number}"), model(f"m{number}")]
        steps += [count(usage(100 + number))] + ([["close"]] if number % 2 else [])
        steps += [["say", "ready\n"], ["wait"]]
        process = subprocess.Popen(
            [str(machine.cdx), "exec", json.dumps(steps)],
            env=machine.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n")
        assert process.returncode == 0
    found = sorted((row["model"], row["total"]) for row in rows(synced, machine))
    assert found == [("m0", 100), ("m1", 101), ("m2", 102), ("m3", 103)]
    # The first to end counted its own alone.
    assert list(machine.home.glob(".codex/.cdx/runs/*")) == []


def test_eight_runs_end_at_the_same_time(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    machine.run_cdx("--wrapper-sync")

    def one(number: int) -> None:
        steps = [["open", f"y-{number}"], meta(f"y-{number}"), model("m"), count(usage(1 << number)), ["close"]]
        assert machine.run_cdx("exec", json.dumps(steps)).returncode == 0

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    machine.run_cdx("--wrapper-sync")
    assert sum(row["total"] for row in rows(synced, machine)) == 255
    assert json.loads(machine.auth_file.read_text()) is not None
