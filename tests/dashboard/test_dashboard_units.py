"""The dashboard's pure functions, run by Node; and what holds for all of its files."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "cdxsync" / "dashboard" / "static"
UNITS = Path(__file__).parent / "units"
SCRIPTS = sorted((STATIC / "js").rglob("*.js"))

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@needs_node
def test_pure_functions(tmp_path: Path) -> None:
    # Node takes `.js` for modules only where a package.json says so; a browser needs none.
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copytree(STATIC / "js", tmp_path / "js")
    tests = [shutil.copy(path, tmp_path) for path in sorted(UNITS.glob("*.test.js"))]
    done = subprocess.run(["node", "--test", *tests], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^# fail 0$", done.stdout, re.MULTILINE)
    assert not re.search(r"^# pass 0$", done.stdout, re.MULTILINE)


@needs_node
def test_every_module_is_valid(tmp_path: Path) -> None:
    for number, script in enumerate(SCRIPTS):
        shutil.copy(script, tmp_path / f"{number}.mjs")
    for number, script in enumerate(SCRIPTS):
        done = subprocess.run(["node", "--check", tmp_path / f"{number}.mjs"], capture_output=True, text=True)
        assert done.returncode == 0, f"{script}: {done.stderr}"


def test_every_imported_module_and_linked_file_is_there() -> None:
    for script in SCRIPTS:
        for name in re.findall(r'^import [^;]*?"([^"]+)";', script.read_text(), re.MULTILINE):
            assert (script.parent / name).is_file(), f"{script} imports {name}"
    page = (STATIC / "index.html").read_text()
    linked = re.findall(r'(?:href|src)="static/([^"]+)"', page)
    assert linked
    for name in linked:
        assert (STATIC / name).is_file()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.relative_to(STATIC).as_posix())
def test_scripts_make_no_markup_of_text_and_keep_nothing_in_the_browser(script: Path) -> None:
    text = script.read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|setAttribute\(\"style", text)
    assert not re.search(r"localStorage|sessionStorage|indexedDB|document\.cookie|\beval\(", text)
    assert text.startswith("/** ")
    assert text.count("\n") < 300


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]* src=)|https?://", page)
    for sheet in (STATIC / "css").glob("*.css"):
        assert not re.search(r"url\(|@import", sheet.read_text()), sheet
