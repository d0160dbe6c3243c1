"""The playbook of `examples/ansible`, run by the real Ansible on a machine that is here."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.machines import Machine, machine_key

FOLDER = Path(__file__).parents[2] / "examples" / "ansible"
PROGRAMS = Path(sys.executable).parent
PLAYBOOK = shutil.which("ansible-playbook", path=str(PROGRAMS))
pytestmark = pytest.mark.skipif(PLAYBOOK is None, reason="ansible-core is not installed")


def play(machine: Machine, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": f"{machine.env['PATH']}:{PROGRAMS}", "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"}
    return machine.run(str(PLAYBOOK), str(FOLDER / "cdx.yml"), *arguments, **env)


def roll_out(fleet: Fleet, machine: Machine, name: str, *more: str, home: Path | None = None) -> tuple[int, str]:
    """Run the playbook for a host that is this machine, as its user; returns the exit status and what was printed."""
    inventory = machine.root / "inventory.ini"
    inventory.write_text(
        f"[cdx_server]\nserver ansible_connection=local\n[cdx_hosts]\n{name} ansible_connection=local\n"
        f"[all:vars]\nansible_python_interpreter={sys.executable}\n"
    )
    own = f"cdxsync_server=server cdxsync_home={home or fleet.home} cdx_path={machine.cdx}"
    own += " cdxsync_become=false cdx_become=false"
    done = play(machine, "-i", str(inventory), "-e", own, "-vvv", *more)
    return done.returncode, done.stdout + done.stderr


def changed(text: str) -> int:
    (count,) = re.findall(r"changed=(\d+)", text)
    return int(count)


def test_the_syntax_is_good(tmp_path: Path) -> None:
    done = play(Machine(tmp_path), "-i", str(FOLDER / "inventory.ini"), "--syntax-check")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_host_gets_cdx_once_and_another_key_when_asked(fleet: Fleet, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    status, text = roll_out(fleet, machine, "rolled.example.net")
    assert status == 0, text
    assert machine.run_cdx("exec", "hi").stdout == "ran with: exec hi\n"
    key = machine_key(machine)
    assert fleet.host("rolled.example.net")["wrapper_version"]
    assert key not in text
    assert "/install/" not in text, "an installer command is a secret, also with -vvv"

    status, text = roll_out(fleet, machine, "rolled.example.net")
    assert (status, changed(text)) == (0, 0)
    assert machine_key(machine) == key

    status, text = roll_out(fleet, machine, "rolled.example.net", "-e", "cdx_rotate=true")
    assert status == 0, text
    assert machine_key(machine) != key


def test_a_server_that_refuses_is_quoted(fleet: Fleet, tmp_path: Path) -> None:
    status, text = roll_out(fleet, Machine(tmp_path), "rolled2.example.net", home=tmp_path / "none")
    assert status != 0
    assert "is not initialised. Run: cdxsync init" in text


def test_a_check_changes_nothing(fleet: Fleet, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    status, text = roll_out(fleet, machine, "checked.example.net", "--check")
    assert status == 0, text
    assert not machine.cdx.exists()
    assert "checked.example.net" not in fleet.cli("hosts", "list").stdout
