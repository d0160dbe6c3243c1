"""Whose a session file is: that of a run of cdx, by what stands in both, or none's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.codex_command import command_of
from cdxsync.wrapper.src.session_files import SessionFile, made_at

if TYPE_CHECKING:
    from typing import Any, Tuple

    from cdxsync.wrapper.src.session_files import Place

    # How surely a file is of a run, when that began, and the run.
    Claimed = Tuple[int, float, Any]

# Dates of one machine, of which one is rounded.
SLACK_SECONDS = 0.05
# The note of an older cdx does not say when its run began: it was written a little later.
NOTE_SECONDS = 120.0
# How surely a file is a run's.
SEEN, NAMED, KIN, NEW, RESUMED, MAYBE = 6, 5, 4, 3, 2, 1


class RunFacts:
    """What is known of a run: what its note says.

    `cwd`: the folder that it works in. `files`: the session files that its Codex has had open. `started`: when, in
    seconds since the epoch. `kind`: as of `SessionFile`, or `none` when Codex writes no file. `ids`: the sessions that
    its arguments name. `resumes`: whether it may go on with an older session.
    """

    def __init__(self, note: dict[str, Any], written: float = 0.0) -> None:
        self.cwd = note.get("cwd")
        files = note.get("files")
        self.files: dict[str, Any] = files if isinstance(files, dict) else {}
        self.names: set[str] = set()
        self.see(set(self.files))
        started = note.get("started")
        # An older cdx wrote no such thing.
        self.is_older = not isinstance(started, (int, float))
        self.started = float(started) if isinstance(started, (int, float)) else written - NOTE_SECONDS
        self.kind = note.get("kind")
        ids = note.get("ids")
        self.ids = [value for value in ids if isinstance(value, str)] if isinstance(ids, list) else []
        self.resumes = note.get("resumes") is not False
        # What its output said of the tokens, where that could not be kept.
        printed = note.get("printed")
        self.printed: list[dict[str, Any]] = printed if isinstance(printed, list) else []
        # The session files when it began, where that is known: better than dates.
        self.found: dict[str, Place] | None = None

    def size_before(self, name: str) -> int:
        """How long a session file was when it began, in bytes; 0 when it was not there, or nothing is known."""
        return self.found[name][1] if self.found and name in self.found else 0

    def see(self, paths: set[str]) -> None:
        """Its Codex has these files open."""
        self.names |= {os.path.basename(path) for path in paths}

    def knows(self, thread: str) -> bool:
        """Whether a session is one whose file it has had open."""
        return any(name.endswith(thread + ".jsonl") for name in self.names)

    def holds(self, file: SessionFile) -> int:
        """How surely a file is this run's; 0 when it is not."""
        if self.kind == "none" or self.printed:
            return 0
        if file.name in self.names:
            return SEEN
        recent = self._is_recent(file)
        if file.thread in self.ids and recent:
            return NAMED
        if any(self.knows(parent) for parent in file.parents):
            return KIN
        # What it has open can be seen here, and this is not it.
        if self.names or not recent or (self.kind and file.kind and self.kind != file.kind):
            return 0
        # What a server for other programs has to do says who asks it.
        if self.kind != "other" and not same_folder(self.cwd, file.cwd):
            return 0 if file.kind else MAYBE
        if self.found is not None:
            new = file.name not in self.found
        else:
            new = file.began is None or file.began >= self.started - SLACK_SECONDS
        return NEW if new else RESUMED if self.resumes else 0

    def _is_recent(self, file: SessionFile) -> bool:
        """Whether something in a file was written since the run began."""
        if self.found is not None:
            return file.end > self.size_before(file.name)
        return file.first is None or file.first >= self.started - SLACK_SECONDS


def owners(files: list[SessionFile], runs: list[RunFacts]) -> dict[str, RunFacts | None]:
    """Whose each file is, by its name; None for those that are no run's."""
    threads = {file.thread: file for file in files if file.thread}
    best: dict[str, Claimed] = {}
    roots: dict[str, str] = {}
    for file in files:
        # A sub-agent runs where its parent does.
        root, seen = file, {file.name}
        while root.spawned_by in threads and threads[root.spawned_by].name not in seen:
            root = threads[root.spawned_by]
            seen.add(root.name)
        roots[file.name] = root.name
        claimed = claimed_by(file, runs)
        if claimed[:2] > best.get(root.name, (0, 0.0, None))[:2]:
            best[root.name] = claimed
    return {file.name: best.get(roots[file.name], (0, 0.0, None))[2] for file in files}


def claimed_by(file: SessionFile, runs: list[RunFacts]) -> Claimed:
    """The run that a file is most surely of, or None: among equals that which began last."""
    best: Claimed = (0, 0.0, None)
    for run in runs:
        surety = run.holds(file)
        if surety and (surety, run.started) > best[:2]:
            best = (surety, run.started, run)
    return best


def run_kind(arguments: list[str]) -> str:
    """What a run writes session files as."""
    if "--ephemeral" in arguments:
        return "none"
    command = command_of(arguments)
    if command in ("exec", "e", "review"):
        return "exec"
    return "other" if command in ("app-server", "mcp-server", "exec-server", "remote-control") else "screen"


def session_ids(arguments: list[str]) -> list[str]:
    """The sessions that arguments name."""
    return [argument for argument in arguments if made_at(argument)]


def working_folder(arguments: list[str]) -> str | None:
    """The folder in which Codex will work; None when it makes one."""
    if "--worktree" in arguments:
        return None
    try:
        folder = os.getcwd()
    except OSError:  # it was removed
        folder = "/"
    for index, argument in enumerate(arguments):
        if argument in ("-C", "--cd") and index + 1 < len(arguments):
            folder = os.path.join(folder, arguments[index + 1])
        elif argument.startswith("--cd="):
            folder = os.path.join(folder, argument[len("--cd=") :])
        elif argument.startswith("-C") and argument != "-C":
            folder = os.path.join(folder, argument[2:].lstrip("="))
    return os.path.realpath(folder)


def same_folder(one: object, other: object) -> bool:
    """Whether two paths name the same folder, as far as both are known."""
    if not isinstance(one, str) or not isinstance(other, str):
        return True
    return os.path.realpath(one) == os.path.realpath(other)
