"""The background sync of cdx: which scheduler starts it, and that it can be put in, looked at and taken away."""

import json
import os
import plistlib
import pwd
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from cdxsync.wrapper.src import schedulers, watch_job
from tests.support.fleet import Fleet
from tests.support.machines import Machine, host, write_program
from tests.support.scheduling import (
    CRONTAB,
    ODD,
    cron_command,
    job_name,
    no_scheduler,
    odd_machine,
    run_by_cron,
    with_crontab,
    with_launchd,
    with_systemd_user,
)


def last(machine: Machine) -> dict[str, Any]:
    """What the last sync has noted."""
    home = Path(machine.env.get("CODEX_HOME", machine.home / ".codex"))
    noted: dict[str, Any] = json.loads((home / ".cdx" / "watch-last.json").read_text())
    return noted


def test_cron(fleet: Fleet, tmp_path: Path) -> None:
    machine = host(fleet, tmp_path)
    crontab = with_crontab(machine)
    done = machine.run_cdx("--watch", "install")
    assert (done.returncode, done.stdout) == (0, "")
    assert f"a line of the crontab starts {machine.cdx} every 4 minutes, for {machine.home}/.codex" in done.stderr
    (line,) = crontab.read_text().splitlines()
    assert line.split()[1:5] == ["*"] * 4
    assert line.endswith(" --watch run --after " + line.split("--after ")[1])
    first = last(machine)["ok_at"]
    assert fleet.host(machine.env["NAME"])["background_sync"]["by"] == "cron"
    done = run_by_cron(machine, line)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert last(machine)["ok_at"] > first
    # Again is the same: one line, which stays as it is.
    assert machine.run_cdx("--watch", "install").returncode == 0
    assert crontab.read_text() == line + "\n"
    shown = machine.run_cdx("--watch", "status")
    assert shown.returncode == 0, shown.stdout
    assert "background   good\n" in shown.stdout
    done = machine.run_cdx("--watch", "remove")
    assert (done.returncode, done.stderr) == (0, "cdx: a line of the crontab is removed\n")
    assert not crontab.exists()
    assert fleet.host(machine.env["NAME"])["background_sync"] is None
    done = machine.run_cdx("--watch", "remove")
    assert (done.returncode, done.stderr) == (0, "cdx: there was none\n")
    assert machine.run_cdx("--watch", "status").returncode == 1


def test_a_crontab_keeps_what_is_not_ours(fleet: Fleet, tmp_path: Path) -> None:
    machine = host(fleet, tmp_path)
    name = job_name(machine)
    theirs = (
        f"# {name}\nMAILTO=me\n5 4 * * * /opt/backup --percent \\%d # not {name}\n"
        f"# 1-59/4 * * * * off # {name}\n0-59/4 * * * * /its/cdx --watch run # cdx-watch\n"
        "1-59/4 * * * * CODEX_HOME='/other' '/bin/cdx' --watch run # cdx-watch-0a1b2c3d\n"
    )
    crontab = with_crontab(machine, theirs.rstrip("\n") + "\n")
    stale = f"0-59/4 * * * * /old/cdx --watch run # {name}\n"
    crontab.write_text(stale + theirs + stale)
    assert machine.run_cdx("--watch", "install").returncode == 0
    text = crontab.read_text()
    assert text.startswith(theirs)
    (own,) = text[len(theirs) :].splitlines()
    assert str(machine.cdx) in own
    # Another home has a line of its own.
    machine.env["CODEX_HOME"] = str(machine.home / "second")
    assert machine.run_cdx("--watch", "install").returncode == 0
    assert [line.split("# ")[-1] for line in crontab.read_text().splitlines()[-2:]] == [name, job_name(machine)]
    assert name != job_name(machine)
    assert machine.run_cdx("--watch", "remove").returncode == 0
    del machine.env["CODEX_HOME"]
    assert machine.run_cdx("--watch", "remove").returncode == 0
    assert crontab.read_text() == theirs


def test_the_name_of_the_users_own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the password database, as crontab and systemd know the user by that."""
    monkeypatch.setenv("HOME", str(tmp_path))
    own = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".codex"
    assert watch_job.Job(str(own)).name == "cdx-watch"
    assert watch_job.Job(str(tmp_path / ".codex")).name.startswith("cdx-watch-")


def test_a_crontab_that_cannot_be_read_is_not_written(fleet: Fleet, tmp_path: Path) -> None:
    machine = host(fleet, tmp_path)
    with_crontab(machine)
    (machine.bin / "crontab").write_text("#!/bin/sh\necho 'you are not allowed to use this program' >&2\nexit 1\n")
    done = machine.run_cdx("--watch", "install")
    assert done.returncode == 1
    assert "crontab -l fails (you are not allowed to use this program)" in done.stderr


def test_a_line_that_cannot_be_taken_away_is_said_to_be_left(fleet: Fleet, tmp_path: Path) -> None:
    machine = host(fleet, tmp_path)
    with_crontab(machine)
    assert machine.run_cdx("--watch", "install").returncode == 0
    works = (machine.bin / "crontab").read_text()
    (machine.bin / "crontab").write_text("#!/bin/sh\necho 'try again later' >&2\nexit 1\n")
    done = machine.run_cdx("--watch", "remove")
    assert (done.returncode, done.stderr) == (1, "cdx: crontab -l fails (try again later)\n")
    assert fleet.host(machine.env["NAME"])["background_sync"]["by"] == "cron"
    (machine.bin / "crontab").write_text(works)
    done = machine.run_cdx("--watch", "remove")
    assert (done.returncode, done.stderr) == (0, "cdx: a line of the crontab is removed\n")
    # Where there is no crontab any more, nothing is left that starts it.
    assert machine.run_cdx("--watch", "install").returncode == 0
    (machine.bin / "crontab").unlink()
    no_scheduler(machine)
    done = machine.run_cdx("--watch", "remove")
    assert (done.returncode, done.stderr) == (0, "cdx: the background sync is removed\n")


def test_a_home_that_takes_no_note_gets_none(fleet: Fleet, tmp_path: Path) -> None:
    machine = host(fleet, tmp_path)
    crontab = with_crontab(machine)
    (machine.home / ".codex" / ".cdx" / "watch.json").mkdir(parents=True)
    for wanted in ((), ("other",)):
        done = machine.run_cdx("--watch", "install", *wanted)
        assert done.returncode == 1
        assert f"cannot write {machine.home}/.codex/.cdx/watch.json" in done.stderr
        assert "every 4 minutes" not in done.stderr
    assert not crontab.exists()


def test_any_path_in_a_crontab(fleet: Fleet, tmp_path: Path) -> None:
    machine = odd_machine(fleet, tmp_path)
    crontab = with_crontab(machine)
    assert machine.run_cdx("--watch", "install").returncode == 0
    line = crontab.read_text()
    # Not all crons let it be escaped.
    assert "%" not in line
    assert cron_command(line) == line.rstrip("\n").split(None, 5)[5]
    first = last(machine)["ok_at"]
    done = run_by_cron(machine, line)
    assert (done.returncode, done.stderr) == (0, "")
    assert last(machine)["ok_at"] > first


def test_systemd_of_the_user(fleet: Fleet, tmp_path: Path) -> None:
    machine = host(fleet, tmp_path)
    folder, name = with_systemd_user(machine), job_name(machine)
    done = machine.run_cdx("--watch", "install")
    assert done.returncode == 0
    assert f"the systemd user timer {name}.timer starts {machine.cdx}" in done.stderr
    assert "loginctl enable-linger" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{name}.service",
        f"{name}.timer",
        "timers.target.wants",
    ]
    assert fleet.host(machine.env["NAME"])["background_sync"]["by"] == "systemd"
    log = machine.home / "systemctl.log"
    assert log.read_text().splitlines()[-3:] == ["daemon-reload", f"enable {name}.timer", f"restart {name}.timer"]
    assert machine.run_cdx("--watch", "install").returncode == 0
    assert log.read_text().splitlines()[-2:] == [f"enable {name}.timer", f"start {name}.timer"]
    assert f"background   the systemd user timer {name}.timer, last run" in machine.run_cdx("--status").stdout
    assert "ok    the background sync: the systemd user timer" in machine.run_cdx("--doctor").stdout
    (machine.home / f"active.{name}.timer").unlink()
    doctor = machine.run_cdx("--doctor").stdout
    assert f"warn  the background sync: {name}.timer is not active (inactive)\n      -> cdx --watch install" in doctor
    assert machine.run_cdx("--watch", "remove").returncode == 0
    assert [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()] == []


def test_systemd_of_the_machine_for_root(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its part alone, in a folder of its own: what systemd is told, and what it starts, with nothing but what is in the
    unit for an environment."""
    machine = host(fleet, tmp_path)
    with_systemd_user(machine)
    assert machine.run_cdx("--watch", "install").returncode == 0
    log = machine.home / "system.log"
    write_program(machine.bin / "systemctl", f'#!/bin/sh\nprintf "%s\\n" "$*" >>{log}\n')
    for name in ("HOME", "PATH"):
        monkeypatch.setenv(name, machine.env[name])
    monkeypatch.setattr(watch_job, "__file__", str(machine.cdx))
    systemd = schedulers.Systemd(watch_job.Job(str(machine.home / ".codex")), system=True)
    assert systemd.folder == "/etc/systemd/system"
    systemd.folder = str(tmp_path / "system")
    systemd.entry = str(tmp_path / "system" / systemd.timer)
    systemd.install()
    assert log.read_text().splitlines() == [
        f"--system --no-pager {words}"
        for words in ("daemon-reload", f"enable {systemd.timer}", f"restart {systemd.timer}")
    ]
    assert (systemd.problem(), systemd.hint()) == ("", "")
    unit = (tmp_path / "system" / systemd.service).read_text()
    settings = dict(
        line[len('Environment="') : -1].split("=", 1) for line in unit.splitlines() if "Environment" in line
    )
    command = next(line.split("=", 1)[1] for line in unit.splitlines() if line.startswith("ExecStart="))
    before = last(machine)["ok_at"]
    done = subprocess.run(shlex.split(command), env=settings, cwd="/", capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert last(machine)["ok_at"] > before
    assert systemd.remove()
    assert list((tmp_path / "system").iterdir()) == []
    assert not systemd.remove()


@pytest.mark.parametrize("age", [2 * 3600, -2 * 3600])
def test_one_that_has_not_run_for_long_is_named(fleet: Fleet, tmp_path: Path, age: int) -> None:
    machine = host(fleet, tmp_path)
    with_systemd_user(machine)
    assert machine.run_cdx("--watch", "install").returncode == 0
    note = machine.home / ".codex" / ".cdx" / "watch-last.json"
    note.write_text(json.dumps({"ran_at": time.time() - age, "ok_at": time.time() - age}))
    assert "background   it should run every 4 minutes: the systemd user timer" in machine.run_cdx("--status").stdout
    doctor = machine.run_cdx("--doctor").stdout
    assert "warn  the background sync: it should run every 4 minutes" in doctor
    assert "loginctl enable-linger" in doctor


def test_what_is_no_command_of_it(fleet: Fleet, tmp_path: Path) -> None:
    machine = host(fleet, tmp_path)
    no_scheduler(machine)
    for arguments in (["installed"], ["install", "cron", "now"], ["status", "x"], ["remove", "x"]):
        done = machine.run_cdx("--watch", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("usage: cdx --watch install [systemd|launchd|cron|other] | status | remove")
    assert machine.run_cdx("--watch").stdout.startswith("background   none\nto do        cdx --watch install\n")


@pytest.mark.parametrize("domain", ["gui/501", "user/501"])
def test_launchd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, domain: str) -> None:
    """Its part alone, as only there it would be chosen: the property list, and what its command does."""
    machine = Machine(tmp_path / ODD)
    with_launchd(machine, domain)
    monkeypatch.setattr(os, "geteuid", lambda: 501)
    for name in ("HOME", "PATH"):
        monkeypatch.setenv(name, machine.env[name])
    text = '#!/bin/sh\nprintf "%s\\n" "$0" "$CODEX_HOME" "$@" >"$HOME/ran"\n'
    program = write_program(machine.bin / "cdx & <co>", text)
    monkeypatch.setattr(watch_job, "__file__", str(program))
    launchd = schedulers.Launchd(watch_job.Job(str(machine.home / "its codex")))
    assert launchd.unavailable() == ""
    launchd.install()
    entry = Path(launchd.entry)
    assert entry.parent == machine.home / "Library" / "LaunchAgents"
    value = plistlib.loads(entry.read_bytes())
    assert (value["Label"], value["StartInterval"], value["RunAtLoad"]) == (entry.stem, 240, True)
    subprocess.run(
        value["ProgramArguments"], env=value["EnvironmentVariables"] | {"HOME": str(machine.home)}, check=True
    )
    ran = (machine.home / "ran").read_text().splitlines()
    assert ran == [str(program), str(machine.home / "its codex"), "--watch", "run"]
    assert launchd.problem() == ""
    log = machine.home / "launchctl.log"
    before = log.read_text()
    launchd.install()
    assert "bootstrap" not in log.read_text()[len(before) :]
    assert launchd.remove()
    assert launchd.problem()
    assert not launchd.remove()
    assert list(entry.parent.iterdir()) == []


def test_where_there_is_no_scheduler(fleet: Fleet, tmp_path: Path) -> None:
    machine = host(fleet, tmp_path)
    no_scheduler(machine)
    done = machine.run_cdx("--watch", "install")
    assert done.returncode == 1
    assert "cdx: nothing can start it here: no systemd" in done.stderr
    assert "cdx --watch install other" in done.stderr
    assert not (machine.home / ".codex" / ".cdx" / "watch.json").exists()
    assert "ok    no background sync" in machine.run_cdx("--doctor").stdout
    done = machine.run_cdx("--watch", "install", "other")
    assert done.returncode == 0
    assert f"have this started every 4 minutes: CODEX_HOME='{machine.home}/.codex' '{machine.cdx}'" in done.stderr
    assert fleet.host(machine.env["NAME"])["background_sync"]["by"] == "other"
    assert machine.run_cdx("--watch", "run").returncode == 0
    assert machine.run_cdx("--watch", "remove").returncode == 0


def test_another_scheduler_takes_the_place_of_the_first(fleet: Fleet, tmp_path: Path) -> None:
    machine = host(fleet, tmp_path)
    crontab = with_crontab(machine)
    assert machine.run_cdx("--watch", "install").returncode == 0
    assert crontab.exists()
    folder = with_systemd_user(machine)
    write_program(machine.bin / "crontab", CRONTAB)
    assert machine.run_cdx("--watch", "install").returncode == 0
    assert not crontab.exists()
    assert (folder / f"{job_name(machine)}.timer").exists()
    assert machine.run_cdx("--watch", "install", "cron").returncode == 0
    assert crontab.exists()
    assert not (folder / f"{job_name(machine)}.timer").exists()
    done = machine.run_cdx("--watch", "install", "anacron")
    assert done.returncode == 1
    assert "nothing can start it here: anacron is none of systemd, launchd, cron and other" in done.stderr
