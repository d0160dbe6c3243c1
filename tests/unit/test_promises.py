"""Each promise of `docs/security.md` names the tests that hold it, and they exist."""

import ast
import re
from pathlib import Path

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "setup.cfg").exists())
PROMISES = re.search(r"^## Promises$(.*?)^## ", (ROOT / "docs" / "security.md").read_text(), re.MULTILINE | re.DOTALL)
TEST = re.compile(r"`(tests/[a-z_/0-9]+\.py)::(test_[a-z0-9_]+)`")


def promises() -> list[tuple[str, str]]:
    """What is promised, and what it says of tests, of each item."""
    assert PROMISES is not None
    items = re.split(r"^- ", PROMISES[1], flags=re.MULTILINE)[1:]
    return [(said.strip(), held) for said, _, held in (item.partition("Held by") for item in items)]


def test_each_promise_is_held_by_tests_that_exist() -> None:
    wrong = []
    for said, held in promises():
        named = TEST.findall(held)
        if not named:
            wrong.append(f"no test holds: {said}")
        for path, name in named:
            file = ROOT / path
            tree = ast.parse(file.read_text()) if file.exists() else ast.Module([], [])
            if not any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body):
                wrong.append(f"{path}::{name} does not exist; it is to hold: {said}")
    assert wrong == []
    assert len(promises()) > 30


def test_nothing_is_promised_beside_the_list() -> None:
    assert PROMISES is not None
    before_items = [part.split("\n- ")[0] for part in re.split(r"^### .+$", PROMISES[1], flags=re.MULTILINE)[1:]]
    assert [text.strip() for text in before_items if text.strip()] == []
