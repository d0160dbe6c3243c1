"""Installers: fetched, and run where there is no Codex."""

import subprocess
from pathlib import Path
from typing import Any

from tests.support.fleet import Fleet
from tests.support.machines import Machine, everyday_programs, only_its_own_codex, write_program


def fetch(fleet: Fleet, url: str, method: str = "GET", **headers: str) -> Any:
    """A call of an address of the fleet by who has no key."""
    with fleet.client() as client:
        return client.call(method, url.removeprefix(fleet.url), headers=headers)


def install_without_codex(
    fleet: Fleet, root: Path, name: str, npm: str | None = None, *, folder: str = "/", **env: str
) -> tuple[Machine, subprocess.CompletedProcess[str]]:
    """Run an installer where there is no Codex, and npm only when it is given; the machine, and what came of it.

    `folder` is the working folder.
    """
    machine = Machine(root / "m", codex=None, path=str(everyday_programs(root)))
    if npm is not None:
        write_program(machine.bin / "npm", npm)
    places = ":/usr/local/bin:/opt/codex/bin:"
    script = fetch(fleet, fleet.register(name)["installer"]["url"]).text
    assert places in script
    write_program(root / "install.sh", script.replace(places, ":"))
    done = machine.run("sh", "-c", 'cd "$0" && exec bash "$1"', folder, str(root / "install.sh"), **env)
    if machine.cdx.exists():
        only_its_own_codex(machine)
    return machine, done
