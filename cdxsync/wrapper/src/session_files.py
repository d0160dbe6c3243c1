"""Counts tokens in Codex's session files, and reads whose session each of them is."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.document import parse_time

if TYPE_CHECKING:
    from typing import Any, Callable, Tuple

    # Path, size in bytes, inode.
    Place = Tuple[str, int, int]

MAX_TOKENS = 2**53 - 1
COUNTS = ("total", "input", "output", "cached", "reasoning")
SESSION_FIELDS = {
    "input_tokens": "input",
    "cached_input_tokens": "cached",
    "output_tokens": "output",
    "reasoning_output_tokens": "reasoning",
    "total_tokens": "total",
}
SESSION_WORDS = (b"session_meta", b"turn_context", b"token_count", b"token_usage_record", b"task_started")
# Codex moves a session that is archived from the first to the second.
SESSION_FOLDERS = ("sessions", "archived_sessions")
# The beginning of an identifier that tells when it was made, in milliseconds.
TIMED_ID = r"(?i)([0-9a-f]{8}-[0-9a-f]{4})-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\Z"


def read_counts(value: object) -> dict[str, int] | None:
    """Codex's own counts as ours, or None for anything else. `input` is without the cached ones, as Codex prints it."""
    if not isinstance(value, dict):
        return None
    counts = {}
    for field, name in SESSION_FIELDS.items():
        number = value.get(field, 0)
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_TOKENS:
            return None
        counts[name] = number
    if "total_tokens" not in value:
        counts["total"] = counts["input"] + counts["output"]
    counts["input"] = max(0, counts["input"] - counts["cached"])
    return counts if any(counts.values()) else None


def add_counts(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """The sums of two objects of counts."""
    return {name: one.get(name, 0) + other.get(name, 0) for name in COUNTS}


class SessionFile:
    """What one session file says of a part of its bytes: the counts by model; and whose session it is.

    The part begins at `start` and ends before the line that begins at `stop` or later; records that are not later than
    `after`, in seconds since the epoch, are not counted. `find` gives the path of another session's file by its id.
    """

    def __init__(
        self,
        path: str,
        start: int = 0,
        stop: int | None = None,
        after: float = 0.0,
        find: Callable[[str], str | None] | None = None,
    ) -> None:
        self.path = path
        self.name = os.path.basename(path)
        self.start = self.end = start
        self.stop = stop
        self.after = after
        # By the dates in the file: when the session began, the first record of the part, and the newest record.
        self.began: float | None = None
        self.first: float | None = None
        self.first_byte = start
        self.last = 0.0
        self.meta: dict[str, Any] = {}
        self.cwd: Any = None
        self._find = find
        self._model: str | None = None
        self._turn: Any = None
        self._total: dict[str, int] | None = None
        self._records: dict[str | None, dict[str, int]] = {}
        self._deltas: dict[str | None, dict[str, int]] = {}
        self._early: dict[str | None, dict[str, int]] = {}
        self._recorded = False
        self._copied: list[dict[str, int]] | None = None
        # Whether all of it could be read: it may have been moved, or belong to another user.
        self.is_read = False
        with contextlib.suppress(OSError):
            self._read()
            self.is_read = True
        # Newer versions write a record for each answer; from the first on the running totals say the same again. A
        # session of an older version may have been resumed.
        self.counts = dict(self._early if self._recorded else self._deltas)
        for model, counts in self._records.items():
            self.counts[model] = add_counts(self.counts.get(model, {}), counts)

    @property
    def thread(self) -> str | None:
        """The session's id."""
        return named(self.meta, "id")

    @property
    def spawned_by(self) -> str | None:
        """The id of the session whose sub-agent this one is, in the same process."""
        source = self.meta.get("source")
        agent = source.get("subagent") if isinstance(source, dict) else None
        spawn = agent.get("thread_spawn") if isinstance(agent, dict) else None
        return named(self.meta, "parent_thread_id") or named(spawn, "parent_thread_id")

    @property
    def parents(self) -> list[str]:
        """The ids of the sessions whose history this one may begin with."""
        found = (named(self.meta, "forked_from_id"), self.spawned_by)
        return list(dict.fromkeys(parent for parent in found if parent))

    @property
    def kind(self) -> str | None:
        """What wrote it: `exec`, `screen` for the full-screen program, or `other`; None when it does not say."""
        source, originator = self.meta.get("source"), named(self.meta, "originator")
        if source == "exec" or originator == "codex_exec":
            return "exec"
        # Through the daemon the full-screen program's source is that of an IDE.
        if source == "cli" or originator in ("codex-tui", "codex_cli_rs"):
            return "screen"
        return "other" if originator else None

    def _read(self) -> None:
        offset = 0
        with open(self.path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n") or (self.stop is not None and offset >= self.stop):
                    break
                begin, offset = offset, offset + len(line)
                # Most long lines are of no interest: their beginning tells.
                start = line if len(line) < 8192 else line[:400]
                if any(word in start for word in SESSION_WORDS):
                    with contextlib.suppress(ValueError, RecursionError):
                        self._take(json.loads(line.decode("utf-8", "replace")), begin)
        self.end = max(offset, self.start)

    def _take(self, record: Any, begin: int) -> None:
        kind = record.get("type") if isinstance(record, dict) else None
        payload = record.get("payload") if kind else None
        if not isinstance(payload, dict):
            return
        at = parse_time(record.get("timestamp"))
        new = begin >= self.start and (at is None or at > self.after)
        self.last = max(self.last, at or 0.0)
        if new and self.first is None:
            self.first, self.first_byte = at, begin
        event = payload.get("type")
        if kind == "session_meta" and not self.meta:
            self.meta = payload
            self.cwd = payload.get("cwd")
            self.began = parse_time(payload.get("timestamp")) or at
        elif kind == "turn_context":
            self._model = payload.get("model") if isinstance(payload.get("model"), str) else self._model
            self.cwd = payload.get("cwd") or self.cwd
            self._turn = payload.get("turn_id") or self._turn or ""
        elif kind == "event_msg" and event == "task_started":
            self._turn = payload.get("turn_id") or self._turn or ""
        elif kind == "token_usage_record":
            # A fork may hold copies of its parent's records.
            if self.thread is None or payload.get("thread_id") in (None, self.thread):
                self._recorded = True
                if new:
                    self._add(self._records, read_counts(payload.get("usage")))
        elif kind == "event_msg" and event == "token_count":
            self._take_running_total(payload.get("info"), new)

    def _take_running_total(self, info: object, new: bool) -> None:
        if not isinstance(info, dict):
            return  # an event about rate limits alone
        total, last = read_counts(info.get("total_token_usage")), read_counts(info.get("last_token_usage"))
        before, self._total = self._total, total or self._total
        copied = self._is_copied(total)
        if new and not copied:
            used = used_since(before, total, last)
            self._add(self._deltas, used)
            if self._turn is not None and not self._recorded:
                self._add(self._early, used)

    def _is_copied(self, total: dict[str, int] | None) -> bool:
        """Whether an event at the beginning of a session is its parent's: older versions copy the whole history."""
        if self._copied is None:
            self._copied = []
            if self.parents:
                turn, thread = made_at(self._turn), made_at(self.thread)
                if turn and thread:
                    if turn < thread:  # a turn from before this session
                        self._copied = None
                        return True
                    return False
                self._copied = self._totals_of_parent()
        if self._copied and total is not None and self._copied[0] == total:
            del self._copied[0]
            return True
        self._copied = []
        return False

    def _totals_of_parent(self) -> list[dict[str, int]]:
        for parent in self.parents:
            path = self._find(parent) if self._find else None
            totals = running_totals(path) if path else []
            if totals:
                return totals
        return []

    def _add(self, table: dict[str | None, dict[str, int]], counts: dict[str, int] | None) -> None:
        if counts:
            table[self._model] = add_counts(table.get(self._model, {}), counts)


def named(value: object, name: str) -> str | None:
    """A text in an object, or None."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) and found else None


def made_at(identifier: object) -> str | None:
    """When an identifier of Codex was made, as a text that sorts; None for those that do not tell."""
    if not isinstance(identifier, str) or len(identifier) != 36:
        return None
    match = re.match(TIMED_ID, identifier)
    return match.group(1).lower() if match else None


def running_totals(path: str) -> list[dict[str, int]]:
    """The running totals in a session file, in order."""
    totals = []
    with contextlib.suppress(OSError), open(path, "rb") as file:
        for line in file:
            if b"token_count" in line[:400]:
                with contextlib.suppress(ValueError, AttributeError, TypeError, LookupError, RecursionError):
                    total = read_counts(
                        json.loads(line.decode("utf-8", "replace"))["payload"]["info"]["total_token_usage"]
                    )
                    totals += [total] if total else []
    return totals


def used_since(
    before: dict[str, int] | None, total: dict[str, int] | None, last: dict[str, int] | None
) -> dict[str, int] | None:
    """What was used between two running totals; `last` is what the event says of its own answer."""
    if total is None:
        return last
    if before is None:
        # The total of a fork or of a resumed session starts with what its past has used.
        return last or total
    if total == before:
        return None  # the same event again, for its rate limits
    if all(total[name] >= before[name] for name in COUNTS):
        return {name: total[name] - before[name] for name in COUNTS}
    return last or total


def find_sessions(home: str, folders: tuple[str, ...] = SESSION_FOLDERS) -> dict[str, Place]:
    """The session files of a home, by name: it holds the session's id, and stays when a session is archived.

    Links are followed, each folder that they lead to once. Of two files with one name the longer one counts.
    """
    found: dict[str, Place] = {}
    waiting = [os.path.realpath(os.path.join(home, folder)) for folder in folders]
    entered = set(waiting)
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name.startswith("rollout-") and entry.name.endswith(".jsonl"):
                    with contextlib.suppress(OSError):
                        status = entry.stat()
                        known = found.get(entry.name)
                        if stat.S_ISREG(status.st_mode) and (known is None or known[1] < status.st_size):
                            found[entry.name] = (entry.path, status.st_size, status.st_ino)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_symlink() and entry.is_dir():
                    target = os.path.realpath(entry.path)
                    if target not in entered:
                        entered.add(target)
                        waiting.append(target)
    return found


def counting_home(home: str) -> str:
    """The home where it is kept what of its session files is counted.

    That is another one where `sessions` is a link to that one's: both have the same sessions.
    """
    sessions = os.path.realpath(os.path.join(home, "sessions"))
    other = os.path.dirname(sessions)
    notes = os.path.join(other, ".cdx")
    shared = os.path.basename(sessions) == "sessions" and os.path.isdir(notes) and os.access(notes, os.W_OK | os.X_OK)
    return other if shared else home


def finder(found: dict[str, Place]) -> Callable[[str], str | None]:
    """Looks among the session files of a home for that of an id; gives its path, or None."""

    def find(thread: str) -> str | None:
        names = (name for name in found if re.match(r"[\w-]{8,64}\Z", thread) and name.endswith(thread + ".jsonl"))
        return next((found[name][0] for name in names), None)

    return find
