"""Whose a session file is: by what stands in it, not by who has it open."""

import json
from pathlib import Path
from typing import Any

import pytest

from cdxsync.wrapper.src.document import format_time
from cdxsync.wrapper.src.owners import RunFacts, owners, run_kind, session_ids, working_folder
from cdxsync.wrapper.src.session_files import SessionFile

NOW = 1_800_000_000.0
THREAD = "01a2299a-eed9-7971-81c2-ba15a1d11a3{}"
SCREEN: dict[str, Any] = {"originator": "codex-tui", "source": "cli"}
EXEC: dict[str, Any] = {"originator": "codex_exec", "source": "exec"}
IDE: dict[str, Any] = {"originator": "codex_vscode", "source": "vscode"}


def session(folder: Path, number: int, after: float, **facts: Any) -> SessionFile:
    """A session that began so many seconds after `NOW`, in the folder /one."""
    meta = {"id": THREAD.format(number), "cwd": "/one", "timestamp": format_time(NOW + after)} | facts
    record = {"timestamp": format_time(NOW + after), "type": "session_meta", "payload": meta}
    path = folder / f"rollout-2026-11-29T10-00-00-{meta['id']}.jsonl"
    path.write_text(json.dumps(record) + "\n")
    return SessionFile(str(path))


def run(after: float, kind: str, cwd: str | None = "/one", **facts: Any) -> RunFacts:
    """A run that began so many seconds after `NOW`."""
    return RunFacts({"started": NOW + after, "kind": kind, "cwd": cwd} | facts)


def test_folder_start_and_program_tell(tmp_path: Path) -> None:
    screen, headless, elsewhere = run(0, "screen"), run(10, "exec"), run(0, "exec", "/two")
    files = [
        session(tmp_path, 0, 1, **SCREEN),
        session(tmp_path, 1, 11, **EXEC),
        session(tmp_path, 2, 1, **EXEC, cwd="/two"),
        session(tmp_path, 3, 1, **IDE),
        session(tmp_path, 4, 1, **SCREEN, cwd="/three"),
        session(tmp_path, 5, 1, **EXEC),  # before the run in this folder
        # Through the daemon the full-screen program's source is that of an IDE.
        session(tmp_path, 6, 2, originator="codex-tui", source="vscode"),
    ]
    found = owners(files, [screen, headless, elsewhere])
    expected = [screen, headless, elsewhere, None, None, None, screen]
    assert [found[file.name] for file in files] == expected


def test_of_two_runs_in_one_folder_it_is_the_one_that_began_last_before(tmp_path: Path) -> None:
    first, second = run(0, "exec", resumes=False), run(10, "exec", resumes=False)
    files = [session(tmp_path, 0, 5, **EXEC), session(tmp_path, 1, 11, **EXEC)]
    assert list(owners(files, [first, second]).values()) == [first, second]
    # What a run has open is its own, and then nothing else is.
    first.see({files[1].path})
    assert list(owners(files, [first, second]).values()) == [None, first]


@pytest.mark.parametrize(
    "named",
    [
        {"parent_thread_id": THREAD.format(0)},
        {"source": {"subagent": {"thread_spawn": {"parent_thread_id": THREAD.format(0)}}}, "originator": "codex-tui"},
    ],
)
def test_a_sub_agent_is_its_parents(tmp_path: Path, named: dict[str, Any]) -> None:
    mine = run(0, "screen")
    parent = session(tmp_path, 0, 1, **SCREEN)
    agent = session(tmp_path, 1, 2, cwd="/worktree", **named)
    below = session(tmp_path, 2, 3, cwd="/other", parent_thread_id=THREAD.format(1))
    assert list(owners([below, agent, parent], [mine]).values()) == [mine] * 3
    # Seen by what its file is called, when nothing is new in the parent's.
    seen = run(0, "screen", "/elsewhere", files={parent.path: 0})
    assert owners([agent], [seen])[agent.name] is seen
    outside = session(tmp_path, 0, 1, **IDE)
    other = session(tmp_path, 3, 2, **named | IDE | {"cwd": "/one", "parent_thread_id": THREAD.format(0)})
    assert list(owners([other, outside], [mine]).values()) == [None, None]


def test_a_session_that_goes_on(tmp_path: Path) -> None:
    """It began before the run; what is new came later."""
    older = session(tmp_path, 0, -100, **EXEC)
    later = {"timestamp": format_time(NOW + 5), "type": "turn_context", "payload": {"model": "m", "cwd": "/two"}}
    start = Path(older.path).stat().st_size
    with Path(older.path).open("a") as file:
        file.write(json.dumps(later) + "\n")
    grown = SessionFile(older.path, start)
    fresh, resuming = run(0, "exec", "/two", resumes=False), run(0, "exec", "/two")
    named = run(0, "exec", "/elsewhere", ids=[THREAD.format(0)])
    assert owners([grown], [fresh])[grown.name] is None
    assert owners([grown], [resuming])[grown.name] is resuming
    assert owners([grown], [resuming, named])[grown.name] is named
    assert owners([grown], [run(9, "exec", "/two")])[grown.name] is None


def test_what_arguments_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path.resolve())
    for arguments, kind in (
        (["exec", "hi"], "exec"),
        (["-c", "a=b", "--model", "exec", "e", "hi"], "exec"),
        (["exec", "--ephemeral", "hi"], "none"),
        (["fix it"], "screen"),
        ([], "screen"),
        (["--", "exec"], "screen"),
        (["resume", "--last"], "screen"),
        (["app-server"], "other"),
    ):
        assert run_kind(arguments) == kind
    for arguments, folder in (
        (["exec", "-C", "x"], f"{here}/x"),
        (["--cd=/x", "hi"], "/x"),
        (["-Cx"], f"{here}/x"),
        (["-C=/x"], "/x"),
        ([], here),
        (["--worktree"], None),
    ):
        assert working_folder(arguments) == folder
    assert session_ids(["resume", THREAD.format(1), "again"]) == [THREAD.format(1)]
