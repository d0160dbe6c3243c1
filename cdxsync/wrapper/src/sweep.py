"""Counts what the session files of a home say: for runs of cdx, and for what was used without it in front."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.claims import Claims, usage_lock
from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.login_note import LoginNote
from cdxsync.wrapper.src.messages import debug
from cdxsync.wrapper.src.owners import RunFacts, claimed_by, owners
from cdxsync.wrapper.src.run_notes import Note, OwnNote, read_notes, spared_parts
from cdxsync.wrapper.src.session_files import SessionFile, add_counts, find_sessions, finder
from cdxsync.wrapper.src.spool import Spool

if TYPE_CHECKING:
    from typing import Any, Callable

    from cdxsync.wrapper.src.context import Context
    from cdxsync.wrapper.src.session_files import Place

    Entries = list[dict[str, Any]]

# When so much waits for the server, what was used outside cdx is left in its session files.
MAX_WAITING = 100


def sweep(context: Context, last: bool = False) -> int:
    """Put into the spool what sessions outside cdx have used, and runs of cdx that were killed; each token once.

    `last`: nothing comes after this, so that runs count which go on. Returns the number of entries. What cannot be read
    or kept is left to the next time.
    """
    try:
        settling = Settling(context.home, context.spool)
        settling.is_last = last
        return settling.settle()
    except (OSError, SyncError) as error:
        debug(str(error))
    return 0


def begin_counting(home: str, found: dict[str, Place]) -> None:
    """Look at a home for the first time, with these session files: what is there is not counted.

    Does nothing where cdx has counted before. What cannot be kept is left to the next time.
    """
    with usage_lock(home):
        claims = Claims(home)
        if not claims.begun:
            with contextlib.suppress(OSError):
                claims.begin(found, time.time(), spared_parts(found, read_notes(home)))
                claims.save(found)


class Settling:
    """Puts into the spool all that is not counted, but for what runs have used that go on.

    `run`: the run of this process. It ends now when `printed` is given: the usage entries of its output, which count
    where no session file is its own.
    """

    def __init__(
        self, home: str, spool: Spool, run: OwnNote | None = None, printed: Callable[[], Entries] | None = None
    ) -> None:
        self.home = home
        self.spool = spool
        self.run = run
        self.printed = printed
        # Where the counts of `run` came from: `sessions`, `output`, or None without any.
        self.source: str | None = None
        self.is_last = False
        self.entries = 0
        self.counted: list[SessionFile] = []
        self.trouble: SyncError | None = None

    def settle(self) -> int:
        """Do it; returns how many entries. Raises SyncError when the disk does not take them.

        What it does not take is not counted, and found by the next run.
        """
        with usage_lock(self.home):
            self.claims = Claims(self.home)
            self.found = find_sessions(self.home)
            self.notes = read_notes(self.home, self.run.path if self.run else None)
            for note in self.notes if self.is_last else []:
                note.live = note.live and not note.is_in(self.home)
            self._begin()
            files = self.claims.waiting(self.found)
            whose = self._owners(files)
            if self.run and self.printed:
                self._end_run(self.run, self.printed, files, whose)
            for note in self.notes:
                if not note.live:
                    self._recover(note, [file for file in files if whose[file.name] is note])
            rest = [file for file in files if whose[file.name] is None]
            if len(self.spool.paths()) > MAX_WAITING:
                rest = []  # it waits where it is
            key = "%s-%s" % (time.strftime("%Y%m%d"), os.urandom(12).hex())
            self._commit(key, self._outside(rest), rest)
            self._save()
            if any(note.live and note.is_older for note in self.notes):
                self.claims.tell_older(self.counted)
            for note in self.notes:
                if not note.live:
                    with contextlib.suppress(OSError):
                        os.unlink(note.path)
        return self.entries

    def _begin(self) -> None:
        if not self.claims.begun:
            found, since = self.found, time.time()
            if self.run and self.run.facts.found is not None:
                found, since = self.run.facts.found, self.run.facts.started
            self.claims.begin(found, since, spared_parts(self.found, self.notes))
        if self.claims.changed:
            try:
                self.claims.save(self.found)
            except OSError as error:
                self.trouble = SyncError("cannot keep what is counted in %s: %s" % (self.claims.path, error.strerror))

    def _save(self) -> None:
        if self.claims.changed:
            try:
                self.claims.save(self.found)
            except OSError as error:
                debug("%s: %s" % (self.claims.path, error.strerror))  # the spool has it too

    def _owners(self, files: list[SessionFile]) -> dict[str, RunFacts | None]:
        runs: list[RunFacts] = [*self.notes]
        return owners(files, [*runs, self.run.facts] if self.run else runs)

    def _commit(self, key: str, entries: Entries, files: list[SessionFile]) -> None:
        """Keep entries, and up to where their files are counted with them, in one step."""
        ends = {file.name: self.claims.entry(file, self.found) for file in files}
        if entries:
            if self.trouble:
                raise self.trouble
            self.spool.add(key, entries, ends)
            self.entries += len(entries)
        self.claims.add(ends)
        self.counted += files

    def _outside(self, files: list[SessionFile]) -> Entries:
        """The entries of what was used without cdx in front; none where the fleet does not want them."""
        if not LoginNote(self.home).counts_outside:
            return []
        return [dict(entry, outside=True) for entry in merged(files)]

    def _recover(self, note: Note, files: list[SessionFile]) -> None:
        """Count for a run that was killed before it could."""
        entries = merged(files) or note.printed
        key = note.key + "-" + os.urandom(4).hex()
        if note.is_older and files and all(note.starts.get(file.name) == file.start for file in files):
            # An older cdx kept the entries in one step, and what it had counted in another: it may have done the first.
            key = note.key
            if self.spool.holds(key):
                entries = []
        self._commit(key, entries, files)

    def _end_run(
        self,
        run: OwnNote,
        printed: Callable[[], Entries],
        files: list[SessionFile],
        whose: dict[str, RunFacts | None],
    ) -> None:
        mine = [file for file in files if whose[file.name] is run.facts]
        entries: Entries = []
        if not any(file.counts for file in mine):
            entries = printed()
            if entries:
                # What it has printed it has used: a file of this time that is no other run's says the same.
                others = [file for file in files if whose[file.name] is None and run.may_hold(file)]
                for file in others:
                    whose[file.name] = run.facts
                mine += others
                if others or self._is_counted(run):
                    entries = []
                self.source = "output" if entries else None
        if any(file.counts for file in mine):
            self.source = "sessions"
        parts = []
        for file in mine:
            before, rest = self._split(run, file)
            parts.append(rest)
            if before is not None:
                owner = claimed_by(before, [*self.notes])[2]
                entries += self._outside([before]) if owner is None else merged([before])
        try:
            self._commit(run.key, entries + merged(parts), parts)
        except SyncError:
            if self.source == "output":
                run.keep_printed(entries)
            raise

    def _is_counted(self, run: OwnNote) -> bool:
        """Whether a file of this run was counted by another process."""
        for name, (path, size, _) in self.found.items():
            start = run.facts.size_before(name)
            if size > start:
                file = SessionFile(path, start, find=finder(self.found))
                if file.counts and run.facts.holds(file):
                    return True
        return False

    def _split(self, run: OwnNote, file: SessionFile) -> tuple[SessionFile | None, SessionFile]:
        """What of a file is older than this run, if anything is; and the rest."""
        _, size, inode = (run.facts.found or {}).get(file.name, ("", 0, 0))
        if not file.start < size or inode != self.found[file.name][2]:
            return None, file
        find = finder(self.found)
        before = SessionFile(file.path, file.start, stop=size, after=file.after, find=find)
        rest = SessionFile(file.path, max(size, before.end), after=file.after, find=find)
        return (before if before.counts else None), rest


def merged(files: list[SessionFile]) -> list[dict[str, Any]]:
    """The usage entries of session files: one for each model."""
    table: dict[str | None, dict[str, int]] = {}
    for file in files:
        for model, counts in file.counts.items():
            table[model] = add_counts(table.get(model, {}), counts)
    return [dict(counts, model=model) if model else counts for model, counts in table.items()]
