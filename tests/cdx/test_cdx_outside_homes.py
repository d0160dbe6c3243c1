"""Homes whose sessions are another's too, were restored, or are removed: each token is counted once."""

import copy
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from cdxsync.wrapper.src import claims
from cdxsync.wrapper.src.session_files import SessionFile
from cdxsync.wrapper.src.sweep import sweep
from tests.support.fleet import Fleet
from tests.support.machines import host
from tests.support.outside import context_of, date_back, notes, plain, run, session, started, sync, used
from tests.support.sessions import SESSIONS, count, usage
from tests.support.together import until


def test_two_homes_with_the_same_sessions(synced: Fleet, tmp_path: Path) -> None:
    """As of somebody with two logins who resumes the sessions of one with the other."""
    machine = host(synced, tmp_path, codex=SESSIONS)
    first = machine.home / ".codex"
    second = machine.home / "second"
    (first / "sessions").mkdir(parents=True)
    second.mkdir()
    (second / "sessions").symlink_to(first / "sessions")
    (first / ".cdx").mkdir(exist_ok=True)
    plain(machine, *session(machine, "before", 1000))
    other = copy.copy(machine)
    other.env = machine.env | {"CODEX_HOME": str(second)}
    for one in (machine, other):
        sync(one)
    run(machine, *session(machine, "one", 10))
    run(other, *session(machine, "two", 20))
    plain(machine, *session(machine, "plain", 40))
    with started(other, *session(machine, "three", 80)):
        run(machine, *session(machine, "four", 1))
        sync(machine)
        assert sorted(used(synced, machine)) == [(1, False), (10, False), (20, False), (40, True)]
    with started(other, *session(machine, "killed", 160)) as process:
        process.kill()
        process.wait()
    until(lambda: (machine.run_cdx("--wrapper-sync").returncode, len(used(synced, machine))) == (0, 5))
    until(lambda: (other.run_cdx("--wrapper-sync").returncode, len(used(synced, machine))) == (0, 6))
    for one in (machine, other, machine):
        sync(one)
    assert sorted(used(synced, machine))[4:] == [(80, False), (160, False)]
    assert list((first / ".cdx" / "runs").iterdir()) == []


@pytest.mark.parametrize("by_run", [False, True])
def test_a_session_that_comes_with_an_older_history(synced: Fleet, tmp_path: Path, by_run: bool) -> None:
    """As one that Codex had compressed: what goes on with it makes a file of it again."""
    machine = host(synced, tmp_path, codex=SESSIONS)
    plain(machine, *session(machine, "older", 1000))
    (path,) = machine.home.glob(".codex/sessions/*/*/*/*.jsonl")
    date_back(path, time.time() - 10 * 86400)
    away = path.rename(machine.home / "away")
    sync(machine)
    steps = [["open", "older"], count(usage(1003), usage(3))]
    away.rename(path)
    if by_run:
        away = path.rename(away)
        program = (str(machine.cdx), "exec", "-C", str(machine.home), "resume", "--last")
        with started(machine, program=program):
            away.rename(path)
            plain(machine, *steps)
    else:
        plain(machine, *steps)
        sync(machine)
    assert used(synced, machine) == [(3, not by_run)]


def test_a_clock_that_was_ahead_when_cdx_came(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    sync(machine)
    kept = machine.note("claims.json") | {"since": time.time() + 400 * 86400}
    (notes(machine) / "claims.json").write_text(json.dumps(kept))
    plain(machine, *session(machine, "plain", 20))
    run(machine, *session(machine, "own", 10))
    assert sorted(used(synced, machine)) == [(10, False), (20, True)]


def test_a_home_that_was_restored_is_not_read(synced: Fleet, tmp_path: Path) -> None:
    """Its files are others on the disk, and there may be gigabytes of them."""
    machine = host(synced, tmp_path, codex=SESSIONS)
    plain(machine, *session(machine, "before", 1000))
    (path,) = machine.home.glob(".codex/sessions/*/*/*/*.jsonl")
    sync(machine)
    plain(machine, *session(machine, "counted", 20))
    sync(machine)
    late, copied = path.with_name(path.name.replace("before", "copied")), time.time() - 10 * 86400
    shutil.copy(path, late)
    os.utime(late, (copied, copied))
    for old in path.parent.iterdir():
        shutil.copy2(old, new := old.with_name("new"))
        new.replace(old)
    read = []

    class Watched(SessionFile):
        def _read(self) -> None:
            read.append(self.name)
            super()._read()

    context = context_of(machine)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(claims, "SessionFile", Watched)
        assert sweep(context) == 0
        assert read == []
        patched.setattr(claims, "is_same", None)  # nor is it looked at each time
        assert sweep(context) == 0
    for name, total in (("before", 1003), ("counted", 24), ("copied", 1005)):
        plain(machine, ["open", name], count(usage(total), usage(total % 10)))
    sync(machine)
    assert used(synced, machine) == [(20, True), (3 + 4 + 5, True)]


def test_sessions_that_are_copied_here_later_are_not_counted(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=SESSIONS)
    sync(machine)
    plain(machine, *session(machine, "copied", 1000))
    (path,) = machine.home.glob(".codex/sessions/*/*/*/*.jsonl")
    then = time.time() - 10 * 86400
    date_back(path, then)
    os.utime(path, (then, then))
    sync(machine)
    plain(machine, ["open", "copied"], count(usage(1003), usage(3)))
    sync(machine)
    assert used(synced, machine) == [(3, True)]


def test_uninstalling_while_a_run_goes_on(synced: Fleet, tmp_path: Path) -> None:
    """What it has used by then is counted, and it leaves nothing behind at its end."""
    machine = host(synced, tmp_path, codex=SESSIONS)
    before = [row["id"] for row in synced.admin_call("GET", "/admin/usage")["usages"]]
    with started(machine, *session(machine, "own", 10)):
        plain(machine, *session(machine, "ide", 20, originator="codex_vscode", source="vscode"))
        done = machine.run_cdx("--uninstall", "--yes")
        assert done.returncode == 0, done.stderr
        assert "a run of cdx goes on in this home: what it uses from now on is not counted" in done.stderr
    assert list(machine.home.glob(".codex/*")) == []
    rows = [row for row in synced.admin_call("GET", "/admin/usage")["usages"] if row["id"] not in before]
    assert sorted((row["total"], row["outside"]) for row in rows) == [(10, False), (20, True)]
