"""Counts tokens in Codex's session files."""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

MAX_TOKENS = 2**53 - 1
COUNTS = ("total", "input", "output", "cached", "reasoning")
SESSION_FIELDS = {
    "input_tokens": "input",
    "cached_input_tokens": "cached",
    "output_tokens": "output",
    "reasoning_output_tokens": "reasoning",
    "total_tokens": "total",
}
SESSION_WORDS = (b"session_meta", b"turn_context", b"token_count", b"token_usage_record")


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
    """What one session file says of the bytes from `start` on: the counts by model, and whose session it is."""

    def __init__(self, path: str, start: int) -> None:
        self.path = path
        self.start = self.end = start
        self.meta: dict[str, Any] = {}
        self.cwd: Any = None
        self._model: str | None = None
        self._total: dict[str, int] | None = None
        self._records: dict[str | None, dict[str, int]] = {}
        self._deltas: dict[str | None, dict[str, int]] = {}
        self._copied: list[dict[str, int]] | None = None
        with contextlib.suppress(OSError):
            self._read()
        # Newer versions write a record for each answer; where there are any, the running totals say the same again.
        self.counts = self._records or self._deltas

    @property
    def thread(self) -> Any:
        """The session's id."""
        return self.meta.get("id")

    def relatives(self) -> set[str]:
        """The ids of sessions that this one belongs to, itself included."""
        names = ("id", "session_id", "forked_from_id", "parent_thread_id")
        return {self.meta[name] for name in names if isinstance(self.meta.get(name), str)}

    def _read(self) -> None:
        offset = 0
        with open(self.path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                begin, offset = offset, offset + len(line)
                # Most long lines are of no interest: their beginning tells.
                start = line if len(line) < 8192 else line[:400]
                if any(word in start for word in SESSION_WORDS):
                    with contextlib.suppress(ValueError):
                        self._take(json.loads(line.decode("utf-8", "replace")), begin >= self.start)
        self.end = max(offset, self.start)

    def _take(self, record: Any, new: bool) -> None:
        kind = record.get("type") if isinstance(record, dict) else None
        payload = record.get("payload") if kind else None
        if not isinstance(payload, dict):
            return
        if kind == "session_meta" and not self.meta:
            self.meta = payload
            self.cwd = payload.get("cwd")
        elif kind == "turn_context":
            self._model = payload.get("model") if isinstance(payload.get("model"), str) else self._model
            self.cwd = payload.get("cwd") or self.cwd
        elif kind == "token_usage_record":
            # A fork may hold copies of its parent's records.
            if new and (self.thread is None or payload.get("thread_id") in (None, self.thread)):
                self._add(self._records, read_counts(payload.get("usage")))
        elif kind == "event_msg" and payload.get("type") == "token_count":
            self._take_running_total(payload.get("info"), new)

    def _take_running_total(self, info: object, new: bool) -> None:
        if not isinstance(info, dict):
            return  # an event about rate limits alone
        total, last = read_counts(info.get("total_token_usage")), read_counts(info.get("last_token_usage"))
        before, self._total = self._total, total or self._total
        copied = self._is_copied(total)
        if new and not copied:
            self._add(self._deltas, used_since(before, total, last))

    def _is_copied(self, total: dict[str, int] | None) -> bool:
        """Whether an event at the beginning of a fork is its parent's: older versions copy the whole history."""
        if self._copied is None:
            self._copied = self._totals_of_parent()
        if self._copied and total is not None and self._copied[0] == total:
            del self._copied[0]
            return True
        self._copied = []
        return False

    def _totals_of_parent(self) -> list[dict[str, int]]:
        parent = self.meta.get("forked_from_id")
        if not isinstance(parent, str) or not re.match(r"[0-9a-fA-F-]{8,64}\Z", parent):
            return []
        root = os.path.join(self.path.rpartition(os.sep + "sessions" + os.sep)[0], "sessions")
        for path in session_sizes(root):
            if path.endswith("%s.jsonl" % parent):
                return running_totals(path)
        return []

    def _add(self, table: dict[str | None, dict[str, int]], counts: dict[str, int] | None) -> None:
        if counts:
            table[self._model] = add_counts(table.get(self._model, {}), counts)


def running_totals(path: str) -> list[dict[str, int]]:
    """The running totals in a session file, in order."""
    totals = []
    with contextlib.suppress(OSError), open(path, "rb") as file:
        for line in file:
            if b"token_count" in line[:400]:
                with contextlib.suppress(ValueError, AttributeError, TypeError):
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


def session_sizes(root: str) -> dict[str, int]:
    """The session files below a folder with their sizes in bytes."""
    sizes = {}
    folders = [root]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.name.startswith("rollout-") and entry.name.endswith(".jsonl"):
                    with contextlib.suppress(OSError):
                        sizes[entry.path] = entry.stat().st_size
    return sizes
