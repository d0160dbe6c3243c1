"""The manual pages: they say what the program says, can be read, are installed, and their examples work."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import roff
from typer.main import get_command

import cdxsync
from cdxsync.base import errors, files, settings
from cdxsync.cli.main import app
from tests.support.documents import make_auth
from tests.support.fleet import BASE_ENVIRONMENT
from tests.support.machines import write_program

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "man").iterdir())
MANUAL = tomllib.loads((ROOT / "docs" / "manual.toml").read_text())
SERVES = "cdxsync serve "


def render(source: str) -> str:
    """A page as a terminal shows it, without bold and underlines. Fails on any warning."""
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    command = ["groff", "-man", "-Tutf8", "-ww", "-P-cbou"]
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout


def test_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate_man.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_stale_page_is_found(tmp_path: Path) -> None:
    for folder in ("docs", "man", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path)
    page = tmp_path / "man" / "cdxsync-hosts.1"
    fresh = page.read_text()
    page.write_text(fresh.replace("Disable", "Enable").replace("disable", "enable"))
    (tmp_path / "man" / "cdxsync-gone.1").touch()
    generate = [sys.executable, str(tmp_path / "docs" / "generate_man.py")]
    done = subprocess.run([*generate, "--check"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "stale: cdxsync-gone.1, cdxsync-hosts.1;" in done.stderr
    subprocess.run(generate, check=True)
    assert page.read_text() == fresh
    assert not (tmp_path / "man" / "cdxsync-gone.1").exists()


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_pages_are_well_formed(page: Path) -> None:
    source = page.read_text()
    assert f'"cdxsync {cdxsync.__version__}"' in source
    assert f"{page.stem} - " in render(source)


def test_commands_and_settings_stand_in_the_pages() -> None:
    """A look at what comes out, so that a generator that leaves something out is noticed."""
    hosts = " ".join(render((ROOT / "man" / "cdxsync-hosts.1").read_text()).split())
    assert "cdxsync hosts delete HOST [--yes] [--json] Delete a host" in hosts
    assert "-y, --yes Do not ask." in hosts
    usage = " ".join(render((ROOT / "man" / "cdxsync-usage.1").read_text()).split())
    assert "--limit N How many rows. From 1 to 500. Default: 50." in usage
    toml = " ".join(render((ROOT / "man" / "cdxsync.toml.5").read_text()).split())
    assert (
        "threads Threads per process that answer requests; up to 4 times as many while clients send slowly."
        " Value: a whole number from 1 to 1024. Default: 16. Environment: CDXSYNC_THREADS."
    ) in toml


def test_text_comes_out_as_it_went_in() -> None:
    lines = [".TH dots", "'quoted' \"text\"", "--an-option -x", r"back\slash \fBno bold", "`~^` é …", "a 'b' .c", "%"]
    page = roff.Page("x", 1, date="", source="x", manual="x", summary="is it")
    page.heading("EXAMPLE")
    page.code("\n".join(lines))
    shown = [line.strip() for line in render(page.source()).splitlines()]
    assert [line for line in lines if line not in shown] == []


def test_the_settings_of_the_example_are_good() -> None:
    read = settings.load(ROOT, config=ROOT / "examples" / "config.toml", environ={})
    assert read.public_url == "https://cdx.example.net"


def test_exit_statuses_are_documented() -> None:
    used = {str(kind.exit_code) for kind in errors.KINDS.values()}
    assert used | {"0"} == set(MANUAL["exit_status"])


@pytest.mark.slow
def test_examples_work(tmp_path: Path) -> None:
    """All of them, in a shell, in the order of the file; the server's are only parsed."""
    home = tmp_path / "user"
    for folder in (".codex/prompts", ".local/share/bash-completion/completions"):
        (home / folder).mkdir(parents=True)
    (home / ".codex/prompts/review.md").write_text("Review it")
    (home / "alice.password").write_text("a password\n")
    files.write_private(home / ".codex/auth.json", json.dumps(make_auth()).encode())
    write_program(tmp_path / "bin" / "ssh", '#!/bin/sh\n[ "$2" = sh ] && grep -q "curl -q "\n')
    programs = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = BASE_ENVIRONMENT | {"HOME": str(home), "PATH": programs, "CDXSYNC_HOME": str(tmp_path / "home")}
    command = get_command(app)
    for example in MANUAL["example"]:
        if example["run"].startswith(SERVES):
            name, *arguments = shlex.split(example["run"])[1:]
            assert vars(command)["commands"][name].make_context(name, arguments)
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", example["run"]], env=env, cwd=home, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{example['run']}: {done.stderr}"
        assert example.get("prints", "") in done.stdout
