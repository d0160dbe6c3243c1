"""Every error has a declared code, and every declared code is used, with the status that documents give it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import generate_errors

from cdxsync.base import errors
from cdxsync.services import local_runner
from cdxsync.store import keyring_file, sealing

PACKAGE = Path(errors.__file__).parent.parent
CLASSES: dict[str, type[errors.CdxsyncError]] = {
    cls.__name__: cls for cls in (*errors.KINDS, local_runner.CodexFailed, keyring_file.KeyringElsewhere)
}
FOLLOWED = {"code", "failure.code", "_CODES[permit]"}
"""What stands for a code that is declared elsewhere: a parameter, another error's, a table of the module."""


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path != Path(errors.__file__) and "wrapper" not in path.parts:  # `cdx` has errors of its own
            yield path, ast.parse(path.read_text())


def raised() -> Iterator[tuple[str, type[errors.CdxsyncError], ast.expr | None]]:
    """Each place that makes an error: where, of which class, and the code that it names."""
    for path, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in CLASSES:
                code = next((keyword.value for keyword in node.keywords if keyword.arg == "code"), None)
                yield f"{path}:{node.lineno}", CLASSES[name], code


def default_of(cls: type[errors.CdxsyncError]) -> str:
    return cls.default_code or errors.kind_of(cls).default


def test_each_code_is_declared_once() -> None:
    codes = [row.code for row in errors.declared()]
    assert len(codes) == len(set(codes))


def test_each_place_names_a_code_of_its_class() -> None:
    wrong = []
    for place, cls, code in raised():
        if code is None:
            good = default_of(cls) in errors.kind_of(cls).codes
        elif isinstance(code, ast.Constant):
            good = code.value in errors.kind_of(cls).codes
        else:
            good = ast.unparse(code) in FOLLOWED
        if not good:
            wrong.append(place)
    assert wrong == []


def test_each_declared_code_is_used() -> None:
    used = {default_of(cls) for _, cls, code in raised() if code is None}
    for _, tree in modules():
        used |= {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
    declared = {code for kind in errors.KINDS.values() for code in kind.codes}
    assert declared - used == set()


def test_subclasses_outside_the_table_have_codes_of_their_ancestors() -> None:
    assert sealing.UnknownKey("x").code in errors.kind_of(sealing.UnknownKey).codes


def test_the_page_is_fresh() -> None:
    assert generate_errors.PAGE.read_text() == generate_errors.page(), "run: python docs/generate_errors.py"
