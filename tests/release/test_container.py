"""The container file of `examples/`: it cannot be built here, but read."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cdxsync.base import settings
from cdxsync.cli.main import app
from tests.support.fleet import BASE_ENVIRONMENT, Fleet

FILE = Path(__file__).parents[2] / "examples" / "container" / "Containerfile"
TEXT = FILE.read_text()


def instruction(name: str) -> list[str]:
    """The arguments of all instructions of a name, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", TEXT)
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{BASE_ENVIRONMENT['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, str(FILE)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_command_is_one_of_the_program(tmp_path: Path) -> None:
    from typer.main import get_command

    program, name, *arguments = json.loads(instruction("CMD")[-1].partition("CMD ")[2] or instruction("CMD")[-1])
    assert program == "cdxsync"
    assert vars(get_command(app))["commands"][name].make_context(name, arguments)
    (home,) = re.findall(r"CDXSYNC_HOME=(\S+)", TEXT)
    assert instruction("VOLUME") == [home]
    assert not instruction("USER")[-1].startswith("root")
    port = settings.Settings(home=tmp_path).listen.port
    assert instruction("EXPOSE") == [str(port)]


def test_the_health_check_works(fleet: Fleet) -> None:
    """Against a server that has the home and the port of the container."""
    command = json.loads(instruction("HEALTHCHECK")[0].partition("CMD ")[2])
    assert command[:3] == ["python", "-I", "-c"]
    code = command[3].replace("/var/lib/cdxsync", str(fleet.home)).replace(":8443", f":{fleet.port}")
    done = subprocess.run(
        [sys.executable, "-c", code], env=BASE_ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
