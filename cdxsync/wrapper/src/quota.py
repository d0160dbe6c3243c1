"""The quota bars, and times for people."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.document import parse_time
from cdxsync.wrapper.src.messages import tell

if TYPE_CHECKING:
    from typing import Any

WINDOWS = (("primary_window", "5h quota"), ("secondary_window", "week quota"))


def quota_lines(usage: object, now: float, colour: bool) -> list[str]:
    """A line for each window of a `chatgpt_usage` block that tells how much is used."""
    lines = []
    for name, label in WINDOWS:
        window = usage.get(name) if isinstance(usage, dict) else None
        if not isinstance(usage, dict) or not isinstance(window, dict):
            continue
        percent = window.get("used_percent")
        if isinstance(percent, bool) or not isinstance(percent, (int, float)) or percent != percent:
            continue
        percent = max(0, min(999, percent))
        cells = min(24, int(percent * 24 / 100.0 + 0.5))
        bar = "#" * cells + "." * (24 - cells)
        if colour:
            bar = "\x1b[%dm%s\x1b[0m" % (31 if percent >= 95 else 33 if percent >= 80 else 32, bar)
        lines.append("%-10s [%s] %3d%%%s" % (label, bar, int(percent + 0.5), reset_note(window, usage, now)))
    return lines


def reset_note(window: dict[str, Any], usage: dict[str, Any], now: float) -> str:
    """`  resets in 2 h 30 min`, or nothing when it is not known. Codex's epoch is exact; a span ages since it was
    fetched."""
    at = window.get("reset_at")
    left = window.get("reset_after_seconds")
    if isinstance(at, str) and re.match(r"\d{1,12}(\.\d+)?\Z", at):
        at = float(at)
    elif isinstance(at, str) and parse_time(at) is not None:
        at = parse_time(at)
    elif isinstance(left, int) and not isinstance(left, bool):
        at = (parse_time(usage.get("fetched_at")) or now) + left
    if isinstance(at, bool) or not isinstance(at, (int, float)) or abs(at - now) > 366 * 86400:
        return ""
    return "  resets in %s (%s)" % (
        span(max(0, at - now)),
        time.strftime("%H:%M" if at - now < 72000 else "%a %H:%M", time.localtime(at)),
    )


def span(seconds: float) -> str:
    """A time span for people."""
    minutes = int(seconds + 59) // 60
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    shown = ["%d %s" % part for part in parts if part[0]][:2]
    return " ".join(shown) or "a minute"


def show_quota(answer: dict[str, Any]) -> None:
    """The quota bars, for people at a terminal who did not ask for quiet."""
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("CDX_QUIET", "0") not in ("", "0"):
        return
    colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    for line in quota_lines(answer.get("chatgpt_usage"), time.time(), colour):
        tell(line + "\n")


def shown_time(seconds: object) -> str:
    """A time of the past for people, in their time zone."""
    if not isinstance(seconds, (int, float)):
        return "never"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
