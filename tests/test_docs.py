"""The documents say what the program does."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import cdxsync
from cdxsync import settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MAN = (ROOT / "man" / "cdxsync.1").read_text()
COMMANDS = MAN.partition(".SH COMMANDS")[2]
SPECS = [spec for spec in dataclasses.fields(settings.Settings) if spec.metadata]


def commands(command: Any = None, path: str = "cdxsync") -> list[tuple[str, Any]]:
    """All commands that do something, with their full names."""
    if command is None:
        from typer.main import get_command

        from cdxsync.cli.main import app

        command = get_command(app)
    children = getattr(command, "commands", None)
    if children is None:
        return [(path, command)]
    shown = {name: child for name, child in children.items() if not child.hidden}
    return [found for name, child in shown.items() for found in commands(child, f"{path} {name}")]


@pytest.mark.parametrize("spec", SPECS, ids=[spec.name for spec in SPECS])
def test_settings_are_documented(spec: Any) -> None:
    row = next(line for line in README.splitlines() if line.startswith(f"| `{spec.name}` |"))
    assert f"`{spec.metadata['env']}`" in row
    assert spec.metadata["help"].rstrip(".").split(";")[0] in row
    assert spec.metadata["env"] in MAN
    if isinstance(spec.default, int) and not isinstance(spec.default, bool):
        assert f"`{spec.default}`" in row


def test_only_real_settings_are_documented() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)
    assert documented == [spec.name for spec in SPECS]


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_commands_are_in_the_manual(name: str, command: Any) -> None:
    heading = next((line for line in COMMANDS.splitlines() if re.match(rf"\.B {name}(?!\w)", line)), None)
    assert heading is not None
    section = COMMANDS[COMMANDS.index(heading) :].split("\n.TP")[0].replace("\\-", "-")
    for parameter in command.params:
        option = next((text for text in parameter.opts if text.startswith("--")), None)
        if option and option not in ("--help", "--json"):
            assert option in section, option


def test_only_real_commands_are_in_the_manual() -> None:
    names = {name for name, _ in commands()}
    for line in MAN.splitlines():
        match = re.match(r"\.B (cdxsync [a-z]+(?: [a-z]+)?)(?= |$)", line)
        if match:
            assert match[1] in names
    listed = re.findall(r"`(hosts|auth|usage|prompts|versions|wrapper|pki|keys|db) ([a-z|]+)`", README)
    assert {f"cdxsync {noun} {verb}" for noun, verbs in listed for verb in verbs.split("|")} == {
        name for name in names if name.count(" ") == 2
    }


def test_versions_agree() -> None:
    for page in ("cdx.1", "cdxsync.1"):
        assert f'"cdxsync {cdxsync.__version__}"' in (ROOT / "man" / page).read_text().splitlines()[0]


@pytest.mark.parametrize("page", ["cdx.1", "cdxsync.1"])
def test_manual_pages_are_well_formed(page: str) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", str(ROOT / "man" / page)], capture_output=True, text=True
    )
    assert done.stderr == ""


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
