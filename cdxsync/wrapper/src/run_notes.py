"""The notes of the runs of a home, which tell the others of each, and a later run when one was killed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.files import own_folder, paths_in, read_json
from cdxsync.wrapper.src.owners import RunFacts, run_kind, session_ids, working_folder
from cdxsync.wrapper.src.processes import is_free, is_run_of_codex
from cdxsync.wrapper.src.session_files import SessionFile, counting_home, finder

if TYPE_CHECKING:
    from typing import Any

    from cdxsync.wrapper.src.session_files import Place


class OwnNote:
    """The note of this run, locked while it lives; and what else tells which session files are its own."""

    def __init__(self, home: str, arguments: list[str]) -> None:
        self.key = "%s-%s" % (time.strftime("%Y%m%d"), os.urandom(12).hex())
        self.home = home
        kind = run_kind(arguments)
        self.note: dict[str, Any] = {
            "home": os.path.realpath(home),
            "cwd": working_folder(arguments),
            "files": {},
            "child": None,
            "started": time.time(),
            "kind": kind,
            "ids": session_ids(arguments),
            "resumes": kind != "exec" or "resume" in arguments,
        }
        self.facts = RunFacts(self.note)
        self.path = os.path.join(own_folder(counting_home(home), "runs"), self.key + ".json")
        self.descriptor: int | None = None

    def write(self) -> None:
        """Write the note; what the disk does not take is done without."""
        text = json.dumps(self.note).encode()
        with contextlib.suppress(OSError):
            if self.descriptor is None:
                # Others see it when it is locked: one that is not is of a run that was killed.
                new = self.path + ".new"
                descriptor = os.open(new, os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                self.descriptor = descriptor
                os.rename(new, self.path)
            os.pwrite(self.descriptor, text, 0)
            os.ftruncate(self.descriptor, len(text))

    def keep_printed(self, entries: list[dict[str, Any]]) -> None:
        """Keep in the note what the output said: that needs no more room on a full disk."""
        self.note["printed"] = entries
        self.write()

    def may_hold(self, file: SessionFile) -> bool:
        """Whether a session file may be this run's, as far as its kind and its growth say."""
        kinds = {self.facts.kind, file.kind}
        grown = self.facts.found is not None and file.end > self.facts.size_before(file.name)
        return grown and bool(file.counts) and (None in kinds or len(kinds) == 1)


class Note(RunFacts):
    """The note of another run of this home: `is_held` while that goes on, `live` also while its Codex does."""

    def __init__(self, path: str) -> None:
        written = 0.0
        with contextlib.suppress(OSError):
            written = os.stat(path).st_mtime
        note = read_json(path)
        super().__init__(note, written)
        self.path = path
        self.home = note.get("home")
        self.key = os.path.basename(path)[: -len(".json")]
        self.starts = {os.path.basename(name): start for name, start in self.files.items()}
        self.is_held = not is_free(path)
        self.live = self.is_held or is_run_of_codex(note.get("child"))

    def is_in(self, home: str) -> bool:
        """Whether it is a run of this home, and not of another with the same sessions. An older cdx does not say."""
        return self.home in (None, os.path.realpath(home))


def read_notes(home: str, own: str | None = None) -> list[Note]:
    """The notes of the runs of a home but that at `own`, by name; of those with the same sessions too."""
    paths: list[str] = []
    for folder in dict.fromkeys(own_folder(place, "runs") for place in (counting_home(home), home)):
        paths += paths_in(folder, ".json")
    notes = [Note(path) for path in paths if path != own and os.path.exists(path)]
    for note in notes:
        # A run of another home with the same sessions is reported from there.
        note.live = note.live or (not note.is_in(home) and os.path.isdir(str(note.home)))
    return notes


def spared_parts(found: dict[str, Place], notes: list[Note]) -> dict[str, int]:
    """By name of file, from which byte on it is of a run that has not counted what it used, or does not yet.

    For the first look at a home, in which an older cdx runs or was killed, or the disk was full: what is there is not
    counted then, but for this.
    """
    spared: dict[str, int] = {}
    for note in notes:
        if note.kind == "none":
            continue
        for path, start in note.files.items():
            if isinstance(start, int):
                keep_first(spared, os.path.basename(path), start)
        if note.files:
            continue
        for name, (path, _, _) in found.items():
            with contextlib.suppress(OSError):
                if os.stat(path).st_mtime < note.started:
                    continue
                file = SessionFile(path, after=note.started, find=finder(found))
                if file.counts and note.holds(file):
                    keep_first(spared, name, file.first_byte)
    return spared


def keep_first(starts: dict[str, int], name: str, start: int) -> None:
    """Keep the smaller number of bytes."""
    starts[name] = min(start, starts.get(name, start))
