"""The README says what the program does."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cdxsync.base import settings
from cdxsync.cli.main import app
from tests.support.commands import commands

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
SPECS = [spec for spec in dataclasses.fields(settings.Settings) if spec.metadata]


@pytest.mark.parametrize("spec", SPECS, ids=[spec.name for spec in SPECS])
def test_settings_are_documented(spec: Any) -> None:
    row = next(line for line in README.splitlines() if line.startswith(f"| `{spec.name}` |"))
    assert f"`{spec.metadata['env']}`" in row
    assert spec.metadata["help"].rstrip(".").split(";")[0] in row
    if isinstance(spec.default, int) and not isinstance(spec.default, bool):
        assert f"`{spec.default}`" in row


def test_only_real_settings_are_documented() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)
    assert documented == [spec.name for spec in SPECS]


def test_commands_are_documented_and_no_others() -> None:
    section = README.partition("\n## Commands\n")[2].partition("\n## ")[0]
    documented = []
    for entry in re.findall(r"`([a-z][a-z-]*(?: [a-z|-]+){0,2})`", section):
        noun, _, verbs = entry.rpartition(" ") if " " in entry else (entry, "", "")
        if noun not in ("cdxsync", "man", "data"):
            documented += [f"{noun} {verb}".strip() for verb in verbs.split("|")]
    assert sorted(documented) == sorted(commands(get_command(app)))


def anchors(page: Path) -> set[str]:
    """The anchors that the headings of a page have."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), f"{target}#{anchor}"


def test_documents_are_found_from_the_readme() -> None:
    linked = {(ROOT / target).resolve() for target in re.findall(r"\]\(([^)#:]+)", README)}
    assert {page.resolve() for page in ROOT.glob("docs/*.md")} <= linked


def test_every_example_is_described() -> None:
    described = (ROOT / "examples" / "README.md").read_text()
    names = {path.name for path in (ROOT / "examples").iterdir()} - {"README.md"}
    assert {name for name in names if not re.search(rf"`{re.escape(name)}[`/]", described)} == set()


def test_the_changelog_keeps_its_form() -> None:
    """Keep a Changelog 1.1.0: the newest first, known kinds of changes in their order, nothing told twice."""
    text = (ROOT / "CHANGELOG.md").read_text()
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert releases[0] == "[Unreleased]"
    dated = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", release) for release in releases[1:]]
    assert all(dated)
    assert sorted((found[2] for found in dated if found), reverse=True) == [found[2] for found in dated if found]
    order = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    for release in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.+)$", release, re.MULTILINE)
        assert kinds == sorted(set(kinds), key=order.index)
        entries = re.findall(r"^- (.{40})", release, re.MULTILINE)
        assert len(entries) == len(set(entries))


def test_the_architecture_names_what_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    package = ROOT / "cdxsync"
    named = set(re.findall(r"`((?:\w+/)+(?:\w+\.(?:py|sh))?)`", text)) - {"docs/", "man/"}
    assert len(named) > 40
    places = (package, ROOT, *package.iterdir())
    missing = {name for name in named if not any((place / name).exists() for place in places)}
    assert missing == set()
    floors = re.findall(r"(?m)^   (\w+)/|\s{3}(\w+)/ ", text.partition("```")[2].partition("```")[0])
    packages = {path.name for path in package.iterdir() if (path / "__init__.py").exists()} - {"dashboard"}
    assert {first or second for first, second in floors} | {"host", "admin"} == packages | {"host", "admin"}
