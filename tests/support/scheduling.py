"""Schedulers of a test's machine: stand-ins that behave like the programs do, and what a real one would start.

machine = host(fleet, root)
no_scheduler(machine)               # none is there, whatever the machine has that the tests run on
with_crontab(machine)               # `crontab` with a file of its own; cron_command says what cron would run
with_systemd_user(machine)          # `systemctl --user` that keeps a log; `with_launchd` likewise
"""

import hashlib
import os
import re
import subprocess
from pathlib import Path

from tests.support.fleet import Fleet
from tests.support.machines import Machine, host, write_program

ODD = "a b%h 'c' \"d\" $HOME \\ é"
"""A folder's name with all that shells, units and crontabs read as more than itself."""
MISSING = "#!/bin/sh\necho 'not found' >&2\nexit 127\n"
CRONTAB = """#!/bin/sh
case "$1" in
-l)
    [ -e "$HOME/crontab.txt" ] || { echo "no crontab for $(id -un)" >&2; exit 1; }
    exec cat "$HOME/crontab.txt"
    ;;
-r) rm "$HOME/crontab.txt" ;;
-)
    cat >"$HOME/crontab.new"
    # Each line is a comment, a setting, or has five fields of time and a command; the last one ends.
    if [ -n "$(tail -c 1 "$HOME/crontab.new")" ]; then
        echo "new crontab file is missing newline before EOF, can't install." >&2
        exit 1
    fi
    if grep -vE '^ *(#.*)?$|^ *[A-Za-z_]+ *=|^ *([0-9*,/-]+ +){5}[^ ]' "$HOME/crontab.new" >&2; then
        echo "errors in crontab file, can't install." >&2
        exit 1
    fi
    mv "$HOME/crontab.new" "$HOME/crontab.txt"
    ;;
*) exit 2 ;;
esac
"""
# It knows what is enabled and started; a unit file that is not there is an error, as systemd has it.
SYSTEMCTL = """#!/bin/sh
[ "$1" = --user ] || { echo "System has not been booted with systemd as init system (PID 1)." >&2; exit 1; }
shift 2
printf '%s\\n' "$*" >>"$HOME/systemctl.log"
units=$HOME/.config/systemd/user
for unit; do :; done
case "$1" in
show) echo Version=252 ;;
daemon-reload) ;;
enable) [ -e "$units/$unit" ] || { echo "Unit file $unit does not exist." >&2; exit 1; }
    mkdir -p "$units/timers.target.wants" && ln -sf "$units/$unit" "$units/timers.target.wants/$unit" ;;
start | restart) [ -e "$units/$unit" ] && touch "$HOME/active.$unit" ;;
is-active) [ -e "$HOME/active.$unit" ] && echo active || { echo inactive; exit 3; } ;;
disable) rm -f "$HOME/active.$unit" "$units/timers.target.wants/$unit" ;;
*) exit 1 ;;
esac
"""
LAUNCHCTL = """#!/bin/sh
printf '%s\\n' "$*" >>"$HOME/launchctl.log"
loaded=$HOME/loaded
case "$1" in
bootstrap) [ "$2" = "$(cat "$HOME/domain")" ] || { echo "Bootstrap failed: 125" >&2; exit 125; }
    name=$(basename "$3" .plist); [ -e "$3" ] && echo "$3" >"$loaded.$name" ;;
bootout) rm "$loaded.${2##*/}" ;;
print) [ "${2%/*}" = "$(cat "$HOME/domain")" ] && cat "$loaded.${2##*/}" ;;
*) exit 1 ;;
esac
"""


def odd_machine(fleet: Fleet, root: Path) -> Machine:
    """A machine whose cdx and whose CODEX_HOME lie below such a folder."""
    machine = host(fleet, root / ODD)
    machine.env["CODEX_HOME"] = str(machine.home / "its %i codex")
    return machine


def job_name(machine: Machine) -> str:
    """The name of its sync: that of a home which is not the one of the user who runs the tests."""
    home = machine.env.get("CODEX_HOME", str(machine.home / ".codex"))
    return "cdx-watch-" + hashlib.sha256(os.path.realpath(home).encode()).hexdigest()[:8]


def no_scheduler(machine: Machine) -> None:
    """Let none be there, whatever the machine has that the tests run on."""
    for name in ("systemctl", "crontab", "launchctl"):
        write_program(machine.bin / name, MISSING)
    (machine.bin / "launchctl").unlink()


def with_crontab(machine: Machine, text: str | None = None) -> Path:
    """Give it a crontab, empty or with a text; returns its file, which is there when there is a crontab."""
    no_scheduler(machine)
    write_program(machine.bin / "crontab", CRONTAB)
    file = machine.home / "crontab.txt"
    if text is not None:
        file.write_text(text)
    return file


def with_systemd_user(machine: Machine) -> Path:
    """Give it a systemd of its user; returns the folder of its units."""
    no_scheduler(machine)
    write_program(machine.bin / "systemctl", SYSTEMCTL)
    return machine.home / ".config" / "systemd" / "user"


def with_launchd(machine: Machine, domain: str) -> None:
    """Give it a launchd with one domain, such as `gui/501`."""
    no_scheduler(machine)
    write_program(machine.bin / "launchctl", LAUNCHCTL)
    (machine.home / "domain").write_text(domain)


def cron_command(line: str) -> str:
    """What cron gives to the shell for a line of a crontab: a per cent sign ends it, where it is not escaped."""
    command = line.rstrip("\n").split(None, 5)[5]
    found = re.split(r"(?<!\\)%", command, maxsplit=1)[0]
    return found.replace(r"\%", "%")


def run_by_cron(machine: Machine, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of its crontab at once, with the environment of cron."""
    command = re.sub(r"--after \d+", "--after 0", cron_command(line))
    env = {"HOME": str(machine.home), "LOGNAME": "somebody", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        ["/bin/sh", "-c", command], env=env, cwd=machine.home, capture_output=True, text=True, timeout=60
    )
