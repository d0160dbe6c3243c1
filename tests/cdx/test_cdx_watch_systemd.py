"""The background sync started by systemd itself: a manager of a user, in a view of the file system of its own."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documents import make_auth
from tests.support.fleet import Fleet
from tests.support.machines import Machine, host
from tests.support.scheduling import job_name, odd_machine, with_systemd_user

SYSTEMD = "/lib/systemd/systemd"
# It starts nowhere but where systemd has booted the machine, as it looks for this folder.
BEGIN = """mount -t tmpfs none /run && mkdir -p /run/systemd/system /run/user/0 && chmod 700 /run/user/0 &&
XDG_RUNTIME_DIR=/run/user/0 exec "$0" --user"""


@contextlib.contextmanager
def running_manager(machine: Machine, scratch: Path) -> Iterator[list[str]]:
    """A systemd of the machine's user; yields the words before a command that is to see it."""
    if os.geteuid() != 0:
        pytest.skip("only root may give a process a view of the file system of its own")
    if not Path(SYSTEMD).exists():
        pytest.skip("there is no systemd")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        address = f"\0cdx-watch-{os.getpid()}-{machine.root.name}"
        ready.bind(address)
        ready.settimeout(30)
        with (scratch / "systemd.log").open("wb") as log:
            process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", BEGIN, SYSTEMD],
                env={"HOME": str(machine.home), "PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": "@" + address[1:]},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            while b"READY=1" not in ready.recv(4096):
                pass
            yield ["nsenter", "--mount", "--target", str(process.pid), "env", "XDG_RUNTIME_DIR=/run/user/0"]
        finally:
            process.terminate()
            process.wait(60)


def shows(machine: Machine, inside: list[str], *names: str) -> dict[str, str]:
    """Properties of a unit."""
    wanted = ",".join(names[1:])
    done = machine.run(*inside, "systemctl", "--user", "show", names[0], f"--property={wanted}")
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("kind", ["plain", "odd"])
def test_a_real_user_manager_starts_it(fleet: Fleet, tmp_path: Path, kind: str) -> None:
    machine = odd_machine(fleet, tmp_path) if kind == "odd" else host(fleet, tmp_path)
    name = machine.env["NAME"]
    home = Path(machine.env.get("CODEX_HOME", machine.home / ".codex"))
    fleet.upload(make_auth("2026-01-01T00:00:00Z", kind))
    with running_manager(machine, tmp_path) as inside:
        # As after su, where no variable says where the user's manager is.
        seen = inside[: inside.index("env")] if kind == "odd" else inside
        done = machine.run(*seen, str(machine.cdx), "--watch", "install")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        timer = job_name(machine) + ".timer"
        assert f"the systemd user timer {timer} starts" in done.stderr
        found = shows(machine, inside, timer, "ActiveState", "UnitFileState", "NextElapseUSecRealtime")
        assert (found["ActiveState"], found["UnitFileState"]) == ("active", "enabled")
        assert found["NextElapseUSecRealtime"]
        # What the timer starts, started now.
        (home / "auth.json").unlink()
        noted = home / ".cdx" / "watch-last.json"
        noted.unlink()
        service = timer.replace(".timer", ".service")
        assert machine.run(*inside, "systemctl", "--user", "start", service).returncode == 0
        assert shows(machine, inside, service, "Result")["Result"] == "success"
        assert noted.exists()
        assert (home / "auth.json").exists()
        assert fleet.host(name)["background_sync"]["by"] == "systemd"
        shown = machine.run(*seen, str(machine.cdx), "--watch", "status")
        assert shown.stdout.startswith("background   good\n"), shown.stdout
        done = machine.run(*seen, str(machine.cdx), "--watch", "remove")
        assert done.returncode == 0, done.stderr
        assert shows(machine, inside, timer, "LoadState")["LoadState"] == "not-found"
    assert not list(machine.home.rglob("cdx-watch*"))
    assert fleet.host(name)["background_sync"] is None


def test_systemd_finds_no_fault_with_the_units(fleet: Fleet, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd")
    for machine in (host(fleet, tmp_path), odd_machine(fleet, tmp_path)):
        folder = with_systemd_user(machine)
        assert machine.run_cdx("--watch", "install").returncode == 0
        files = sorted(str(path) for path in folder.iterdir() if path.suffix in (".service", ".timer"))
        assert len(files) == 2
        with tempfile.TemporaryDirectory(dir="/tmp") as short:
            done = subprocess.run(
                ["systemd-analyze", "--user", "verify", "--man=no", *files],
                env={"PATH": os.environ["PATH"], "HOME": str(machine.home), "XDG_RUNTIME_DIR": short},
                capture_output=True,
                text=True,
            )
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("which", ["program", "folder", "home"])
def test_root_starts_nothing_that_others_can_change(fleet: Fleet, tmp_path: Path, which: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may own what is another's")
    machine = host(fleet, tmp_path)
    with_systemd_user(machine)
    home = machine.home / ".codex"
    home.mkdir()
    other = {"program": machine.cdx, "folder": machine.cdx.parent, "home": home}[which]
    os.chown(other, 12345, 12345)
    done = machine.run_cdx("--watch", "install")
    assert done.returncode == 1
    assert f"others can change {other}. Install it as the user whose it is" in done.stderr
    assert not (machine.home / ".config").exists()
    os.chown(other, 0, 0)
    other.chmod(0o757)
    assert machine.run_cdx("--watch", "install").returncode == 1
    other.chmod(0o700)
    assert machine.run_cdx("--watch", "install").returncode == 0
