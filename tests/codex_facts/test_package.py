"""Codex's package: what is in it, and that its program alone is not enough."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from cdxsync.wrapper.src.codex_package import check_package, release_target
from tests.support.codex_home import CodexHome


@pytest.fixture
def package(home: CodexHome) -> Path:
    """The package that npm has for this machine: beside that of the program, or within it."""
    program = Path(home.codex.program).resolve().parents[1]
    (found,) = [*program.parent.glob("codex-*/vendor/*"), *program.glob("node_modules/@openai/codex-*/vendor/*")]
    return found


def test_a_package_names_its_version_target_and_program(home: CodexHome, package: Path) -> None:
    described = json.loads((package / "codex-package.json").read_text())
    assert {name: described[name] for name in ("layoutVersion", "version", "target", "entrypoint")} == {
        "layoutVersion": 1,
        "version": home.codex.version,
        "target": release_target(),
        "entrypoint": "bin/codex",
    }
    check_package(str(package), home.codex.version, release_target())
    assert (package / described["pathDir"] / "rg").exists()
    assert (package / described["resourcesDir"]).is_dir()
    assert not [path for path in package.rglob("*") if path.is_symlink()]


def test_the_program_alone_starts_no_background_server(home: CodexHome, package: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone/bin/codex"
    alone.parent.mkdir(parents=True)
    shutil.copy(package / "bin/codex", alone)
    command = [str(alone), "app-server", "daemon", "start"]
    done = subprocess.run(command, env=home.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    alone.unlink()
    assert done.returncode != 0
    assert "no complete local package" in done.stderr
