"""A Codex of a script, which appends to its session files as the real one does, and their records."""

import sys
from typing import Any

COUNTS = {"total": 4880, "input": 4200, "output": 560, "cached": 120, "reasoning": 160}
"""What an answer of the model on this machine has used, as cdx counts it: input without the cached tokens."""
# A Codex that does to its session file what the test says. Arguments: a JSON list of steps.
SESSIONS = f"""#!{sys.executable}
import datetime, json, os, sys
if sys.argv[1:] == ["--version"]:
    print("codex-cli 0.169.0"); sys.exit()
home = os.environ.get("CODEX_HOME") or os.path.expanduser("~/.codex")
folder = os.path.join(home, "sessions", "2026", "11", "24")
os.makedirs(folder, exist_ok=True)
for step in json.loads(sys.argv[-1]):
    kind, value = step[0], step[1] if len(step) > 1 else None
    if kind == "open":
        name = os.path.join(folder, "rollout-2026-11-24T10-00-00-%s.jsonl" % value)
        file = open(name, "a")
    elif kind == "close":
        file.close()
    elif kind == "say":
        os.write(step[2] if len(step) > 2 else 1, value.encode())
    elif kind == "wait":
        sys.stdin.readline()
    elif kind == "kill":
        os.kill(os.getpid(), value)
    else:
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        file.write(json.dumps({{"timestamp": now, "type": kind, "payload": value}}) + "\\n")
        file.flush()
"""


def meta(thread: str, **more: Any) -> list[Any]:
    return ["session_meta", {"id": thread, "session_id": thread, "cwd": "/somewhere", **more}]


def model(name: str) -> list[Any]:
    return ["turn_context", {"model": name, "cwd": "/somewhere"}]


def usage(total: int, cached: int = 0, output: int = 0, reasoning: int = 0) -> dict[str, int]:
    """Codex's counts with this total."""
    return {
        "input_tokens": total - output,
        "cached_input_tokens": cached,
        "output_tokens": output,
        "reasoning_output_tokens": reasoning,
        "total_tokens": total,
    }


def count(total: dict[str, int] | None, last: dict[str, int] | None = None) -> list[Any]:
    """A running total."""
    info = {"total_token_usage": total, "last_token_usage": last or total} if total else None
    return ["event_msg", {"type": "token_count", "info": info, "rate_limits": {"primary": None}}]


def record(thread: str, of: dict[str, int]) -> list[Any]:
    return ["token_usage_record", {"thread_id": thread, "usage": of, "response_id": "resp_1"}]
