"""The installer's line finds what a machine lacks before the installer is used up, and works again afterwards."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.support.codex_release import CodexRelease
from tests.support.documents import make_auth, with_auths
from tests.support.fleet import Fleet, running_fleet
from tests.support.installing import fetch, install_without_codex
from tests.support.machines import CDX, Machine, seeing_mounts, write_program
from tests.support.stub_server import StubServer

AGAIN = "then paste the same line again. It is good until 20"


class Line:
    """An installer's line for a machine."""

    def __init__(self, fleet: Fleet, machine: Machine, name: str) -> None:
        self.fleet, self.machine = fleet, machine
        self.data: dict[str, Any] = fleet.register(f"{name}.example.net")
        self.command: str = self.data["installer"]["command"]

    def fails(self, says: str, **env: str) -> subprocess.CompletedProcess[str]:
        """It fails before the installer is handed out."""
        done = self.machine.shell(self.command, **env)
        assert done.returncode != 0, done.stdout
        assert says in done.stderr
        assert AGAIN in done.stderr
        assert not self.machine.cdx.exists()
        assert self.is_good()
        return done

    def works(self, prefix: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """It installs, and not a second time."""
        done = self.machine.shell(prefix + self.command, **env)
        assert done.returncode == 0, done.stderr
        assert not self.is_good()
        return done

    def is_good(self) -> bool:
        """Whether the installer can still be had."""
        return bool(fetch(self.fleet, self.data["installer"]["url"], "HEAD").status_code == 200)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "m")


@pytest.fixture
def line(fleet: Fleet, machine: Machine, request: pytest.FixtureRequest) -> Line:
    fleet.upload(make_auth())
    return Line(fleet, machine, re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60].strip("-"))


def test_what_comes_first_holds_no_key(fleet: Fleet, tmp_path: Path) -> None:
    data = fleet.register("begin.example.net")
    url = data["installer"]["url"]
    assert f'url = "{url}/begin" | curl -q ' in data["installer"]["command"]
    assert fetch(fleet, f"{url}/begin", "HEAD").status_code == 200
    assert fetch(fleet, f"{url}/begin", **{"User-Agent": "Mozilla/5.0"}).status_code == 406
    for _ in range(2):
        response = fetch(fleet, f"{url}/begin")
        assert response.status_code == 200
        assert response.headers["X-Installer-Expires-At"] == data["installer"]["expires_at"]
        assert data["host"]["api_key"] not in response.text
        assert "@@" not in response.text
    write_program(tmp_path / "begin.sh", response.text)
    if subprocess.run(["which", "shellcheck"], capture_output=True).returncode == 0:
        done = subprocess.run(["shellcheck", str(tmp_path / "begin.sh")], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    assert fetch(fleet, url).status_code == 200
    gone = fetch(fleet, f"{url}/begin")
    assert gone.status_code == 410
    assert "used already" in gone.text
    assert fetch(fleet, f"{fleet.url}/install/00000000-0000-4000-8000-000000000000/begin").status_code == 404
    assert fetch(fleet, f"{fleet.url}/install/nonsense/begin").json()["message"] == "Route not found"


def lacking(machine: Machine, *names: str) -> Path:
    """Give the machine a Python without modules, as python3-minimal is one; returns the folder with its modules."""
    real = Path(sys.executable).resolve()
    (machine.bin / "python3").unlink()
    shutil.copy(real, machine.bin / "python3")
    modules = machine.root / "lib" / f"python{sysconfig.get_python_version()}"
    modules.mkdir(parents=True)
    for path in Path(sysconfig.get_path("stdlib")).iterdir():
        if path.stem not in names:
            (modules / path.name).symlink_to(path)
    return modules


def test_a_python_that_lacks_modules(line: Line) -> None:
    modules = lacking(line.machine, "tarfile", "plistlib")
    proof = line.machine.run("python3", "-IS", "-c", "import tarfile")
    assert "No module named 'tarfile'" in proof.stderr
    done = line.fails("this python3 lacks the module plistlib, tarfile; python3-minimal is not enough")
    assert "apt-get install python3" in done.stderr
    assert "Traceback" not in done.stderr
    for name in ("tarfile.py", "plistlib.py"):
        (modules / name).symlink_to(Path(sysconfig.get_path("stdlib")) / name)
    line.works()
    assert line.machine.run_cdx("exec", "hi").stdout == "ran with: exec hi\n"
    assert line.machine.shell(line.command).returncode != 0


def test_all_modules_of_cdx_are_looked_for(fleet: Fleet) -> None:
    """As a text has them; those that it can do without are not."""
    script = fetch(fleet, fleet.register("modules.example.net")["installer"]["url"] + "/begin").text
    listed = re.search(r'for name in "([^"]+)".split', script)
    assert listed is not None
    used = set(re.findall(r"^ *(?:import|from) ([a-z_][\w.]*)(?: import .*)?$", CDX.read_text(), re.MULTILINE))
    assert {"ssl", "resource", "tarfile"} < used
    assert used - {"resource"} == set(listed[1].split())


def test_no_home(line: Line, tmp_path: Path) -> None:
    """The list of users says where it is. Where it is another's or nothing, that is said."""
    line.fails("HOME is /nonexistent, where no folder is", HOME="/nonexistent")
    line.fails("HOME is not set", HOME="relative")
    machine = line.machine
    places = {"CDX_BIN": f"{tmp_path}/bin", "CODEX_HOME": f"{tmp_path}/codex", "XDG_CACHE_HOME": str(tmp_path)}
    del machine.env["HOME"]
    done = line.works(**places)
    assert f"Installed {tmp_path}/bin/cdx" in done.stdout
    done = machine.run(f"{tmp_path}/bin/cdx", "exec", "hi", **places)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran with: exec hi\n", "")


def test_no_temporary_folder(line: Line) -> None:
    line.fails("there is no folder for temporary files: export TMPDIR=FOLDER", TMPDIR="/nonexistent")
    line.works()


def test_a_codex_home_that_cannot_be_made(line: Line, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line.fails(f"Codex's folder {tmp_path}/file/codex cannot be written to", CODEX_HOME=f"{tmp_path}/file/codex")


def test_a_place_that_cannot_be_written_to_and_another(line: Line, tmp_path: Path) -> None:
    (line.machine.home / ".local").write_text("no folder")
    done = line.fails("choose another folder (export CDX_BIN=")
    other = re.search(r"export CDX_BIN=(\S+)\)", done.stderr)
    assert other is not None
    line.fails("it must be a folder that begins with /", CDX_BIN="bin")
    done = line.works(f"export CDX_BIN={tmp_path}/other/bin/; ")
    assert f"Installed {tmp_path}/other/bin/cdx" in done.stdout
    assert line.machine.run(f"{tmp_path}/other/bin/cdx", "exec", "hi").stdout == "ran with: exec hi\n"


def test_a_folder_in_the_place_of_cdx(line: Line) -> None:
    """Else cdx would come to lie in it, and the installer be used up."""
    folder = line.machine.cdx
    folder.mkdir(parents=True)
    done = line.machine.shell(line.command)
    assert done.returncode != 0
    assert f"{folder} is a folder" in done.stderr
    assert f"cdx cannot be installed in {folder.parent}" in done.stderr
    assert list(folder.iterdir()) == []
    folder.rmdir()
    line.works()


def test_a_place_where_nothing_can_be_run(line: Line, tmp_path: Path) -> None:
    """As on file systems that are mounted with noexec."""
    bin_folder = line.machine.home / ".local/bin"
    bin_folder.mkdir(parents=True)
    mounted = seeing_mounts(f"mount -t tmpfs -o noexec t {shlex.quote(str(bin_folder))}")
    done = line.machine.run(*mounted, "sh", "-c", line.command)
    assert done.returncode != 0
    assert "Permission denied" in done.stderr
    assert f"cdx cannot be installed in {bin_folder}" in done.stderr
    assert line.is_good()


@pytest.mark.parametrize("state", ["missing", "read-only"])
def test_usr_local_bin_of_root(line: Line, tmp_path: Path, state: str) -> None:
    """Missing, it is made as the group needs it; read-only, another place is offered, and used."""
    machine = line.machine
    (machine.bin / "id").unlink()
    python = Path(sys.executable).resolve()
    remount = "mount -o remount,ro,bind /usr/local" if state == "read-only" else "true"
    if python.is_relative_to("/usr/local") or python.is_relative_to("/opt"):
        pytest.skip("this Python lies where the test has to be alone")
    mounted = seeing_mounts(f"mount -t tmpfs t /usr/local && mount -t tmpfs t /opt && {remount} && umask 077")
    shown = "stat -c %a%n /usr/local/bin /usr/local/bin/cdx"
    if state == "missing":
        done = machine.run(*mounted, "sh", "-c", f"export CDX_GROUP=root; {line.command} && {shown}")
        assert done.returncode == 0, done.stderr
        assert "Installed /usr/local/bin/cdx" in done.stdout
        assert "755/usr/local/bin\n750/usr/local/bin/cdx\n" in done.stdout
        return
    done = machine.run(*mounted, "sh", "-c", line.command)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr
    assert "cdx cannot be installed in /usr/local/bin" in done.stderr
    assert "(export CDX_BIN=/opt/cdx/bin)" in done.stderr
    assert line.is_good()
    run = "/opt/cdx/bin/cdx exec hi"
    done = machine.run(*mounted, "sh", "-c", f"export CDX_BIN=/opt/cdx/bin; {line.command} && {run}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("ran with: exec hi\n")


def test_a_group_is_told_what_it_cannot_enter(line: Line, tmp_path: Path) -> None:
    line.fails("cannot give cdx to the group no-such", CDX_GROUP="no-such")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    group = subprocess.run(["id", "-gn"], capture_output=True, text=True, check=True).stdout.strip()
    done = line.works(f"export CDX_GROUP={group} CDX_BIN={closed}/new/bin; ")
    assert f"members of {group} cannot enter {closed}" in done.stderr
    assert f"Let them: chmod a+x {closed}" in done.stderr
    for folder, mode in (("new", 0o755), ("new/bin", 0o755), ("new/bin/cdx", 0o750)):
        assert (closed / folder).stat().st_mode & 0o777 == mode, folder


def test_a_working_folder_that_was_removed(line: Line, tmp_path: Path) -> None:
    gone = f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && "
    line.works(gone)
    for arguments in ("exec hi", "--status", "--doctor", "--wrapper-sync", "--update"):
        done = line.machine.shell(f"{gone}{line.machine.cdx} {arguments}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert line.machine.shell(f"{gone}{line.machine.cdx} exec hi").stdout == "ran with: exec hi\n"


def test_nothing_is_run_from_the_working_folder(tmp_path: Path) -> None:
    """Which others may write: also where PATH names it."""
    folder = tmp_path / "folder"
    for name in ("npm", "codex", "chgrp", "crontab", "env"):
        write_program(folder / name, f"#!/bin/sh\necho {name} >>{tmp_path}/run\nexit 1\n")
    path = f"{tmp_path}/m/bin:{tmp_path}/programs::."
    with running_fleet(tmp_path / "server", env={"GITHUB_API_URL": ""}) as fleet:
        fleet.upload(make_auth())
        machine, done = install_without_codex(fleet, tmp_path, "folder.example.net", folder=str(folder), PATH=path)
        assert done.returncode == 0, done.stderr
        assert machine.auth_file.exists()
        assert not (tmp_path / "run").exists()


def test_folders_that_are_named_from_the_working_folder(line: Line, tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    line.works(f"cd {tmp_path} && ", CODEX_HOME="own/codex", TMPDIR="temporary")
    assert (tmp_path / "own/codex/auth.json").exists()


def test_names_with_blanks_and_quotes(fleet: Fleet, tmp_path: Path) -> None:
    """Of the home, and of the folder for cdx; and a shell that overwrites no file."""
    fleet.upload(make_auth())
    machine = Machine(tmp_path / """a "home" of $one's ünder""")
    folder = machine.root / "bin of 'cdx'"
    line = Line(fleet, machine, "blanks")
    env = {"SHELLOPTS": "noclobber", "CDX_BIN": str(folder), "LC_ALL": "C"}
    done = machine.run("bash", "-c", line.command, **env)
    assert done.returncode == 0, done.stderr
    assert f"Installed {folder}/cdx" in done.stdout
    assert machine.run(f"{folder}/cdx", "exec", "hi").stdout == "ran with: exec hi\n"


def test_no_threads(line: Line, tmp_path: Path) -> None:
    """A limit on memory leaves none, as each would want a stack of 4 GB. Everything is done without, in turn."""
    limits = "ulimit -S -s 4194304 2>/dev/null && ulimit -v 1500000 && "
    proof = "import threading; threading.Thread(target=print).start()"
    done = line.machine.shell(f"{limits} python3 -c '{proof}'")
    if "can't start new thread" not in done.stderr:
        pytest.skip("threads cannot be denied here")
    line.works(limits)
    cdx = line.machine.cdx
    for command in ("exec hi", "--status", "--doctor", "--wrapper-sync", "login"):
        done = line.machine.shell(f"{limits}{cdx} {command}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    document = make_auth("2026-03-01T00:00:00Z", "new")
    (tmp_path / "new.json").write_text(json.dumps(document))
    done = line.machine.shell(f"{limits}{cdx} exec hi | cat", NEW_AUTH=str(tmp_path / "new.json"))
    assert (done.stdout, done.stderr) == ("ran with: exec hi\n", "")
    assert line.fleet.canonical() == with_auths(document)


def test_an_empty_github_api_url(tmp_path: Path) -> None:
    with running_fleet(tmp_path / "server", env={"GITHUB_API_URL": ""}) as fleet:
        fleet.upload(make_auth())
        machine, done = install_without_codex(fleet, tmp_path, "bare.example.net")
        assert done.returncode == 0, done.stderr
        assert "the server's github_api_url is empty, so no release is looked up" in done.stderr
        assert "npm install -g @openai/codex" in done.stderr
        assert "curl" not in done.stderr
        assert machine.auth_file.exists()


def test_the_whole_package_comes_with_the_installer(tmp_path: Path, stub: StubServer) -> None:
    release = CodexRelease(stub, "0.170.0")
    with running_fleet(tmp_path / "server", env={"GITHUB_API_URL": stub.url}) as fleet:
        fleet.upload(make_auth())
        machine, done = install_without_codex(fleet, tmp_path, "bare.example.net")
        assert done.returncode == 0, done.stderr
        link = machine.home / ".local/bin/codex"
        assert f"Codex is installed: {link}" in done.stdout
        assert link.readlink() == machine.home / ".local/share/cdx/codex-0.170.0/bin/codex"
        assert (link.resolve().parents[1] / "codex-path/rg").exists()
        assert release.fetched() == 1
        assert machine.run_cdx("exec", "hi").stdout == "ran with: exec hi\n"
