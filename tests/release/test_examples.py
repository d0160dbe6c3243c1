"""The scripts in `examples/`, and the lines that cron and systemd run them with, on a real home and server."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.documents import make_auth
from tests.support.example_units import CDXSYNC, EXAMPLES, UNITS, unit, verify
from tests.support.fleet import BASE_ENVIRONMENT, Fleet, run_cli
from tests.support.machines import Machine, write_program
from tests.support.traps import plant

pytestmark = pytest.mark.slow

ROTATE = EXAMPLES / "rotate-hosts.sh"
SHELL = (EXAMPLES.parent / "cdxsync/wrapper").glob("*.sh")
SCRIPTS = [path for path in sorted([*SHELL, *EXAMPLES.rglob("*")]) if path.is_file() and path.suffix != ".md"]


class Admin:
    """Who runs the scripts: a home of cdxsync, a working directory, and programs put before the real ones."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root = root
        self.home = home
        self.bin = root / "bin"
        self.output = root / "installers"
        self.bin.mkdir(parents=True)
        path = f"{self.bin}:{CDXSYNC.parent}:{os.environ['PATH']}"
        self.env = BASE_ENVIRONMENT | {"CDXSYNC_HOME": str(home), "PATH": path}

    def run(self, *command: str | Path, input: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(part) for part in command],
            input=input,
            env=self.env,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def rotate(self, *arguments: str | Path, input: str = "") -> subprocess.CompletedProcess[str]:
        return self.run(ROTATE, "--wait", "0", *arguments, input=input)

    def listed(self, *names: str) -> Path:
        path = self.root / "rotate.list"
        path.write_text("".join(f"{name}\n" for name in names))
        return path

    def add_ssh(self, machines: dict[str, Machine]) -> None:
        """An `ssh` that runs `sh` on one of the machines; it takes `ssh [-o OPTION]… HOST sh`."""
        lines = ["#!/bin/sh", 'while [ "$1" = -o ]; do shift 2; done', '[ "$2" = sh ] || exit 255', 'case "$1" in']
        for name, machine in machines.items():
            env = [f"{key}={machine.env[key]}" for key in ("HOME", "PATH", "NO_PROXY")]
            lines.append(f"{name}) exec env -i {shlex.join(env)} sh ;;")
        write_program(self.bin / "ssh", "\n".join([*lines, "esac", 'echo "no route to $1" >&2', "exit 255"]) + "\n")


@pytest.fixture
def admin(fleet: Fleet, tmp_path: Path) -> Admin:
    """An admin of the server's home."""
    return Admin(tmp_path, fleet.home)


@pytest.fixture
def alone(tmp_path: Path) -> Admin:
    """An admin of a home of their own, without a server."""
    home = tmp_path / "home"
    run_cli("--home", str(home), "init", "--public-url", "https://cdx.example.net")
    return Admin(tmp_path / "admin", home)


def works(fleet: Fleet, api_key: str) -> bool:
    with fleet.client(api_key) as client:
        return client.call("GET", "/wrapper").status_code == 200


def test_hosts_of_a_list_get_installers_that_work(fleet: Fleet, admin: Admin) -> None:
    names = ("list1.example.net", "list2.example.net")
    keys = [fleet.key(name) for name in names]
    listed = admin.listed(
        "# web servers",
        "",
        "  list1.example.net\r",
        "LIST2.example.net # twice",
        "list2.example.net",
        "gone.example.net",
    )
    done = admin.rotate("--output", admin.output, listed)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"rotated  list1.example.net: {admin.output}/list1.example.net.sh",
        f"rotated  list2.example.net: {admin.output}/list2.example.net.sh",
        "failed   gone.example.net: cdxsync: No host 'gone.example.net'; cdxsync hosts list shows all",
        "2 rotated, 1 failed",
    ]
    assert done.stderr.count("\n") == 1, "another try cannot help"
    assert sorted(path.name for path in admin.output.iterdir()) == [f"{name}.sh" for name in names]
    assert admin.output.stat().st_mode & 0o777 == 0o700
    assert [works(fleet, key) for key in keys] == [False, False]
    for name in names:
        file = admin.output / f"{name}.sh"
        assert file.stat().st_mode & 0o777 == 0o600
        assert "/install/" in file.read_text()
    assert "/install/" not in done.stdout + done.stderr
    machine = Machine(admin.root / "machine")
    assert machine.run("sh", str(admin.output / "list1.example.net.sh")).returncode == 0
    assert machine.run_cdx("--wrapper-version").returncode == 0
    key = re.search(r"cdx_[0-9a-f]{64}", machine.cdx.read_text())
    assert key
    assert works(fleet, key[0])


def test_standard_input_and_all(alone: Admin) -> None:
    for name in ("a.example.net", "b.example.net"):
        run_cli("--home", str(alone.home), "hosts", "register", name)
    done = alone.rotate("-", input="b.example.net\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1 rotated, 0 failed"
    done = alone.rotate("--all")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2 rotated, 0 failed"
    assert sorted(path.name for path in alone.output.iterdir()) == ["a.example.net.sh", "b.example.net.sh"]


def test_nothing_is_imported_from_the_working_folder(alone: Admin) -> None:
    """Which others may write, while root runs a script there."""
    loaded = plant(alone.root)
    run_cli("--home", str(alone.home), "hosts", "register", "a.example.net")
    assert alone.rotate("--all").returncode == 0
    done = alone.run(EXAMPLES / "clear-host.sh", "a.example.net")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Cleared a.example.net")
    assert not loaded.exists()


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.name for path in SCRIPTS])
def test_python_is_started_isolated(path: Path) -> None:
    """With -I in all scripts that we ship: without it, code from `-c`, `-` and `-m` imports from the working folder."""
    lines = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    calls = re.findall(r"python3?[\"']?,? +[\"']?(-[^ \"',]*)", lines)
    assert [options for options in calls if "I" not in options and options != "-V"] == []


@pytest.mark.parametrize("name", ["1", "../a", "-h", ".a", "a b", "a/b", "$(touch owned)", "a;b"])
def test_names_that_are_none_reach_no_command(alone: Admin, name: str) -> None:
    done = alone.rotate("--deliver", "echo {host} >> delivered", "-", input=f"{name}\n")
    assert done.returncode == 1
    assert f"failed   {name}: not a host name\n0 rotated, 1 failed\n" in done.stdout
    assert sorted(path.name for path in alone.root.iterdir()) == ["bin", "installers"]
    assert list(alone.output.iterdir()) == []


def test_a_host_is_tried_again(alone: Admin) -> None:
    """The database is away twice; the waits grow."""
    run_cli("--home", str(alone.home), "hosts", "register", "a.example.net")
    write_program(
        alone.bin / "cdxsync",
        '#!/bin/sh\n[ "$(wc -l <tries)" -ge 2 ] && exec ' + str(CDXSYNC) + ' "$@"\n'
        'echo "$*" >>tries\necho "cdxsync: The database cannot be reached now" >&2\nexit 5\n',
    )
    write_program(alone.bin / "sleep", '#!/bin/sh\necho "$1" >>waits\n')
    (alone.root / "tries").touch()
    done = alone.run(ROTATE, "--wait", "4", alone.listed("a.example.net"))
    assert done.returncode == 0, done.stderr
    assert (alone.root / "tries").read_text() == "--quiet hosts rotate --yes a.example.net\n" * 2
    assert (alone.root / "waits").read_text() == "4\n8\n"
    assert "try 2 of 3: cdxsync: The database cannot be reached now" in done.stderr
    assert done.stdout.splitlines()[-1] == "1 rotated, 0 failed"


def test_a_delivery_that_fails_keeps_the_installer(fleet: Fleet, admin: Admin) -> None:
    for name in ("lost.example.net", "there.example.net"):
        fleet.register(name)
    machine = Machine(admin.root / "machine")
    admin.add_ssh({"there.example.net": machine})
    listed = admin.listed("lost.example.net", "there.example.net")
    done = admin.rotate("--tries", "2", "--output", admin.output, "--deliver", "cat >&2; ssh {host} sh", listed)
    assert done.returncode == 1
    done = admin.rotate("--tries", "2", "--output", admin.output, "--deliver", "ssh {host} sh", listed)
    assert done.returncode == 1
    log = admin.output / "lost.example.net.log"
    assert f"failed   lost.example.net: not delivered (status 255): see {log}\n" in done.stdout
    assert "rotated  there.example.net: delivered\n1 rotated, 1 failed\n" in done.stdout
    assert log.read_text() == "no route to lost.example.net\n"
    assert log.stat().st_mode & 0o777 == 0o600
    assert machine.cdx.exists()
    late = Machine(admin.root / "late")
    assert late.run("sh", str(admin.output / "lost.example.net.sh")).returncode == 0, "the last installer is good"
    left = sorted(path.name for path in admin.output.iterdir())
    assert left == ["lost.example.net.log", "lost.example.net.sh"]


def test_what_a_delivery_prints_stays_private(alone: Admin) -> None:
    run_cli("--home", str(alone.home), "hosts", "register", "a.example.net")
    done = alone.rotate("--tries", "1", "--deliver", "cat; exit 3", alone.listed("a.example.net"))
    assert done.returncode == 1
    assert "/install/" in (alone.output / "a.example.net.log").read_text()
    assert "/install/" not in done.stdout + done.stderr


def test_an_interrupted_run_reports_too(alone: Admin) -> None:
    for name in ("a.example.net", "b.example.net", "c.example.net"):
        run_cli("--home", str(alone.home), "hosts", "register", name)
    deliver = "case {host} in b*) kill -TERM $PPID ;; esac"
    done = alone.rotate("--deliver", deliver, alone.listed("a.example.net", "b.example.net", "c.example.net"))
    assert done.returncode == 143
    assert done.stdout.splitlines() == [
        "rotated  a.example.net: delivered",
        "failed   b.example.net: interrupted; its old key may have ended",
        "1 rotated, 1 failed",
    ]
    assert (alone.output / "b.example.net.sh").exists()
    assert not list(alone.output.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "name a file of hosts, or --all"),
        (["--all", "rotate.list"], "either a file or --all"),
        (["a.list", "b.list"], "only one file can be given"),
        (["missing.list"], "missing.list: cannot be read"),
        (["--tries", "0", "--all"], "--tries must be a number above 0"),
        (["--wait", "1m", "--all"], "--wait must be a number of seconds"),
        (["--deliver"], "--deliver needs a value"),
        (["--force"], "unknown option --force"),
    ],
    ids=str,
)
def test_wrong_usage(tmp_path: Path, arguments: list[str], text: str) -> None:
    done = Admin(tmp_path, tmp_path / "none").run(ROTATE, *arguments)
    assert done.returncode == 2
    assert f"rotate-hosts: {text}\nUsage:" in done.stderr


def test_a_home_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    done = Admin(tmp_path, tmp_path / "none").run(ROTATE, "--all")
    assert done.returncode == 1
    assert "is not initialised" in done.stderr


def cron_lines() -> tuple[dict[str, str], list[str]]:
    """The environment and the commands of the cron file."""
    lines = [line for line in (EXAMPLES / "cdxsync.cron").read_text().splitlines() if line and line[0] != "#"]
    variables = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))
    jobs = [
        re.fullmatch(r"(?:[0-9*/,-]+ ){5}cdxsync (\S.*)", line) for line in lines if not re.match(r"[A-Z_]+=", line)
    ]
    assert all(jobs)
    return variables, [job[1] for job in jobs if job]


def moved(command: str, admin: Admin) -> str:
    """A command line for this machine: the places that it names are the test's."""
    for place, here in (
        ("/usr/local/lib/cdxsync", EXAMPLES),
        ("/var/lib/cdxsync", admin.root),
        ("/etc/cdxsync", admin.root),
    ):
        command = command.replace(place, str(here))
    return command


def scheduled(source: str, script: str) -> list[str]:
    """How cron or systemd starts `script`, as the arguments of a program."""
    if source == "cron":
        variables, jobs = cron_lines()
        (job,) = [job for job in jobs if script in job]
        assert "%" not in job, "cron takes it for the end of the line"
        return [variables["SHELL"], "-c", job]
    (name,) = [name for name in UNITS if script in unit(name)["Service"]["ExecStart"]]
    return shlex.split(unit(name)["Service"]["ExecStart"].replace("%i", "build1.example.net"))


@pytest.mark.parametrize("source", ["cron", "systemd"])
def test_scheduled_rotation(fleet: Fleet, admin: Admin, source: str) -> None:
    name = f"{source}.example.net"
    old = fleet.key(name)
    machine = Machine(admin.root / "machine")
    admin.add_ssh({name: machine})
    admin.listed(name)
    done = admin.run(*(moved(part, admin) for part in scheduled(source, "rotate-hosts.sh")))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"rotated  {name}: delivered\n1 rotated, 0 failed\n"
    assert not works(fleet, old)
    assert machine.run_cdx("--version").returncode == 0
    key = re.search(r"cdx_[0-9a-f]{64}", machine.cdx.read_text())
    assert key
    assert works(fleet, key[0])


@pytest.mark.parametrize("source", ["cron", "systemd"])
def test_scheduled_clearing(alone: Admin, source: str) -> None:
    run_cli("--home", str(alone.home), "hosts", "register", "build1.example.net")
    done = alone.run(*(moved(part, alone) for part in scheduled(source, "clear-host.sh")))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Cleared build1.example.net\n")


def test_clearing_a_host(fleet: Fleet, admin: Admin) -> None:
    with fleet.client(fleet.key("clear.example.net")) as client:
        assert client.auth(command="store", auth=make_auth()).status_code == 200
    before = fleet.host("clear.example.net")
    assert before["canonical_digest"]
    done = admin.run(EXAMPLES / "clear-host.sh", "clear.example.net")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Cleared clear.example.net\n")
    after = fleet.host("clear.example.net")
    assert (after["canonical_digest"], after["recent_digests"], after["ip"]) == (None, [], before["ip"])
    unknown = admin.run(EXAMPLES / "clear-host.sh", "unknown.example.net")
    assert unknown.returncode == 3
    assert "No host" in unknown.stderr


def test_clearing_takes_one_host(tmp_path: Path) -> None:
    for arguments in ([], ["a", "b"], ["--help"]):
        done = Admin(tmp_path / str(len(arguments)) / "".join(arguments), tmp_path).run(
            EXAMPLES / "clear-host.sh", *arguments
        )
        assert done.returncode == 2
        assert done.stderr.startswith("Usage:")


@pytest.mark.parametrize("name", UNITS)
def test_units_are_good(tmp_path: Path, name: str) -> None:
    service, timer = unit(name), unit(name.replace(".service", ".timer"))
    assert service["Service"]["Type"] == "oneshot"
    assert service["Service"]["NoNewPrivileges"] == "yes"
    assert service["Service"]["ProtectSystem"] == "strict"
    assert timer["Timer"]["OnCalendar"]
    assert timer["Install"]["WantedBy"] == "timers.target"
    verify(tmp_path, name, name.replace(".service", ".timer"))
