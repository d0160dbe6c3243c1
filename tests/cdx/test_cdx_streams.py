"""Standard streams that are closed, full or broken: Codex starts as without cdx, and its exit code comes out."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import make_auth
from tests.support.fleet import Fleet
from tests.support.machines import Machine, host

STREAMS = (0, 1, 2)
CLOSED = [closed for number in (1, 2, 3) for closed in itertools.combinations(STREAMS, number)]
# What it has as its streams goes into a file; it ends with 7.
PROBE = f"""#!{sys.executable} -IS
import json, os, sys
def link(stream):
    try:
        return os.readlink("/proc/self/fd/%d" % stream)
    except OSError:
        return None
if sys.argv[1:] == ["--version"]:
    print("codex-cli 0.171.0"); sys.exit()
streams = [link(stream) for stream in (0, 1, 2)]
with open(os.environ["REPORT"], "w") as file:
    json.dump(streams, file)
if os.environ.get("TALKS"):
    for stream in (1, 2):
        try:
            os.write(stream, b"a line\\n" * 20000)
        except OSError:
            pass
if "login" in sys.argv or "logout" in sys.argv:
    try:
        os.unlink(os.path.join(os.environ.get("CODEX_HOME", ""), "auth.json"))
    except OSError:
        pass
    os._exit(0)
os._exit(7)
"""


@pytest.fixture(scope="module")
def machine(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A host in step with its fleet, whose cdx says each step."""
    fleet.upload(make_auth())
    root = tmp_path_factory.mktemp("machine")
    made = host(fleet, root, codex=PROBE)
    made.env |= {"REPORT": str(root / "report"), "CODEX_DEBUG": "1"}
    assert made.run_cdx("--wrapper-sync").returncode == 0
    return made


def redirected(machine: Machine, redirections: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run cdx with redirections of the shell."""
    command = f'exec {redirections}; exec "$0" "$@"'
    return machine.run("bash", "-c", command, str(machine.cdx), *(arguments or ("exec",)), **env)


def streams(machine: Machine) -> list[str | None]:
    """What Codex had as its standard streams."""
    report = Path(machine.env["REPORT"])
    found: list[str | None] = json.loads(report.read_text())
    report.unlink()
    return found


@pytest.mark.parametrize("closed", CLOSED, ids=lambda closed: "".join(map(str, closed)))
def test_closed_streams_stay_closed(machine: Machine, closed: tuple[int, ...]) -> None:
    done = redirected(machine, " ".join(f"{stream}>&-" for stream in closed))
    assert done.returncode == 7
    assert "Traceback" not in done.stderr
    found = streams(machine)
    assert [stream for stream in STREAMS if found[stream] is None] == list(closed)
    # Nothing of ours has taken the place of another one.
    assert all(link.startswith(("pipe:", "/dev/null")) for link in found if link)


@pytest.mark.parametrize("known", [True, False], ids=["read along", "as they are"])
@pytest.mark.parametrize("full", ["1>/dev/full", "2>/dev/full", "1>/dev/full 2>&1", "0<&- 1>/dev/full 2>&-"])
def test_full_streams(machine: Machine, full: str, known: bool) -> None:
    state = machine.home / ".codex" / ".cdx" / "state.json"
    note = json.loads(state.read_text())
    state.write_text(json.dumps({**note, "prints": True} if known else note))
    try:
        done = redirected(machine, full, TALKS="1")
    finally:
        state.write_text(json.dumps(note))
    assert done.returncode == 7
    assert "Traceback" not in done.stderr
    assert len(streams(machine)) == 3


@pytest.mark.parametrize("talks", ["", "1"], ids=["silent", "talks"])
def test_a_stream_whose_reader_is_gone(machine: Machine, talks: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    env = machine.env | {"TALKS": talks}
    done = subprocess.run([machine.cdx, "exec"], env=env, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing)
    os.close(writing)
    assert done.returncode == 7
    assert len(streams(machine)) == 3


@pytest.mark.parametrize("redirections", ["2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-", "2>/dev/full"])
def test_every_command_does_its_work(machine: Machine, redirections: str) -> None:
    for arguments, code in (
        (("--wrapper-sync",), 0),
        (("--status",), 0),
        (("--doctor",), 0),
        (("--wrapper-version",), 0),
        (("--wrapper-help",), 0),
        (("--update",), 0),
        (("login", "status"), 0),
        (("logout",), 0),
        (("login",), 0),
        (("--wrapper-sync",), 0),
        (("--help",), 7),
        (("--uninstall",), 1),
    ):
        done = redirected(machine, redirections, *arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), arguments
    assert machine.auth_file.exists()


@pytest.mark.parametrize("command", ["--wrapper-version", "--wrapper-help", "--status", "--doctor"])
def test_output_that_is_lost_is_an_error(machine: Machine, command: str) -> None:
    done = redirected(machine, "1>/dev/full", command, CODEX_DEBUG="0")
    assert done.returncode == 1
    assert done.stderr == "cdx: the output cannot be written: No space left on device\n"


def test_a_reader_may_have_enough(machine: Machine) -> None:
    done = machine.shell(f'"{machine.cdx}" --wrapper-help | true; "{machine.cdx}" --status | head -1', CODEX_DEBUG="0")
    assert done.stderr == ""
    assert done.stdout.startswith("host ")
