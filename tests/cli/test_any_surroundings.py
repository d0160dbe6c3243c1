"""Every command where no person's shell is: users without an entry or a home, full disks, readers that have gone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import EXAMPLES, words_of
from tests.support.documents import make_auth
from tests.support.fleet import BASE_ENVIRONMENT, running_fleet

COMMANDS = sorted(set(EXAMPLES) - {"serve", "init", "db restore", "db import", "db import-reference"})
NO_ONE = 54_321
"""A number that no user of this machine has."""
# Runs many commands, each in a child with a fresh copy of the home; prints exit code, output and errors of each.
EACH = """
import importlib, json, os, pkgutil, shutil, sys
import cdxsync
for found in pkgutil.walk_packages(cdxsync.__path__, "cdxsync."):  # once, and not in each child
    if not found.name.startswith(("cdxsync.wrapper.src", "cdxsync.__main__")):
        importlib.import_module(found.name)
from cdxsync.cli import main
seed, home, full, commands = json.loads(sys.argv[1])
told = []
for words in commands:
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(seed, home)
    shutil.rmtree("new", ignore_errors=True) if os.path.isdir("new") else os.path.exists("new") and os.unlink("new")
    child = os.fork()
    if child == 0:
        for number, name in ((0, os.devnull), (1, full or "out"), (2, "err")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
        sys.argv = ["cdxsync", "--home", home, *words]
        try:
            main.run()
        except SystemExit as ended:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended.code or 0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    told.append([code, "" if full else open("out").read(), open("err").read()])
print(json.dumps(told))
"""
# Within its namespaces the file system is read-only but for one folder, and the user has no entry.
ELSEWHERE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
ELSEWHERE += ['mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"']
AS_NO_ONE = ["unshare", "--user", f"--map-user={NO_ONE}", f"--map-group={NO_ONE}"]


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with documents, a host and a prompt."""
    with running_fleet(tmp_path_factory.mktemp("seed") / "home") as fleet:
        fleet.upload(make_auth("2025-01-01T00:00:00Z"))
        fleet.upload(make_auth())
        fleet.register("web.example.net")
        fleet.admin_call("POST", "/admin/slash-commands/store", json={"filename": "a.md", "prompt": "a"})
        (fleet.home / "config.toml").write_text(f'public_url = "{fleet.url}"\n')
    return fleet.home


@pytest.fixture(scope="module")
def usual(seed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the commands do in a person's shell."""
    return each(seed, tmp_path_factory.mktemp("usual") / "usual")


def each(
    seed: Path, folder: Path, *, before: tuple[str, ...] = (), full: str = "", home: bool = True
) -> dict[str, Any]:
    """Exit code, output and errors of each command, run in `folder`; without `home` there is no HOME."""
    folder.mkdir()
    listed = [words_of(path, folder) for path in COMMANDS]
    given = json.dumps([str(seed), str(folder / "home"), full, listed])
    names = () if home else ("HOME", "USER", "LOGNAME", "TMPDIR")
    environment = {name: value for name, value in BASE_ENVIRONMENT.items() if name not in names}
    command = [*before, sys.executable, "-c", EACH, given]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(COMMANDS, json.loads(done.stdout), strict=True))


def run(home: Path, words: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    """A command of its own process; standard output is captured unless the options say otherwise."""
    given: dict[str, Any] = {"env": BASE_ENVIRONMENT, "input": b"{}", "stdout": subprocess.PIPE} | options
    command = [sys.executable, "-m", "cdxsync", "--home", str(home), *words]
    done: subprocess.CompletedProcess[bytes] = subprocess.run(command, stderr=subprocess.PIPE, check=False, **given)
    return done


def in_words(done: subprocess.CompletedProcess[bytes]) -> str:
    told = done.stderr.decode()
    assert "Traceback" not in told
    return told


def test_a_user_without_an_entry_or_a_home_on_a_read_only_system(
    seed: Path, usual: dict[str, Any], tmp_path: Path
) -> None:
    before = (*ELSEWHERE, str(tmp_path), *AS_NO_ONE)
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("there are no user namespaces here")
    for path, (code, _, errors) in each(seed, tmp_path / "elsewhere", before=before, home=False).items():
        assert (path, code, "Traceback" in errors) == (path, usual[path][0], False), errors
    command = [*AS_NO_ONE, sys.executable, "-m", "cdxsync", "hosts", "list"]
    environment = {name: value for name, value in BASE_ENVIRONMENT.items() if name not in ("HOME", "CDXSYNC_HOME")}
    asked = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert asked.returncode == 2
    assert f"The user #{NO_ONE} has no home directory, so give --home DIR or set CDXSYNC_HOME" in in_words(asked)


def test_output_that_cannot_be_written_is_one_line(seed: Path, usual: dict[str, Any], tmp_path: Path) -> None:
    for path, (code, _, errors) in each(seed, tmp_path / "full", full="/dev/full").items():
        assert "Traceback" not in errors
        if usual[path][1]:
            assert (path, code) == (path, usual[path][0] or 1)
            assert (path, errors.splitlines()[-1]) == (path, "cdxsync: standard output: No space left on device")
        else:
            assert (path, code) == (path, usual[path][0])


@pytest.mark.parametrize("argument", [b"\xff", b"a\xffb.example.net", b"", b"\x1b[2J", "ü".encode()])
def test_an_argument_of_any_bytes_is_answered(seed: Path, tmp_path: Path, argument: bytes) -> None:
    home = shutil.copytree(seed, tmp_path / "home")
    for words in (["hosts", "show"], ["hosts", "register"], ["pki", "issue"]):
        done = run(home, [*words, os.fsdecode(argument)], env={**BASE_ENVIRONMENT, "LC_ALL": "C"})
        assert (words, done.returncode > 0, bool(in_words(done))) == (words, True, True)


def test_a_reader_that_has_had_enough(seed: Path) -> None:
    for words in (["hosts", "list"], ["wrapper", "cat"], ["--json", "doctor"]):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            assert in_words(run(seed, words, stdout=writer)) == ""
        finally:
            os.close(writer)


def test_a_dash_is_a_stream(seed: Path, tmp_path: Path) -> None:
    home = shutil.copytree(seed, tmp_path / "home")
    folder = tmp_path / "folder"
    folder.mkdir()
    (password := tmp_path / "password").write_text("a password of some length\n")
    for number, more in enumerate(((), ("--password-file", str(password)))):
        saved = run(home, ["db", "backup", "-", *more], cwd=folder)
        assert (saved.returncode, in_words(saved)[:21]) == (0, "Wrote standard output")
        other = tmp_path / f"other{number}"
        assert run(other, ["db", "restore", "-", *more], input=saved.stdout).returncode == 0
        assert b"web.example.net" in run(other, ["hosts", "list"]).stdout
    for words in (["pki", "export", "admin", "--out", "-", "--password-file", str(password)], ["db", "export", "-"]):
        assert len(run(home, words, cwd=folder).stdout) > 1000
    assert list(folder.iterdir()) == []
