"""What Codex uses without cdx in front is counted, once and marked; and what runs could not count is found again."""

import contextlib
import fcntl
import json
import time
from pathlib import Path
from typing import Any

import pytest

from cdxsync.wrapper.src import claims
from cdxsync.wrapper.src.session_files import SessionFile
from cdxsync.wrapper.src.sweep import sweep
from tests.support.documents import make_auth
from tests.support.fleet import Fleet, running_fleet
from tests.support.machines import host
from tests.support.outside import context_of, date_back, notes, plain, run, session, started, sync, used
from tests.support.sessions import SESSIONS, count, meta, model, usage
from tests.support.together import until

DEAD = 2**22 + 1


def test_what_plain_codex_has_used_is_counted_by_the_next_run(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    plain(machine, *session(machine, "before", 1000))
    run(machine, *session(machine, "own", 10))
    assert used(synced, machine) == [(10, False)]
    plain(machine, *session(machine, "plain", 20))
    plain(machine, ["open", "before"], count(usage(1005), usage(5)))
    run(machine, *session(machine, "more", 30))
    assert sorted(used(synced, machine)) == [(10, False), (25, True), (30, False)]
    # Another program's session meanwhile, in the same folder.
    with started(machine, *session(machine, "last", 50)):
        plain(machine, *session(machine, "ide", 40, originator="codex_vscode", source="vscode"))
    assert sorted(used(synced, machine)[3:]) == [(40, True), (50, False)]
    sync(machine)
    assert len(used(synced, machine)) == 5


def test_a_session_that_a_run_goes_on_with(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    sync(machine)
    plain(machine, *session(machine, "shared", 20))
    done = machine.run_cdx(
        "exec",
        "-C",
        str(machine.home),
        "resume",
        "--last",
        json.dumps([["open", "shared"], count(usage(23), usage(3))]),
    )
    assert done.returncode == 0
    assert sorted(used(synced, machine)) == [(3, False), (20, True)]


def test_the_fleet_may_not_want_it(tmp_path: Path) -> None:
    with running_fleet(tmp_path / "home", env={"CDXSYNC_COUNT_OUTSIDE": "off"}) as fleet:
        fleet.upload(make_auth())
        machine = host(fleet, tmp_path, codex=SESSIONS)
        sync(machine)
        plain(machine, *session(machine, "plain", 20))
        run(machine, *session(machine, "own", 10))
        assert used(fleet, machine) == [(10, False)]
        assert machine.note("login.json")["outside"] is False
        plain(machine, *session(machine, "unseen", 30))
        sync(machine)
    with running_fleet(tmp_path / "home") as fleet:
        # What was used while it was off is not counted later.
        machine.env["CODEX_SYNC_BASE_URL"] = fleet.url
        plain(machine, ["open", "plain"], count(usage(24), usage(4)))
        sync(machine)
        assert used(fleet, machine) == [(10, False), (4, True)]


def test_a_note_without_files_is_recovered_by_what_stands_in_the_sessions(synced: Fleet, tmp_path: Path) -> None:
    """As an older cdx has left it when it was killed: a daemon held the files."""
    machine = host(synced, tmp_path, codex=SESSIONS)
    plain(machine, *session(machine, "before", 1000))
    (path,) = machine.home.glob(".codex/sessions/*/*/*/*.jsonl")
    date_back(path, time.time() - 3600)
    note = notes(machine) / "runs" / "20261129-0123456789abcdef01234567.json"
    note.parent.mkdir(parents=True, mode=0o700)
    note.write_text(json.dumps({"cwd": str(machine.home), "files": {}, "child": DEAD}))
    plain(machine, *session(machine, "lost", 20, originator="codex-tui", source="vscode"))
    plain(machine, ["open", "before"], count(usage(1003), usage(3)))
    plain(machine, *session(machine, "elsewhere", 500, cwd="/elsewhere"))
    sync(machine)
    assert used(synced, machine) == [(23, False)]
    assert not note.exists()
    sync(machine)
    assert len(used(synced, machine)) == 1


def test_what_an_older_cdx_has_counted_is_not_counted_again(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    plain(machine, *session(machine, "counted", 20), *session(machine, "killed", 100), count(usage(107), usage(7)))
    counted, killed = sorted(machine.home.glob(".codex/sessions/*/*/*/*.jsonl"))
    lines = killed.read_bytes().splitlines(keepends=True)
    (notes(machine) / "runs").mkdir(parents=True, mode=0o700)
    (notes(machine) / "counted.json").write_text(json.dumps({str(counted): [counted.stat().st_size, time.time()]}))
    note = {"cwd": str(machine.home), "files": {str(killed): sum(map(len, lines[:-1]))}, "child": DEAD}
    (notes(machine) / "runs" / "20261129-0123456789abcdef01234567.json").write_text(json.dumps(note))
    sync(machine)
    assert used(synced, machine) == [(7, False)]
    # It comes back for a while, and counts more.
    plain(machine, ["open", "counted"], count(usage(30), usage(10)))
    old = {str(counted): [counted.stat().st_size, time.time()]}
    (notes(machine) / "counted.json").write_text(json.dumps(old))
    plain(machine, ["open", "counted"], count(usage(31), usage(1)))
    sync(machine)
    assert used(synced, machine) == [(7, False), (1, True)]


def test_beside_a_run_of_an_older_cdx(synced: Fleet, tmp_path: Path) -> None:
    """Its sessions are left to it, and it is told what was counted of others."""
    machine = host(synced, tmp_path, codex=SESSIONS)
    sync(machine)
    note = notes(machine) / "runs" / "20261129-0123456789abcdef01234567.json"
    note.write_text(json.dumps({"cwd": str(machine.home), "files": {}, "child": None}))
    with note.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        plain(machine, *session(machine, "its", 20), *session(machine, "other", 30, cwd="/elsewhere"))
        sync(machine)
        assert used(synced, machine) == [(30, True)]
        its, other = sorted(machine.home.glob(".codex/sessions/*/*/*/*.jsonl"))
        told = machine.note("counted.json")
        assert {path: end for path, (end, _) in told.items()} == {str(other): other.stat().st_size}
        (notes(machine) / "counted.json").write_text(json.dumps(told | {str(its): [its.stat().st_size, time.time()]}))
        note.unlink()
    sync(machine)
    assert used(synced, machine) == [(30, True)]


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("killed", [False, True])
def test_when_cdx_is_updated_a_run_of_the_older_one_goes_on(
    synced: Fleet, tmp_path: Path, seen: bool, killed: bool
) -> None:
    """It counts at its end; where it is killed before that, another does."""
    machine = host(synced, tmp_path, codex=SESSIONS)
    plain(machine, *session(machine, "before", 1000))
    (path,) = machine.home.glob(".codex/sessions/*/*/*/*.jsonl")
    date_back(path, time.time() - 3600)
    own, size = path.with_name(path.name.replace("before", "own")), path.stat().st_size
    note = notes(machine) / "runs" / "20261129-0123456789abcdef01234567.json"
    note.parent.mkdir(parents=True, mode=0o700)
    files = {str(path): size, str(own): 0} if seen else {}
    note.write_text(json.dumps({"cwd": str(machine.home), "files": files, "child": None}))
    with note.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        plain(machine, *session(machine, "own", 20), ["open", "before"], count(usage(1003), usage(3)))
        sync(machine)
        assert used(synced, machine) == []
        if not killed:
            ends = {str(file): [file.stat().st_size, time.time()] for file in (path, own)}
            (notes(machine) / "counted.json").write_text(json.dumps(ends))
            note.unlink()
    sync(machine)
    sync(machine)
    assert used(synced, machine) == ([(23, False)] if killed else [])


@pytest.mark.slow
def test_many_at_once_some_of_which_are_killed(synced: Fleet, tmp_path: Path) -> None:
    """Each session uses another power of two, so that the sum tells which was lost, or counted twice."""
    machine = host(synced, tmp_path, codex=SESSIONS)
    sync(machine)
    numbers = range(24)
    with contextlib.ExitStack() as ends:
        for number in numbers:
            program = (str(machine.bin / "codex"),) if number % 3 == 2 else ()
            steps = session(machine, f"{number:02}-s", 1 << number)
            process = ends.enter_context(started(machine, *steps, program=program))
            if number % 6 == 3:
                sync(machine)
            if number % 4 == 1:
                process.kill()
    until(lambda: (machine.run_cdx("--wrapper-sync").returncode, list((notes(machine) / "runs").iterdir())) == (0, []))
    sync(machine)
    rows = used(synced, machine)
    assert sum(total for total, _ in rows) == sum(1 << number for number in numbers)
    assert sum(total for total, outside in rows if outside) & ~sum(1 << number for number in numbers[2::3]) == 0


def test_what_an_older_cdx_has_dropped_meanwhile_is_not_counted(synced: Fleet, tmp_path: Path) -> None:
    """After a month it forgets what it has counted."""
    machine = host(synced, tmp_path, codex=SESSIONS)
    sync(machine)
    plain(machine, *session(machine, "forgotten", 20), *session(machine, "counted", 30))
    kept = machine.note("claims.json") | {"at": time.time() - 40 * 86400}
    (notes(machine) / "claims.json").write_text(json.dumps(kept))
    (notes(machine) / "counted.json").write_text(json.dumps({"/x/rollout-counted.jsonl": [10, time.time()]}))
    sync(machine)
    plain(machine, ["open", "counted"], count(usage(34), usage(4)))
    sync(machine)
    assert used(synced, machine) == [(4, True)]


def test_a_disk_that_takes_nothing_leaves_the_usage_to_the_next_run(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    sync(machine)
    spool = notes(machine) / "spool"
    spool.rmdir()
    spool.write_text("in the way")
    assert "cannot save the usage" in run(machine, *session(machine, "own", 10))
    said = run(machine, ["say", "Token usage: total=9 input=7 output=2\n"])
    assert "cannot save the usage" in said
    assert used(synced, machine) == []
    spool.unlink()
    sync(machine)
    assert sorted(used(synced, machine)) == [(9, False), (10, False)]
    assert list((notes(machine) / "runs").iterdir()) == []


def test_a_disk_that_is_full_when_cdx_comes(synced: Fleet, tmp_path: Path) -> None:
    """Where counting begins cannot be kept either: what was there before is not counted later, what a run used is."""
    machine = host(synced, tmp_path, codex=SESSIONS)
    plain(machine, *session(machine, "before", 1000))
    claims_file = notes(machine) / "claims.json"
    claims_file.mkdir(parents=True, mode=0o700)
    assert run(machine, ["say", "nothing used"]) == ""
    assert "cannot keep what is counted" in run(machine, *session(machine, "own", 10))
    claims_file.rmdir()
    sync(machine)
    assert used(synced, machine) == [(10, False)]


def test_a_fork_of_an_older_version_has_turns_from_before_it(synced: Fleet, tmp_path: Path) -> None:
    """As seen with 0.120: the parent's records are copied with new dates. The parent has been deleted."""
    machine = host(synced, tmp_path, codex=SESSIONS)
    sync(machine)
    parent, turn, fork, own = (f"01a229a{number}-e371-7b23-9a3b-489f44e88b10" for number in "4567")
    copied = [["turn_context", {"model": "m", "turn_id": turn}], count(usage(100)), count(usage(170), usage(70))]
    plain(machine, ["open", fork], meta(fork, forked_from_id=parent), meta(parent), *copied)
    sync(machine)
    assert used(synced, machine) == []
    answers = [
        ["turn_context", {"model": "m", "turn_id": own}],
        count(usage(200), usage(30)),
        count(usage(200), usage(30)),
    ]
    plain(machine, ["open", fork], *answers)
    sync(machine)
    assert used(synced, machine) == [(30, True)]


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize(
    "named",
    [
        {"forked_from_id": "0123456789ab"},
        {"parent_thread_id": "0123456789ab"},
        {"source": {"subagent": {"thread_spawn": {"parent_thread_id": "0123456789ab", "depth": 1}}}},
    ],
)
def test_a_history_that_was_copied_counts_once(
    synced: Fleet, tmp_path: Path, named: dict[str, Any], archived: bool
) -> None:
    """Without identifiers that tell when they were made, the parent's file tells what is a copy."""
    machine = host(synced, tmp_path, codex=SESSIONS)
    parent, child = "0123456789ab", "ba9876543210"
    history = [model("m"), count(usage(100)), count(usage(170), usage(70))]
    run(machine, ["open", parent], meta(parent), *history)
    if archived:
        (path,) = machine.home.glob(".codex/sessions/*/*/*/*.jsonl")
        (machine.home / ".codex" / "archived_sessions").mkdir()
        path.rename(machine.home / ".codex" / "archived_sessions" / path.name)
    run(machine, ["open", child], meta(child, **named), meta(parent), *history, count(usage(200), usage(30)))
    assert [total for total, _ in used(synced, machine)] == [170, 30]


def test_sessions_below_a_linked_folder_count(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    elsewhere, sessions = tmp_path / "elsewhere", machine.home / ".codex" / "sessions"
    elsewhere.mkdir()
    sessions.mkdir(parents=True)
    (sessions / "2026").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(sessions)
    sync(machine)
    run(machine, *session(machine, "own", 10))
    plain(machine, *session(machine, "plain", 20))
    sync(machine)
    assert used(synced, machine) == [(10, False), (20, True)]


def test_a_session_that_codex_writes_again_counts_what_is_new(synced: Fleet, tmp_path: Path) -> None:
    """As `codex migrate-rollouts` does: each line is longer."""
    machine = host(synced, tmp_path, codex=SESSIONS)
    sync(machine)
    plain(machine, *session(machine, "migrated", 10))
    sync(machine)
    (path,) = machine.home.glob(".codex/sessions/*/*/*/*.jsonl")
    lines = [json.dumps(json.loads(line) | {"pad": "x" * 999}) for line in path.read_text().splitlines()]
    new = path.with_name("new")
    new.write_text("".join(line + "\n" for line in lines))
    new.replace(path)
    sync(machine)
    plain(machine, ["open", "migrated"], count(usage(13), usage(3)))
    sync(machine)
    assert used(synced, machine) == [(10, True), (3, True)]


def test_a_session_that_cannot_be_read_is_counted_when_it_can(synced: Fleet, tmp_path: Path) -> None:
    """As when it is moved just then."""
    machine = host(synced, tmp_path, codex=SESSIONS)
    sync(machine)
    plain(machine, *session(machine, "hidden", 20))
    context = context_of(machine)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(claims, "SessionFile", lambda path, *_, **__: SessionFile(path + ".gone"))
        assert sweep(context) == 0
    assert sweep(context) == 1
    sync(machine)
    assert used(synced, machine) == [(20, True)]


def test_when_much_waits_the_sessions_wait_too(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    sync(machine)
    plain(machine, *session(machine, "plain", 20))
    context = context_of(machine)
    for number in range(102):
        context.spool.add(f"{machine.env['NAME']}-{number}", [{"total": 1}])
    assert sweep(context) == 0
    sync(machine)
    sync(machine)
    assert sum(total for total, outside in used(synced, machine) if outside) == 20
