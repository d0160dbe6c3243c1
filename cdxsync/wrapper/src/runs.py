"""This run of cdx among others in the same home: what it has used is counted when it ends, or by a later one."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.claims import is_counting
from cdxsync.wrapper.src.processes import open_sessions
from cdxsync.wrapper.src.run_notes import Note, OwnNote, read_notes
from cdxsync.wrapper.src.session_files import find_sessions
from cdxsync.wrapper.src.spool import Spool
from cdxsync.wrapper.src.sweep import Settling, begin_counting

if TYPE_CHECKING:
    from typing import Any, Callable


class Run(OwnNote):
    """This run among others in the same home: they leave the session files to it that are its own."""

    def __init__(self, home: str, arguments: list[str]) -> None:
        super().__init__(home, arguments)
        self.failed = False

    def begin(self) -> None:
        """Remember how long the session files are, and say that this run is here."""
        self.write()
        counting = is_counting(self.home)
        found = find_sessions(self.home, ("sessions",)) if counting else find_sessions(self.home)
        self.facts.found = found
        if not counting:
            begin_counting(self.home, found)

    def started(self, child: int) -> None:
        """Codex runs as process `child`."""
        self.note["child"] = child
        self.write()

    def look(self) -> None:
        """See which session files Codex has open now."""
        paths = open_sessions(self.note["child"]) - set(self.facts.files)
        if paths:
            self.note["files"].update({path: self.facts.size_before(os.path.basename(path)) for path in paths})
            self.facts.see(paths)
            self.write()

    def others(self) -> list[Note]:
        """The other runs that go on in this home."""
        return [note for note in read_notes(self.home, self.path) if note.is_held and note.is_in(self.home)]

    def collect(self, spool: Spool, printed: Callable[[], list[dict[str, Any]]]) -> str | None:
        """Spool what this run has used, what no run has, and what runs have that were killed before they could, once.

        `printed` gives the entries of the output; they count only when Codex has written no session file. Returns which
        source this run's came from, or None.
        """
        self.failed = True
        settling = Settling(self.home, spool, self, printed)
        settling.settle()
        self.failed = False
        return settling.source

    def end(self) -> None:
        """This run is over. Its note stays where the usage could not be kept, for a later run."""
        if not self.failed:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def was_uninstalled(self) -> bool:
        """Whether cdx was taken away meanwhile, with this home's notes: nothing is to be left in their place."""
        return self.descriptor is not None and not os.path.exists(self.path) and not os.path.exists(__file__)

    def recover(self, spool: Spool) -> None:
        """Report the usage of runs that were killed before they could."""
        if any(not note.live for note in read_notes(self.home, self.path)):
            Settling(self.home, spool, self).settle()
