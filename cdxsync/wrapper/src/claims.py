"""Up to where each session file of a home has been counted, so that each token is counted once."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.files import (
    locked,
    own_folder,
    paths_in,
    read_json,
    replace_file,
    sha256_of,
    write_json,
)
from cdxsync.wrapper.src.session_files import SessionFile, counting_home, find_sessions, finder

if TYPE_CHECKING:
    from typing import Any, Callable, ContextManager

    from cdxsync.wrapper.src.session_files import Place

# An older cdx drops what it counted after so long.
OLD_KEEP_SECONDS = 30 * 86400
# Files that are away, on a disk that is not mounted say, are known so long.
GONE_SECONDS = 400 * 86400
# A record has its date in it.
CHECKED_BYTES = 512
# What is older than the first look at this home, and came later, is from elsewhere. Clocks differ.
SINCE_MARGIN = 86400.0


def usage_lock(home: str) -> ContextManager[bool]:
    """Held while session files are counted: one process of a home at a time."""
    return locked(os.path.join(own_folder(counting_home(home)), "usage.lock"))


def is_counting(home: str) -> bool:
    """Whether cdx has looked at this home before."""
    return os.path.exists(os.path.join(own_folder(counting_home(home)), "claims.json"))


class Claims:
    """Up to where each session file has been counted: `claims.json`. To be used while `usage_lock` is held.

    `since`: when cdx first looked at this home; what was there then is not counted. `ends` by name of file: [bytes that
    are counted, size then, inode then, date of the newest record in them, checksum of the last of them, since when the
    file is away]. A file of the spool has the same for what it reports, so that both are kept in one step: what it says
    counts too.
    """

    def __init__(self, home: str) -> None:
        self.home = home
        self.path = os.path.join(own_folder(counting_home(home)), "claims.json")
        self.old_path = os.path.join(own_folder(home), "counted.json")
        kept = read_json(self.path)
        ends, since = kept.get("ends"), kept.get("since")
        self.begun = isinstance(ends, dict) and isinstance(since, (int, float))
        self.since = float(since) if self.begun and isinstance(since, (int, float)) else 0.0
        self.ends: dict[str, list[Any]] = dict(ends) if self.begun and isinstance(ends, dict) else {}
        if not all(is_end(value[:5]) if isinstance(value, list) else False for value in self.ends.values()):
            self.begun, self.ends = False, {}
        at = kept.get("at")
        self.at = float(at) if isinstance(at, (int, float)) else 0.0
        self.changed = False
        if self.since > time.time() + SINCE_MARGIN:
            # The clock was ahead then: what comes is not older.
            self.since, self.changed = time.time(), True
        # What an older cdx has counted, by path: [bytes, when].
        self.old = {
            path: value
            for path, value in read_json(self.old_path).items()
            if isinstance(value, list) and len(value) == 2 and all(isinstance(part, (int, float)) for part in value)
        }
        self.old_ends: dict[str, int] = {}
        for path, value in self.old.items():
            name = os.path.basename(path)
            self.old_ends[name] = max(self.old_ends.get(name, 0), int(value[0]))
        if self.begun and self._was_older_cdx_here():
            self.begun = False
        for entry in spooled(home):
            self._take(entry)

    def _was_older_cdx_here(self) -> bool:
        """Whether an older cdx was put back for so long that it may have dropped what it counted meanwhile."""
        newest: float = max([value[1] for value in self.old.values()] or [0])
        return newest > self.at + OLD_KEEP_SECONDS / 2

    def _take(self, ends: dict[str, Any]) -> None:
        for name, value in ends.items():
            known = self.ends.get(name)
            # Of a file that was written again the bytes say nothing.
            part = slice(0, 1) if known is None or known[2] == value[2] else slice(3, 4)
            if known is None or value[part] > known[part]:
                self.ends[name] = value
                self.changed = True

    def begin(self, found: dict[str, Place], since: float, spared: dict[str, int]) -> None:
        """What was in the home at the time `since` is not to be counted, but from the bytes `spared` on."""
        before, self.ends = self.ends, {}
        self.since, self.begun, self.changed = since, True, True
        for name, (_, size, inode) in found.items():
            start = spared.get(name, size)
            self.ends[name] = [start, size if start >= size else -1, inode, since, None]
        self._take(before)

    def waiting(self, found: dict[str, Place]) -> list[SessionFile]:
        """The files with something that was not counted, from where that begins."""
        find = finder(found)
        files = []
        for name, (path, size, inode) in sorted(found.items()):
            start, after = self.old_ends.get(name, 0), 0.0
            known = self.ends.get(name)
            if known is not None and known[1:3] == [size, inode]:
                continue
            if self._is_old(path, size, known):
                # Restored or copied: there may be thousands, with gigabytes in them.
                self.ends[name] = [size, size, inode, known[3] if known else self.since, None]
                self.changed = True
                continue
            if known is not None and is_same(path, known, inode):
                start = max(start, known[0])
            elif known is not None:
                # Codex has written the whole file again, as when it migrates one: the dates tell what is new.
                start, after = 0, known[3]
            if size > start:
                files.append(self._read(path, start, after, find))
            elif known is not None and start == known[0]:
                self.ends[name] = [start, size, inode, *known[3:5]]
                self.changed = True
        return [file for file in files if file.is_read]

    def _read(self, path: str, start: int, after: float, find: Callable[[str], str | None]) -> SessionFile:
        """A file from where it is not counted. What was used before cdx looked at this home never is."""
        file = SessionFile(path, start, after=after, find=find)
        floor = self.since - SINCE_MARGIN
        if file.name not in self.ends and not start and file.began is not None and file.began < floor:
            # It came later: a copy, or one that Codex had compressed.
            return SessionFile(path, start, after=floor, find=find)
        return file

    def _is_old(self, path: str, size: int, known: list[Any] | None) -> bool:
        """Whether a file that was never read needs not be read: nothing was written to it since cdx came."""
        if known is not None and (known[4] is not None or known[0] != size):
            return False
        with contextlib.suppress(OSError):
            return os.stat(path).st_mtime < (known[3] if known else self.since - SINCE_MARGIN)
        return False

    def entry(self, file: SessionFile, found: dict[str, Place]) -> list[Any]:
        """What says that a file is counted."""
        _, size, inode = found[file.name]
        return [file.end, size, inode, max(file.last, file.after), checksum(file.path, file.end)]

    def add(self, ends: dict[str, list[Any]]) -> None:
        """These are counted now."""
        for name, value in ends.items():
            self.ends[name] = value
            self.changed = True

    def save(self, found: dict[str, Place]) -> None:
        """Keep it, durably. Raises OSError."""
        now = time.time()
        kept = {}
        for name, value in self.ends.items():
            if name in found:
                kept[name] = value[:5]
            elif len(value) < 6:
                kept[name] = [*value, now]
            elif now - value[5] < GONE_SECONDS:
                kept[name] = value
        self.ends = kept
        replace_file(self.path, json.dumps({"since": self.since, "at": now, "ends": kept}).encode())
        self.changed = False

    def tell_older(self, files: list[SessionFile]) -> None:
        """Say what is counted to an older cdx that runs in this home, as it knows it."""
        now = time.time()
        old = {path: value for path, value in self.old.items() if now - value[1] < OLD_KEEP_SECONDS}
        write_json(self.old_path, dict(old, **{file.path: [file.end, now] for file in files}))


def spooled(home: str) -> list[dict[str, Any]]:
    """What the files of the spool say is counted, oldest first."""
    calls = [read_json(path).get("files") for path in paths_in(own_folder(home, "spool"), ".json")]
    return [{name: end for name, end in ends.items() if is_end(end)} for ends in calls if isinstance(ends, dict)]


def is_end(value: object) -> bool:
    """Whether this is what `Claims.entry` gives."""
    return isinstance(value, list) and len(value) == 5 and all(isinstance(part, (int, float)) for part in value[:4])


def checksum(path: str, end: int) -> str | None:
    """Of the bytes of a file before `end`, as far as they tell it from another; None when it cannot be read."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, end - CHECKED_BYTES))
        return sha256_of(file.read(min(end, CHECKED_BYTES)))[:16]
    return None


def is_same(path: str, known: list[Any], inode: int) -> bool:
    """Whether a file still begins with the bytes that were counted."""
    if known[4] is None:  # it was there when cdx came, and was not read
        return bool(known[2] == inode)
    return bool(checksum(path, known[0]) == known[4])


def keep_claims(home: str) -> None:
    """Keep what the spool says is counted, before it is sent and goes. Raises OSError."""
    with usage_lock(home):
        claims = Claims(home)
        if claims.changed:
            found = find_sessions(home)
            if not claims.begun:
                claims.begin(found, time.time(), {})
            claims.save(found)
