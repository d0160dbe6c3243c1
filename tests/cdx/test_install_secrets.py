"""What stays secret while an installer's line runs: its token and the host's key, whoever looks on or is between."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from cdxsync.hosts import installers
from tests.support.documents import make_auth
from tests.support.fleet import Fleet, running_fleet
from tests.support.installing import fetch
from tests.support.machines import Machine, write_program
from tests.support.stub_server import StubServer

SHELLS = [name for name in ("bash", "dash", "zsh", "fish", "tcsh", "mksh", "busybox") if shutil.which(name)]
PROGRAMS = ("curl", "python3", "mktemp")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "m")


def watched(machine: Machine) -> Path:
    """Have the programs that an installer runs write down, before their work, what runs on this machine and with which
    environment; returns the file."""
    seen = machine.root / "seen"
    seen.touch(mode=0o600)
    for name in PROGRAMS:
        real = (machine.bin / name).resolve() if name == "python3" else shutil.which(name)
        (machine.bin / name).unlink(missing_ok=True)
        look = f"cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ >>{shlex.quote(str(seen))} 2>/dev/null"
        write_program(machine.bin / name, f'#!/bin/sh\n{look}\nexec {real} "$@"\n')
    return seen


def typed(machine: Machine, shell: str, line: str) -> subprocess.CompletedProcess[str]:
    """A line given to a shell as if it were typed: not as its argument."""
    words = ["busybox", "sh"] if shell == "busybox" else [shell]
    return subprocess.run(words, input=line + "\n", env=machine.env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("shell", SHELLS)
def test_no_list_of_processes_shows_the_token_or_the_key(fleet: Fleet, machine: Machine, shell: str) -> None:
    fleet.upload(make_auth())
    seen = watched(machine)
    data = fleet.register(f"unseen-{shell}.example.net")
    done = typed(machine, shell, data["installer"]["command"])
    assert done.returncode == 0, done.stderr
    assert machine.auth_file.exists()
    shown = seen.read_bytes()
    # The look was not in vain: it shows each call, and how curl was started.
    assert shown.count(b"--max-redirs") >= 3
    assert b"--wrapper-sync" in shown
    for secret in (data["installer"]["token"], data["host"]["api_key"]):
        assert secret.encode() not in shown


@pytest.mark.parametrize("private", [True, False])
def test_lines_that_were_given_out_before_go_on_working(fleet: Fleet, machine: Machine, private: bool) -> None:
    """Their token shows, which proves that the test above would see one."""
    fleet.upload(make_auth())
    seen = watched(machine)
    data = fleet.register(f"older-{private}.example.net".lower())
    url = f"{data['installer']['url']}/begin"
    pem = fleet.ca_file.read_text()
    lines = " ".join(f'"{line}"' for line in pem.splitlines())
    line = f'bash -o pipefail -c \'curl -fsSL --cacert <(printf "%s\\n" {lines}) "{url}" | bash\''
    if not private:
        line = f'curl -fsSL "{url}" | bash'
        machine.env["CURL_CA_BUNDLE"] = str(fleet.ca_file)
    done = typed(machine, "bash", line)
    assert done.returncode == 0, done.stderr
    assert data["installer"]["token"].encode() in seen.read_bytes()
    assert data["host"]["api_key"].encode() not in seen.read_bytes()


@pytest.mark.parametrize("setting", ["insecure", "location-trusted", "output = x", "form = x=1"])
def test_settings_of_curl_change_nothing(fleet: Fleet, machine: Machine, setting: str) -> None:
    fleet.upload(make_auth())
    (machine.home / ".curlrc").write_text(setting + "\n")
    done = machine.shell(fleet.register(f"rc-{setting.split()[0]}.example.net")["installer"]["command"])
    assert done.returncode == 0, done.stderr
    assert machine.auth_file.exists()


@pytest.mark.parametrize("stage", ["line", "begin", "installer"])
def test_a_foreign_server_gets_nothing_also_with_insecure_in_curlrc(
    fleet: Fleet, machine: Machine, tmp_path: Path, stage: str
) -> None:
    (machine.home / ".curlrc").write_text("insecure\n")
    with running_fleet(tmp_path / "other") as other:
        text = stage_of(fleet, stage, f"foreign-{stage}.example.net").replace(fleet.url, other.url)
        done = typed(machine, "bash", text)
        assert done.returncode != 0
        assert "certificate" in done.stderr.lower()
        assert not machine.cdx.exists()
        assert not any(" GET " in line for line in other.output)


def stage_of(fleet: Fleet, stage: str, name: str) -> str:
    """The line of an installer, the script that it fetches, or the one that this fetches."""
    installer = fleet.register(name)["installer"]
    if stage == "line":
        return str(installer["command"])
    return str(fetch(fleet, installer["url"] + ("/begin" if stage == "begin" else "")).text)


@pytest.mark.parametrize("stage", ["line", "begin", "installer"])
def test_redirects_are_not_followed(
    fleet: Fleet, machine: Machine, stub: StubServer, tmp_path: Path, stage: str
) -> None:
    """Neither the token nor the key leads to another server, and nothing that it says is run."""
    elsewhere = StubServer()
    try:
        elsewhere.otherwise = (200, f"touch {tmp_path}/run\n".encode())
        text = stage_of(fleet, stage, f"redirected-{stage}.example.net").replace(fleet.url, stub.url)
        text = text.replace('"=https"', '"=http"')
        token = re.findall(r"/install/([0-9a-f-]{36})", text)
        paths = [f"/install/{word}{end}" for word in token for end in ("", "/begin")]
        stub.redirects = {path: elsewhere.url + path for path in [*paths, "/wrapper/download"]}
        done = typed(machine, "bash", text)
        assert done.returncode != 0
        assert "redirects" in done.stderr
        assert len(stub.calls) == 1
        assert elsewhere.calls == []
        assert not (tmp_path / "run").exists()
        assert not machine.cdx.exists()
    finally:
        elsewhere.stop()


def test_a_redirect_without_tls_is_not_called(machine: Machine, stub: StubServer) -> None:
    """A line of a server with TLS speaks nothing else, whatever its address becomes on the way."""
    line = installers.command("https://cdx.example.net/install/x", "").replace("https://cdx.example.net", stub.url)
    done = typed(machine, "bash", line)
    assert done.returncode != 0
    assert stub.calls == []


def test_the_line_has_nothing_that_a_shell_reads() -> None:
    """Within its quotes: no quote, no backslash, and no `!`, which csh reads even there."""
    pem = "Subject: CN = 'x' $(id)\n-----BEGIN CERTIFICATE-----\nMIIB/+w=\n-----END CERTIFICATE-----\n`id`\n"
    for url in ("https://cdx.example.net:8443/base/install/x", "https://[fd00::1]/install/x", "http://localhost/x"):
        for ca in ("", pem):
            line = installers.command(url, ca)
            assert re.fullmatch(r"echo '[^'\\!\n]+' \| bash", line)
            assert "Subject" not in line
            assert "id`" not in line
            assert len(line.splitlines()) == 1
