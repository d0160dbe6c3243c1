"""Processes: what the system tells of them, and the session files that they have open."""

from __future__ import annotations

import contextlib
import fcntl
import os


def is_free(path: str) -> bool:
    """Whether a lock file is held by no process."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def alive(pid: object) -> bool:
    """Whether there is a process of this number."""
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def has_proc() -> bool:
    """Whether there is /proc."""
    return os.path.isdir("/proc/self")


def is_run_of_codex(pid: object) -> bool:
    """Whether the Codex of a run goes on, which had this number: it may be another program's by now."""
    if not alive(pid):
        return False
    try:
        with open("/proc/%s/cmdline" % pid, "rb") as file:
            return b"codex" in file.read()
    except OSError:
        return not has_proc()


def stat_fields(pid: int) -> list[str]:
    """What /proc tells of a process, after its name: state, parent, …; empty where there is none."""
    with contextlib.suppress(OSError), open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()
    return []


def command_line(pid: int) -> list[str]:
    """The words with which a process was started, where there is /proc."""
    with contextlib.suppress(OSError), open("/proc/%d/cmdline" % pid, "rb") as file:
        return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
    return []


def asked_of(pid: int, field: str) -> str:
    """A field of a process by `ps`, where there is no /proc."""
    if has_proc():
        return ""
    import subprocess

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["ps", "-o", field + "=", "-p", str(pid)], stdin=subprocess.DEVNULL, capture_output=True, timeout=5
        )
        return done.stdout.decode("utf-8", "replace").strip()
    return ""


def descendants(pid: int) -> list[int]:
    """A process and all below it, where there is /proc."""
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            for task in os.listdir("/proc/%d/task" % pid):
                with contextlib.suppress(OSError), open("/proc/%d/task/%s/children" % (pid, task)) as file:
                    todo += [int(child) for child in file.read().split()]
    return found


def open_sessions(pid: int | None) -> set[str]:
    """The session files that a process and those below it have open to write, where there is /proc."""
    found = set()
    for process in descendants(pid) if pid else []:
        with contextlib.suppress(OSError):
            for number in os.listdir("/proc/%d/fd" % process):
                with contextlib.suppress(OSError):
                    path = os.readlink("/proc/%d/fd/%s" % (process, number))
                    is_session = os.path.basename(path).startswith("rollout-") and path.endswith(".jsonl")
                    if is_session and writes(process, number):
                        found.add(path)
    return found


def writes(pid: int, descriptor: str) -> bool:
    """Whether a process can write to a file that it has open."""
    with open("/proc/%d/fdinfo/%s" % (pid, descriptor)) as file:
        flags = [line.split()[1] for line in file if line.startswith("flags:")]
    return not flags or int(flags[0], 8) & os.O_ACCMODE != os.O_RDONLY
