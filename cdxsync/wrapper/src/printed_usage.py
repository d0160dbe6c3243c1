"""Finds token usage in what Codex prints."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import re
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.files import read_regular
from cdxsync.wrapper.src.session_files import COUNTS, add_counts, read_counts

if TYPE_CHECKING:
    from typing import Any, Iterable, Sequence

# Compiled when they are first used: most runs need none of them.
ESCAPES = (
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)
COUNT = r"(\d[\d,]{0,30})"
# What follows the label, without any white space: a terminal may have wrapped it anywhere.
USAGE_FORM = (
    r"(?i)total=" + COUNT + r"input=" + COUNT + r"(?:\(\+" + COUNT + r"cached\))?"
    r"output=" + COUNT + r"(?:\(reasoning" + COUNT + r"\))?"
)
TOKENS_USED = r"(?i)(?:^|\n)(?:\[[^\]\n]*\]\s*)?tokens\s+used:?\s*" + COUNT + r"\s*(?=\n|$)"
LOOSE_COUNT = r"(?i)\b(total|input|output|cached|reasoning)\s*[=:]\s*" + COUNT


def number_of(text: str) -> int:
    """A printed number without its separators and wraps."""
    return int(re.sub(r"[,\s]", "", text))


def printed_usage(text: str) -> list[dict[str, Any]]:
    """The usage entries in what Codex has printed (without escapes).

    `Token usage:` lines are one entry each, the same line twice is one. Without any, the last `tokens used`, which
    older versions print as a running total.
    """
    read = [
        read_usage_form(text[label.end() : label.end() + 400]) for label in re.finditer(r"(?i)token\s+usage:", text)
    ]
    entries = without_doubles(entry for entry in read if entry) or loose_usage(text)
    if not entries:
        for match in re.finditer(TOKENS_USED, text):
            entries = [{"total": number_of(match.group(1)), "line": shortened(match.group(0))}]
    return entries


def without_doubles(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries, each of them once, in their order."""
    return list({tuple(sorted(entry.items())): entry for entry in entries}.values())


def read_usage_form(text: str) -> dict[str, Any] | None:
    """The entry of Codex's own form, `total=… input=… (+ … cached) output=… (reasoning …)`, or None."""
    match = re.match(USAGE_FORM, re.sub(r"\s", "", text))
    if not match:
        return None
    total, given, cached, output, reasoning = match.groups()
    if reasoning is None:
        # Nothing tells a wrapped last number from one that the next line begins with.
        plain = re.search(r"(?i)output\s*=\s*" + COUNT, text)
        output = plain.group(1) if plain else output
    entry = {"total": number_of(total), "input": number_of(given), "output": number_of(output)}
    entry.update({"cached": number_of(cached)} if cached else {})
    entry.update({"reasoning": number_of(reasoning)} if reasoning else {})
    shown = "total=%s input=%s" % (total, given) + (" (+ %s cached)" % cached if cached else "") + " output=%s" % output
    return dict(entry, line="Token usage: " + shown + (" (reasoning %s)" % reasoning if reasoning else ""))


def loose_usage(text: str) -> list[dict[str, Any]]:
    """The entries of lines that say `token usage` in another form (`docs/protocol.md 15.5`)."""
    entries: list[dict[str, Any]] = []
    for line in text.split("\n"):
        if re.match(r"\s*token usage\b", line, re.IGNORECASE):
            counts = {name.lower(): number_of(digits) for name, digits in reversed(re.findall(LOOSE_COUNT, line))}
            cached = re.search(r"\(\+\s*" + COUNT + r"\s+cached", line)
            counts.update({"cached": number_of(cached.group(1))} if cached else {})
            if counts:
                entries.append(dict(counts, line=shortened(line)))
    return without_doubles(entries)


def shortened(line: str) -> str:
    """A line as it is reported: one line, at most 240 characters."""
    line = " ".join(line.split())
    return line if len(line) <= 240 else line[:240] + "…"


class OutputReader:
    """Finds token usage in what Codex writes on one stream, holding little of it: what came last."""

    MAX_LINE = 1 << 16
    MAX_KEPT = 1 << 18

    def __init__(self, json_events: bool) -> None:
        self.json_events = json_events
        self.events: list[dict[str, int] | None] = []
        self._kept: collections.deque[str] = collections.deque()
        self._length = 0
        self._follow = 0
        self._rest = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._line(bytes(self._rest + line))
            self._rest.clear()
        self._rest += rest
        # Not at each piece: each may be a byte.
        if len(self._rest) > 2 * self.MAX_LINE:
            del self._rest[: -self.MAX_LINE]

    def close(self) -> None:
        """The stream has ended."""
        if self._rest:
            self._line(bytes(self._rest))
            self._rest.clear()

    def _line(self, line: bytes) -> None:
        if self.json_events:
            if b'"turn.completed"' in line:
                with contextlib.suppress(ValueError, AttributeError):
                    event = json.loads(line.decode("utf-8", "replace"))
                    if event.get("type") == "turn.completed":
                        self.events.append(read_counts(event.get("usage")))
            return
        lowered = line[-self.MAX_LINE :].lower()
        if b"usage" in lowered or b"tokens" in lowered:
            self._follow = 8
        if self._follow:
            self._follow -= 1
            self._kept.append(re.sub(ESCAPES, "", line[-self.MAX_LINE :].decode("utf-8", "replace")).replace("\r", ""))
            self._length += len(self._kept[-1]) + 1
            while self._length > self.MAX_KEPT:
                self._length -= len(self._kept.popleft()) + 1

    def text(self) -> str:
        """The lines around what may be usage, without escapes."""
        return "\n".join(self._kept)


def event_usage(events: Sequence[dict[str, int] | None]) -> dict[str, int] | None:
    """The entry of a run's `turn.completed` events.

    Codex counts over the whole session in them; an event that is not more than the one before starts a new count.
    """
    done: dict[str, int] = {}
    running: dict[str, int] = {}
    for counts in events:
        if counts is None:
            continue
        grows = all(counts[name] >= running.get(name, 0) for name in COUNTS) and counts != running
        if not grows:
            done = add_counts(done, running)
        running = counts
    return add_counts(done, running) if events and running else None


def model_of(arguments: list[str], home: str) -> str | None:
    """The model that a run without a session file was given, or None."""
    for index, argument in enumerate(arguments):
        match = re.match(r"(?:--model=|-m=?)(.+)", argument)
        if match:
            return match.group(1)[:128]
        if argument in ("-m", "--model") and index + 1 < len(arguments):
            return arguments[index + 1][:128]
        if argument in ("-p", "--profile"):
            return None
    with contextlib.suppress(OSError):
        for line in read_regular(os.path.join(home, "config.toml"))[0].decode("utf-8", "replace").splitlines():
            if line.lstrip().startswith("["):
                break
            match = re.match(r"""\s*model\s*=\s*["']([^"']{1,128})["']""", line)
            if match:
                return match.group(1)
    return None
