"""Which session files belong to this run, among other runs in the same home."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.files import locked, own_folder, read_json, write_json
from cdxsync.wrapper.src.processes import alive, is_free, open_sessions, sessions_open_anywhere
from cdxsync.wrapper.src.session_files import SessionFile, add_counts, session_sizes
from cdxsync.wrapper.src.spool import Spool

if TYPE_CHECKING:
    from typing import Any, Callable


class Run:
    """This run among others in the same home: its note on disk is locked while it lives.

    The note says where it runs and which session files its Codex has open, so that no other run counts them, and so
    that a later run can report the usage when this one is killed.
    """

    def __init__(self, home: str, arguments: list[str]) -> None:
        self.key = "%s-%s" % (time.strftime("%Y%m%d"), os.urandom(12).hex())
        self.home = home
        self.sessions = os.path.realpath(os.path.join(home, "sessions"))
        self.cwd = working_folder(arguments)
        # How long the session files were at the beginning, in bytes; None when nothing was seen of it.
        self.sizes: dict[str, int] | None = None
        self.seen: dict[str, int] = {}
        self.folder = own_folder(home, "runs")
        self.path = os.path.join(self.folder, self.key + ".json")
        self.descriptor: int | None = None
        self.child: int | None = None

    def begin(self) -> None:
        """Remember how long the session files are, and say that this run is here."""
        self.sizes = session_sizes(self.sessions)
        with contextlib.suppress(OSError):
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            self._note()

    def _note(self) -> None:
        if self.descriptor is None:
            return
        note = json.dumps({"cwd": self.cwd, "files": self.seen, "child": self.child}).encode()
        with contextlib.suppress(OSError):
            os.pwrite(self.descriptor, note, 0)
            os.ftruncate(self.descriptor, len(note))

    def started(self, child: int) -> None:
        """Codex runs as process `child`."""
        self.child = child
        self._note()

    def look(self) -> None:
        """See which session files Codex has open now."""
        sizes = self.sizes or {}
        new = {path: sizes.get(path, 0) for path in open_sessions(self.child, self.sessions) if path not in self.seen}
        if new:
            self.seen.update(new)
            self._note()

    def others(self) -> list[dict[str, Any]]:
        """The notes of other runs that live in this home."""
        found = []
        for path in self._notes():
            note = read_json(path)
            if path != self.path and note and not is_free(path):
                found.append(note)
        return found

    def _notes(self) -> list[str]:
        with contextlib.suppress(OSError):
            return [os.path.join(self.folder, name) for name in os.listdir(self.folder) if name.endswith(".json")]
        return []

    def collect(self, spool: Spool, fallback: Callable[[], tuple[str, list[dict[str, Any]]]]) -> str | None:
        """Spool what this run has used, once. Returns which source it came from, or None.

        `fallback` gives (source, entries) from the output; it counts only when Codex has written no session file.
        """
        with locked(os.path.join(own_folder(self.home), "usage.lock")):
            claims = Claims(self.home)
            mine, doubtful = self._sort(self._changed(claims))
            used = [file for file in mine + doubtful if file.counts]
            entries = merged(mine) + [entry for file in doubtful for entry in merged([file])]
            source = "sessions" if used else None
            sizes = self.sizes or {}
            if not used and not any(claims.end(file.path) > sizes.get(file.path, 0) for file in mine + doubtful):
                source, entries = fallback()
            if entries:
                spool.add(self.key, entries)
            claims.add(mine + doubtful)
        return source if entries else None

    def end(self) -> None:
        """This run is over, and its usage is in the spool."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def _changed(self, claims: Claims) -> list[SessionFile]:
        if self.sizes is None:
            return []  # without knowing the beginning nothing can be said of the end
        sizes = session_sizes(self.sessions)
        grown = [path for path, size in sorted(sizes.items()) if size > self.sizes.get(path, 0)]
        return [SessionFile(path, max(self.sizes.get(path, 0), claims.end(path))) for path in grown]

    def _sort(self, files: list[SessionFile]) -> tuple[list[SessionFile], list[SessionFile]]:
        """(this run's files, those that may be another's); files that are another's are in neither."""
        others = self.others()
        theirs = {path for note in others for path in note.get("files") or {}}
        ours = [file for file in files if file.path in self.seen]
        rest = [file for file in files if file.path not in self.seen]
        family = set().union(*(file.relatives() for file in ours)) if ours else set()
        mine, doubtful = list(ours), []
        if rest:
            theirs |= sessions_open_anywhere(self.sessions)
        for file in rest:
            if file.path in theirs:
                continue
            if ours:
                # Whose files are open can be seen here: only what belongs to our sessions was opened too shortly.
                mine += [file] if file.relatives() & family else []
            elif not others:
                mine.append(file)
            elif any(same_folder(file.cwd, note.get("cwd")) for note in others):
                doubtful += [file] if same_folder(file.cwd, self.cwd) else []
            else:
                (mine if same_folder(file.cwd, self.cwd) else doubtful).append(file)
        return mine, doubtful

    def recover(self, spool: Spool) -> None:
        """Report the usage of runs that were killed before they could."""
        for path in self._notes():
            if path == self.path or not is_free(path):
                continue
            note, key = read_json(path), os.path.basename(path)[: -len(".json")]
            if alive(note.get("child")):
                continue
            with locked(os.path.join(own_folder(self.home), "usage.lock")):
                claims = Claims(self.home)
                starts = note.get("files") or {}
                files = [SessionFile(name, max(start, claims.end(name))) for name, start in starts.items()]
                if merged(files) and not spool.holds(key):
                    spool.add(key, merged(files))
                claims.add(files)
                with contextlib.suppress(OSError):
                    os.unlink(path)


def merged(files: list[SessionFile]) -> list[dict[str, Any]]:
    """The usage entries of session files: one for each model."""
    table: dict[str | None, dict[str, int]] = {}
    for file in files:
        for model, counts in file.counts.items():
            table[model] = add_counts(table.get(model, {}), counts)
    return [dict(counts, model=model) if model else counts for model, counts in table.items()]


class Claims:
    """Up to where each session file has been counted; held while `usage.lock` is."""

    KEEP_SECONDS = 30 * 86400

    def __init__(self, home: str) -> None:
        self.path = os.path.join(own_folder(home), "counted.json")
        self.ends = read_json(self.path)

    def end(self, path: str) -> int:
        """How many bytes of a file were counted."""
        value = self.ends.get(path)
        return int(value[0]) if isinstance(value, list) and value else 0

    def add(self, files: list[SessionFile]) -> None:
        """These are counted now."""
        if files:
            now = time.time()
            self.ends = {path: value for path, value in self.ends.items() if now - value[1] < self.KEEP_SECONDS}
            self.ends.update({file.path: [file.end, now] for file in files})
            write_json(self.path, self.ends)


def working_folder(arguments: list[str]) -> str:
    """The folder in which Codex will work."""
    folder = os.getcwd() if os.path.exists(".") else "/"
    for index, argument in enumerate(arguments):
        if argument in ("-C", "--cd") and index + 1 < len(arguments):
            folder = os.path.join(folder, arguments[index + 1])
        elif argument.startswith("--cd="):
            folder = os.path.join(folder, argument[len("--cd=") :])
    return os.path.realpath(folder)


def same_folder(one: object, other: object) -> bool:
    """Whether two paths name the same folder."""
    return isinstance(one, str) and isinstance(other, str) and os.path.realpath(one) == os.path.realpath(other)
