"""A `codex` that starts cdx again: each would start the other for ever.

What cdx starts as Codex is told who started it. Codex's children inherit that, and may well start cdx; what matters is
whether there is a Codex between the two.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.codex_command import words_of
from cdxsync.wrapper.src.files import sha256_of
from cdxsync.wrapper.src.processes import asked_of, command_line, has_proc, stat_fields

if TYPE_CHECKING:
    from typing import Tuple

    # Number, what tells it from an earlier one of that number, digest of the arguments, depth, and the program.
    Starter = Tuple[int, str, str, int, str]

STARTED = "CDX_STARTED"
# So many of our programs in a row without a Codex between them, if each changes the arguments.
MAX_DEPTH = 3
MAX_ANCESTORS = 32


def started_by_us(env: dict[str, str], program: str, arguments: list[str]) -> dict[str, str]:
    """The environment for a program that is started as Codex."""
    pid = os.getpid()
    mark = (str(pid), birth(pid), digest_of(arguments), str(depth() + 1), program)
    return dict(env, **{STARTED: " ".join(mark)})


def loop(arguments: list[str]) -> str | None:
    """The program that cdx has started as Codex, and that has started this cdx; None when Codex is between, or none."""
    starter = read_starter()
    between = programs_since(starter)
    if starter is None or between is None:
        return None
    _, _, digest, turns, program = starter
    # Without a process between, what was started has become this very cdx.
    again = not between or turns >= MAX_DEPTH or carries(arguments, digest)
    return program if again else None


def unmarked_loop(arguments: list[str]) -> bool:
    """As `loop`, where what was started as Codex has cleared the environment before it started this."""
    if STARTED in os.environ or not has_proc():
        return False
    own, above = os.path.realpath(__file__), os.getppid()
    for between in (0, 1):
        if above <= 1 or is_codex(above):
            return False
        words = [word for word in command_line(above) if word != "-IS"]
        if len(words) > 1 and "python" in os.path.basename(words[0]) and is_file(words[1], own):
            # cdx asks Codex for its version and its help by itself.
            asked = arguments[-1:] in (["--version"], ["--help"])
            return not between or asked or carries(arguments, digest_of(words[2:]))
        above = parent_of(above)
    return False


def is_file(word: str, own: str) -> bool:
    """Whether a word of a command line is the path of our own file."""
    return os.path.basename(word) == os.path.basename(own) and os.path.realpath(word) == own


def depth() -> int:
    """How many programs were started in a row, each by the one before, without a Codex between them."""
    starter = read_starter()
    return starter[3] if starter is not None and programs_since(starter) is not None else 0


def read_starter() -> Starter | None:
    """Who has started this as Codex, or something above this; None when that one is gone."""
    parts = os.environ.get(STARTED, "").split(" ", 4)
    if len(parts) < 5 or not (parts[0].isdecimal() and parts[3].isdecimal()):
        return None
    pid = int(parts[0])
    return (pid, parts[1], parts[2], int(parts[3]), parts[4]) if birth(pid) == parts[1] else None


def programs_since(starter: Starter | None) -> list[int] | None:
    """The processes between a starter and this one; None where a Codex is among them, or the starter is not above."""
    between = processes_between(starter[0]) if starter else None
    return None if between is None or any(is_codex(process) for process in between) else between


def processes_between(pid: int) -> list[int] | None:
    """The processes above this one and below that one; None when that one is not above."""
    found: list[int] = []
    above = os.getpid() if pid == os.getpid() else os.getppid()
    while above != pid:
        if above <= 1 or len(found) == MAX_ANCESTORS:
            return None
        found.append(above)
        above = parent_of(above)
    return found


def digest_of(arguments: list[str]) -> str:
    """A short text for arguments, which may be secret."""
    return sha256_of("\0".join(arguments).encode("utf-8", "surrogateescape"))[:16]


def carries(arguments: list[str], digest: str) -> bool:
    """Whether arguments are those of this digest, with others before them at most."""
    for index in range(len(arguments) + 1):
        if digest_of(arguments[index:]) == digest:
            return index < len(arguments) or next(words_of(arguments), None) is None
    return False


def birth(pid: int) -> str:
    """What tells a process from an earlier one of its number, where there is /proc."""
    fields = stat_fields(pid)
    return fields[19] if len(fields) > 19 else "-"


def parent_of(pid: int) -> int:
    """The process above one; 0 when it is not known."""
    fields = stat_fields(pid)
    text = fields[1] if len(fields) > 1 else asked_of(pid, "ppid")
    return int(text) if text.isdecimal() else 0


def is_codex(pid: int) -> bool:
    """Whether a process is a program of Codex itself; a script is its interpreter here."""
    try:
        program = os.readlink("/proc/%d/exe" % pid)
    except OSError:
        program = asked_of(pid, "comm")
    return "codex" in os.path.basename(program)
