"""A `codex` that starts cdx again is noticed at the first turn; a cdx that Codex starts works."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.machines import STUB_CODEX, Machine, host, write_program


def wrapped(synced: Fleet, root: Path, line: str) -> tuple[Machine, Path]:
    """A host whose `codex` is a script with this line, where CDX is cdx; and the file in which it notes its turns."""
    machine = host(synced, root)
    turns = machine.root / "turns"
    line = line.replace("CDX", f'"{machine.cdx}"')
    write_program(machine.bin / "codex", f'#!/bin/sh\necho "$*" >>"{turns}"\n{line}\n')
    return machine, turns


LINES = [
    'exec CDX "$@"',
    'CDX "$@"',
    'exec CDX -c model=x "$@"',
    'env A=b CDX --search "$@"',
    '(CDX "$@"); exit $?',
    'timeout 60 CDX "$@"',
    "exec CDX",
    'CDX exec "$*"',
]


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("arguments", [("exec", "hi"), ()], ids=["exec", "none"])
def test_a_codex_that_starts_cdx_is_named(synced: Fleet, tmp_path: Path, line: str, arguments: tuple[str, ...]) -> None:
    machine, turns = wrapped(synced, tmp_path, line)
    done = machine.run_cdx(*arguments)
    assert done.returncode == 126
    assert done.stdout == ""
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"cdx: {machine.bin / 'codex'} is started as Codex, and starts cdx again. ")
    started = [turn for turn in turns.read_text().splitlines() if "--version" not in turn and "--help" not in turn]
    # What changes all arguments, and is a process of its own, is told from a Codex by its number.
    assert len(started) <= (3 if "$*" in line else 1)


CLEARED = [
    'exec env -i HOME="$HOME" PATH="$PATH" CDX "$@"',
    'env -i HOME="$HOME" PATH="$PATH" CDX -c model=x "$@"',
]


@pytest.mark.parametrize("line", CLEARED)
@pytest.mark.parametrize("arguments", [("exec", "hi"), (), ("login",)], ids=["exec", "none", "login"])
def test_a_cleared_environment_hides_it_not(
    synced: Fleet, tmp_path: Path, line: str, arguments: tuple[str, ...]
) -> None:
    stop = '[ "$(wc -l <"${0%/bin/codex}/turns")" -gt 30 ] && exit 99'
    machine, turns = wrapped(synced, tmp_path, f"{stop}\n{line}")
    done = machine.run_cdx(*arguments)
    assert done.returncode == 126
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"cdx: {machine.bin / 'codex'} is started as Codex, and starts cdx again. ")
    started = [turn for turn in turns.read_text().splitlines() if "--version" not in turn and "--help" not in turn]
    assert len(started) == 1


def test_what_starts_cdx_may_name_it(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    cdx = str(machine.cdx)
    started = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    for command in (
        ("timeout", "60", cdx, "exec", "hi"),
        ("sh", "-c", '"$0" exec hi; exit $?', cdx),
        ("python3", "-c", started, cdx, "exec", "hi"),
        ("python3", "-IS", "-c", started, "timeout", "60", cdx, "exec", "hi"),
    ):
        done = machine.run(*command)
        assert (done.returncode, done.stdout, done.stderr) == (0, "ran with: exec hi\n", "")


@pytest.mark.parametrize("line", LINES[:3])
@pytest.mark.parametrize("arguments", [("--version",), ("login",), ("logout",), ("login", "status")])
def test_so_it_is_in_every_command(synced: Fleet, tmp_path: Path, line: str, arguments: tuple[str, ...]) -> None:
    machine, turns = wrapped(synced, tmp_path, line)
    done = machine.run_cdx(*arguments)
    assert done.returncode == 126
    assert done.stderr.count("starts cdx again") == 1
    assert len([turn for turn in turns.read_text().splitlines() if turn.endswith(" ".join(arguments))]) <= 2


def test_a_codex_that_is_there_besides_is_named(synced: Fleet, tmp_path: Path) -> None:
    machine, _ = wrapped(synced, tmp_path, 'exec CDX "$@"')
    real = write_program(tmp_path / "other" / "codex", STUB_CODEX)
    machine.env["PATH"] += f":{real.parent}"
    done = machine.run_cdx("exec")
    assert done.stderr.endswith(f"Let it start Codex by its full path; there is one at {real}\n")
    done = machine.run_cdx("--doctor")
    assert f"{machine.bin / 'codex'} does not report its version: cdx: " in done.stdout
    # So do as it says.
    write_program(machine.bin / "codex", f'#!/bin/sh\nexec {real} "$@"\n')
    assert machine.run_cdx("exec", "hi").stdout == "ran with: exec hi\n"


def test_a_codex_may_start_cdx(synced: Fleet, tmp_path: Path) -> None:
    """A program of its own, not a script, with the same arguments even; and whatever it starts goes on to know that."""
    machine = host(synced, tmp_path, codex=None)
    shutil.copy(Path("/bin/sh").resolve(), machine.bin / "codex")
    script = f'[ -n "$INNER" ] && echo "inner $*" && exit 5\nINNER=1 "{machine.cdx}" exec "$@"; echo "ended with $?"\n'
    (machine.home / "exec").write_text(script)
    done = subprocess.run(
        [machine.cdx, "exec", "hi"],
        env=machine.env,
        cwd=machine.home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "inner hi\nended with 5\n", "")


def test_a_script_may_be_codex_and_start_cdx(synced: Fleet, tmp_path: Path) -> None:
    codex = """#!/bin/sh
[ "$1" = --version ] && echo "codex-cli 0.171.0" && exit
echo "ran with: $*"
[ "$2" = outer ] && { "$CDX" exec inner; "$CDX" --status >/dev/null; "$CDX" --version; }
exit 0
"""
    machine = host(synced, tmp_path, codex=codex)
    done = machine.run_cdx("exec", "outer", CDX=str(machine.cdx))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "ran with: exec outer\nran with: exec inner\ncodex-cli 0.171.0\n"


def test_what_a_run_has_left_behind_may_start_cdx(synced: Fleet, tmp_path: Path) -> None:
    """As a shell in a tmux that Codex has started: it has the variable of a run that is over, or of another process."""
    machine = host(synced, tmp_path, codex='#!/bin/sh\necho "$CDX_STARTED"\n')
    mark = machine.run_cdx("exec").stdout.strip()
    assert mark.split(" ", 4)[4] == str(machine.bin / "codex")
    assert "exec" not in mark
    assert machine.run_cdx("exec", CDX_STARTED=mark).returncode == 0
    mine = " ".join([str(os.getpid()), *mark.split(" ")[1:]])
    assert machine.run_cdx("exec", CDX_STARTED=mine).returncode == 0
    for odd in ("", "x", "1 2 3 4 5", "-1 - - 0 /x", "9 9 9 x /x", "99999999999999999999 - a 1 /x"):
        assert machine.run_cdx("exec", CDX_STARTED=odd).returncode == 0, odd
