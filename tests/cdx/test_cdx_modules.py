"""The one file of cdx and the modules that it is made of."""

import ast
import itertools
import json
import re
import shutil
from pathlib import Path

import pytest

from cdxsync.base.errors import KINDS
from cdxsync.wrapper.src import errors, join
from tests.support.documents import make_auth
from tests.support.fleet import Fleet
from tests.support.machines import CDX, Machine, host
from tests.support.stub_server import StubServer

OLD_PYTHON = (3, 8)


def bodies_of(text: str) -> list[tuple[str, int]]:
    """The texts that cdx compiles, and the lines of the file in which they begin."""
    found = {ast.unparse(node.targets[0]): node for node in ast.parse(text).body if isinstance(node, ast.Assign)}
    line, later = ast.literal_eval(found["LATER"].value)
    assert line == found["LATER"].lineno
    return [(ast.literal_eval(found["BODY"].value), found["BODY"].lineno), (later, line)]


def test_the_file_is_made_of_its_modules() -> None:
    assert CDX.read_text() == join.joined(), "run: python -m cdxsync.wrapper.src.join"
    assert join.main(["--check"]) == 0


def test_it_is_python_3_8() -> None:
    text = CDX.read_text()
    ast.parse(text, feature_version=OLD_PYTHON)
    for body, _ in bodies_of(text):
        ast.parse(body, feature_version=OLD_PYTHON)
    for path in join.FOLDER.glob("*.py"):
        ast.parse(path.read_text(), feature_version=OLD_PYTHON)


def test_all_modules_are_in_it_and_can_be_found() -> None:
    modules = {path.stem for path in join.FOLDER.glob("*.py")} - {"__init__", "join"}
    assert modules == {*join.BEGINNING, *join.PARTS, *join.LATE, *join.LAST}
    assert {f"# --- src/{name}.py: " in CDX.read_text() for name in modules} == {True}


def test_tracebacks_name_the_lines_of_the_file() -> None:
    text = CDX.read_text()
    lines, seen = text.splitlines(), 0
    for body, line in bodies_of(text):
        code = compile("\n" * (line - 1) + body, "cdx", "exec")
        functions = [part for part in code.co_consts if hasattr(part, "co_firstlineno") and part.co_name.islower()]
        seen += len(functions)
        for function in functions:
            named = itertools.islice(lines, function.co_firstlineno - 1, function.co_firstlineno + 1)
            assert any(re.match(rf"def {function.co_name}\(", found) for found in named)
    assert seen > 250


def test_what_is_late_is_asked_for_before_it_is_used() -> None:
    """Each function of the last part that names something of a late part calls `later`."""
    late = {name for part in join.LATE for name in join.Part(part).names}
    users = []
    for node in ast.parse((join.FOLDER / "command.py").read_text()).body:
        named = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        if named & late:
            assert "later" in named, ast.unparse(node)
            users.append(node)
    assert len(users) > 2


def copy_of_modules(folder: Path, **texts: str) -> Path:
    """The modules with some of them replaced."""
    shutil.copytree(join.FOLDER, folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in texts.items():
        (folder / "src" / f"{name}.py").write_text(text)
    return folder / "src"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('"""."""\n\n\ndef debug() -> None:\n    pass\n', "debug is defined by messages.py too"),
        ('"""."""\n\nfrom cdxsync.wrapper.src.spool import Spool\n\nOWN = Spool\n', "or comes later"),
        ('"""."""\n\nfrom cdxsync.wrapper.src.messages import shout\n\nOWN = shout\n', "shout is not defined"),
        ('"""."""\n\nimport json as other\n', "an import with another name"),
        ('"""."""\n\nfrom os import path\n', "write `import os`"),
        ('"""."""\n\nprint(1) if True else None\nfor _ in ():\n    pass\n', "only definitions can be joined"),
        ('"""."""\n\n\nTEXT = "\'\'\'"\n', "''' cannot be part"),
        ('"""."""\n\n\ndef own() -> None:\n    from cdxsync.wrapper.src.spool import Spool\n', "within a function"),
    ],
)
def test_modules_that_do_not_fit_together_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        join.joined(copy_of_modules(tmp_path, versions=text))


def test_a_stale_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(join, "FILE", tmp_path / "cdx")
    monkeypatch.setattr(join, "MODULES", tmp_path / "modules.txt")
    (tmp_path / "cdx").write_text(CDX.read_text() + "\n")
    assert join.main(["--check"]) == 1
    assert "python -m cdxsync.wrapper.src.join" in capsys.readouterr().err
    assert join.main([]) == 0
    assert join.main(["--check"]) == 0


@pytest.fixture
def machine(fleet: Fleet, tmp_path: Path) -> Machine:
    made = host(fleet, tmp_path)
    made.put_auth(make_auth())
    return made


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (401, "key_missing", "cdxsync hosts register"),
        (401, "key_invalid", "cdxsync hosts register"),
        (403, "address_not_bound", "cdxsync hosts unbind"),
        (403, "host_disabled", "cdxsync hosts enable"),
        (403, "of_another_day", "cdxsync hosts show"),
        (401, "of_another_day", "cdxsync hosts show"),
        # The code counts, whatever the words are.
        (403, "host_disabled API key not allowed from this IP", "cdxsync hosts enable"),
    ],
)
def test_a_refusal_is_told_by_its_code(machine: Machine, stub: StubServer, status: int, code: str, says: str) -> None:
    code, _, words = code.partition(" ")
    stub.otherwise = (status, json.dumps({"status": "error", "message": words or "Nein.", "code": code}).encode())
    done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=stub.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"the server refuses this host: {words or 'Nein.'}" in done.stderr
    assert says in done.stderr


def test_a_host_that_may_not_store_runs_all_the_same(machine: Machine, stub: StubServer) -> None:
    stub.answers["POST", "/auth"] = lambda body: (
        (403, b'{"status":"error","message":"Nein.","code":"store_not_permitted"}')
        if b'"store"' in body
        else (200, b'{"status":"ok","data":{"status":"upload_required"}}')
    )
    done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=stub.url)
    assert (done.returncode, done.stdout) == (0, "ran with: exec\n")
    assert "stays on this host" in done.stderr


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        (401, {"message": "API key missing"}, errors.Refused),
        (401, {"message": "Invalid API key"}, errors.Refused),
        (403, {"message": "API key not allowed from this IP"}, errors.Refused),
        (403, {"message": "Host is disabled"}, errors.Refused),
        (403, {"message": "This host may not store auth.json"}, errors.NotPermitted),
        (403, {"message": "This host may not store auth.json", "code": "other"}, errors.Refused),
        (429, {"message": "slow down", "code": "rate_limited"}, errors.Later),
        (503, {"message": "later", "code": "database_away"}, errors.Offline),
        (302, {}, errors.Offline),
        (200, {"code": ["host_disabled"]}, errors.Offline),
        (422, {"message": "Validation failed", "code": "validation_failed"}, errors.Rejected),
        (404, {"message": 5, "code": None}, errors.Rejected),
    ],
)
def test_what_an_answer_means(status: int, answer: dict[str, object], kind: type[errors.SyncError]) -> None:
    assert type(errors.failure(status, answer)) is kind


def test_servers_without_codes_are_known_by_their_texts() -> None:
    for status, text, code in errors.TEXTS_OF_OLDER_SERVERS:
        assert errors.code_of(status, {"message": text}) == code
        assert errors.code_of(500, {"message": text}) == ""
        old, new = errors.failure(status, {"message": text}), errors.failure(status, {"message": "", "code": code})
        assert (type(old), old.remedy) == (type(new), new.remedy)


def test_the_codes_are_those_of_the_server() -> None:
    declared = {code: kind.http_status for kind in KINDS.values() for code in kind.codes}
    assert errors.DECISIONS.keys() <= declared.keys()
    assert {declared[code] for code in errors.DECISIONS} == {401, 403}
    for status, _, code in errors.TEXTS_OF_OLDER_SERVERS:
        assert declared[code] == status


def test_no_decision_is_made_by_words() -> None:
    """The texts of servers stand in one place."""
    for _, text, _ in errors.TEXTS_OF_OLDER_SERVERS:
        assert [path.stem for path in join.FOLDER.glob("*.py") if text in path.read_text()] == ["errors"]
