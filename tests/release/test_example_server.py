"""The server's files in `examples/`: its unit, the rotation of its log, and the quickstart."""

import getpass
import grp
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from cdxsync.base.settings import Settings
from cdxsync.server import supervisor
from tests.support.example_units import CDXSYNC, EXAMPLES, SERVER, unit, verify
from tests.support.fleet import BASE_ENVIRONMENT, free_port
from tests.support.machines import STUB_CODEX, write_program
from tests.support.serving import starts_and_stops


def test_the_unit_of_the_server(tmp_path: Path) -> None:
    """It says what the server does: it notifies, reloads at SIGHUP, and gets the time that its end may take."""
    service = unit(SERVER)["Service"]
    assert service["Type"] == "notify"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert int(service["TimeoutStopSec"].removesuffix("s")) > supervisor.STOP_SECONDS
    assert int(service["LimitNOFILE"]) > Settings(home=tmp_path).max_connections + 256
    verify(tmp_path, SERVER)
    (tmp_path / "all").mkdir()
    verify(tmp_path / "all", SERVER, commented=True)
    home = tmp_path / "home"
    command = [str(CDXSYNC), *shlex.split(service["ExecStart"])[1:], "--listen", "127.0.0.1:0"]
    env = BASE_ENVIRONMENT | {"CDXSYNC_HOME": str(home)}
    starts_and_stops([*command, "--public-url", "https://localhost"], env)


def test_a_log_file_is_rotated_while_the_server_writes(tmp_path: Path) -> None:
    """The real logrotate, with the file's own directives; user and place are ours."""
    program = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("logrotate is not installed")
    log = tmp_path / "server.log"
    text = (EXAMPLES / "cdxsync.logrotate").read_text().replace("/var/log/cdxsync/server.log", str(log))
    rules = tmp_path / "rules"
    rules.write_text(text.replace("su cdxsync cdxsync", f"su {getpass.getuser()} {grp.getgrgid(os.getgid()).gr_name}"))
    rules.chmod(0o644)
    tmp_path.chmod(0o755)
    with log.open("ab") as sink:
        script = "echo before; echo ready >&2; read go; echo after"
        pipe = subprocess.PIPE
        writer = subprocess.Popen(["sh", "-c", script], stdin=pipe, stdout=sink, stderr=pipe)
    assert writer.stderr is not None
    assert writer.stderr.readline() == b"ready\n"
    done = subprocess.run(
        [program, "--force", "--state", tmp_path / "state", rules], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    writer.communicate(b"go\n", 60)
    assert (tmp_path / "server.log.1").read_text() == "before\n"
    assert log.read_text() == "after\n"


@pytest.mark.slow
def test_the_quickstart_ends_with_two_synced_hosts(tmp_path: Path) -> None:
    """With a `codex` that does nothing, so that the installer fetches none."""
    write_program(tmp_path / "bin" / "codex", STUB_CODEX)
    path = f"{tmp_path / 'bin'}:{CDXSYNC.parent}:{os.environ['PATH']}"
    env = BASE_ENVIRONMENT | {"PATH": path, "CDXSYNC_LISTEN": f"127.0.0.1:{free_port()}"}
    folder = tmp_path / "quick"
    pipe = subprocess.PIPE
    process = subprocess.Popen([EXAMPLES / "quickstart.sh", folder], env=env, stdout=pipe, stderr=pipe, text=True)
    shown = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            shown.append(line)
            if line.startswith("HOME="):
                break
    finally:
        process.terminate()
        errors = process.communicate(timeout=60)[1]
    assert shown, errors
    assert "in sync with the server, refreshed 2026-01-02" in "".join(shown), errors
    alpha, beta = (json.loads((folder / host / ".codex" / "auth.json").read_text()) for host in ("alpha", "beta"))
    assert alpha["tokens"] == beta["tokens"]
    again = subprocess.run([EXAMPLES / "quickstart.sh", folder], env=env, capture_output=True, text=True, timeout=60)
    assert (again.returncode, again.stderr) == (1, f"quickstart: {folder} is not empty; name a new folder\n")
