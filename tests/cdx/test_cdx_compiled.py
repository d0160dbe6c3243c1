"""The compiled code that cdx keeps: it is used when only this user can have written it, and never missed."""

import marshal
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from cdxsync.wrapper.src import boot, compiled
from tests.support.documents import make_auth
from tests.support.fleet import Fleet
from tests.support.machines import Machine, host, machine_key
from tests.support.together import at_once

BODY = "\nANSWER = 6 * 7\n"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This user's cache folder, as `boot` finds it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(boot, "NOT_KEPT", [])
    monkeypatch.setattr(compiled, "NOT_KEPT", boot.NOT_KEPT)
    return tmp_path / ".cache" / "cdx"


def answer(code: CodeType) -> Any:
    names: dict[str, Any] = {}
    exec(code, names)
    return names["ANSWER"]


@pytest.fixture
def kept(cache: Path) -> Path:
    """The file that a first start leaves."""
    assert answer(boot.load(BODY, 7)) == 42
    compiled.keep_compiled()
    (path,) = cache.iterdir()
    return path


def is_used(kept: Path) -> bool:
    """Whether the next start uses the file; it works in any case."""
    boot.NOT_KEPT.clear()
    assert answer(boot.load(BODY, 7)) == 42
    return not boot.NOT_KEPT


def test_it_is_private_and_used(kept: Path) -> None:
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert kept.stat().st_mode & 0o777 == 0o600
    assert is_used(kept)
    compiled.keep_compiled()
    assert list(kept.parent.iterdir()) == [kept]


def test_it_is_for_one_text_place_and_python(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {boot.compiled_key(BODY, 7), boot.compiled_key(BODY + "#", 7), boot.compiled_key(BODY, 8)}
    for name, value in (("__file__", "/elsewhere/cdx"), ("sys.version", "3.99.0")):
        with monkeypatch.context() as other:
            other.setattr(f"cdxsync.wrapper.src.boot.{name}", value)
            keys.add(boot.compiled_key(BODY, 7))
    assert len(keys) == 5
    boot.load(BODY + "#", 7)
    assert boot.NOT_KEPT


def replace(kept: Path, data: bytes) -> None:
    kept.write_bytes(data)


def linked(kept: Path) -> None:
    kept.rename(kept.with_name("other"))
    kept.symlink_to("other")


def another_users(kept: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(kept, 12345, 12345)


def in_another_users_folder(kept: Path) -> None:
    another_users(kept.parent)


def below_a_link(kept: Path) -> None:
    kept.parent.rename(kept.parent.with_name("moved"))
    kept.parent.symlink_to("moved")


def of_another_text(kept: Path) -> None:
    boot.load("\nANSWER = 13\n", 7)
    compiled.keep_compiled()
    (other,) = set(kept.parent.iterdir()) - {kept}
    other.replace(kept)


def as_a_pipe(kept: Path) -> None:
    kept.unlink()
    os.mkfifo(kept, 0o600)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda kept: kept.chmod(0o640), id="group reads it"),
        pytest.param(lambda kept: kept.chmod(0o602), id="others write it"),
        pytest.param(lambda kept: kept.parent.chmod(0o770), id="group writes the folder"),
        pytest.param(lambda kept: kept.parent.chmod(0o703), id="others write the folder"),
        pytest.param(lambda kept: os.link(kept, kept.with_name("second")), id="has a second name"),
        pytest.param(lambda kept: replace(kept, kept.read_bytes()[:-1]), id="torn"),
        pytest.param(lambda kept: replace(kept, b""), id="empty"),
        pytest.param(lambda kept: replace(kept, kept.read_bytes()[:64] + marshal.dumps(0)), id="replaced"),
        linked,
        another_users,
        in_another_users_folder,
        below_a_link,
        of_another_text,
        as_a_pipe,
    ],
)
def test_a_file_that_another_may_have_written_is_not_used(kept: Path, spoil: Callable[[Path], None]) -> None:
    spoil(kept)
    assert not is_used(kept)


def test_a_spoilt_file_is_replaced(kept: Path) -> None:
    replace(kept, b"")
    assert not is_used(kept)
    compiled.keep_compiled()
    assert is_used(kept)


def test_nothing_is_written_where_another_writes(kept: Path) -> None:
    kept.parent.chmod(0o777)
    before = kept.read_bytes(), kept.stat().st_mtime_ns
    assert not is_used(kept)
    compiled.keep_compiled()
    assert (kept.read_bytes(), kept.stat().st_mtime_ns) == before


def test_the_newest_few_stay(kept: Path) -> None:
    os.utime(kept, (0, 0))
    for number in range(compiled.KEPT_FILES):
        boot.load(BODY + "#" * number + "\n", 7)
        compiled.keep_compiled()
    assert len(list(kept.parent.iterdir())) == compiled.KEPT_FILES
    assert not kept.exists()


def test_the_folder_is_the_users_own(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert boot.compiled_folder() == str(cache)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert boot.compiled_folder() == str(tmp_path / "cdx")
    for other in ("relative", str(tmp_path / "missing"), ""):
        monkeypatch.setenv("XDG_CACHE_HOME", other)
        assert boot.compiled_folder() == str(cache)
    # As under sudo, where the variables are those of the invoking user.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 3_999_999_999)
    assert boot.compiled_folder() == ""


@pytest.fixture
def machine(fleet: Fleet, tmp_path: Path) -> Machine:
    fleet.upload(make_auth())
    made = host(fleet, tmp_path)
    made.env.pop("PYTHONDONTWRITEBYTECODE", None)
    return made


def kept_by(machine: Machine) -> list[Path]:
    return sorted(machine.home.glob(".cache/cdx/*"))


def loaded(machine: Machine, *arguments: str) -> set[str]:
    """The modules that a run of cdx loads."""
    done = machine.run(str(machine.bin / "python3"), "-X", "importtime", str(machine.cdx), *arguments)
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE))


def test_a_run_keeps_the_code_without_secrets(machine: Machine, fleet: Fleet) -> None:
    assert machine.run_cdx("exec").stderr == ""
    (path,) = kept_by(machine)
    data = path.read_bytes()
    assert b"auth.json" in data
    for secret in (machine_key(machine), machine.env["NAME"], fleet.url, "BEGIN CERTIFICATE"):
        assert secret.encode() not in data
        assert secret in machine.cdx.read_text()


def test_a_plain_run_loads_little(machine: Machine) -> None:
    """Neither what compiles, nor large modules of the standard library that few runs need."""
    machine.run_cdx("exec")
    site = subprocess.run(
        [machine.bin / "python3", "-X", "importtime", "-c", "import ssl, json, http.client"],
        env=machine.env,
        capture_output=True,
        text=True,
    ).stderr
    more = {name for name in loaded(machine, "exec") if not re.search(rf"\| +{re.escape(name)}$", site, re.MULTILINE)}
    assert more & {"__future__", "subprocess", "tempfile", "shutil", "typing", "tarfile", "encodings.idna"} == set()
    assert len(more) < 12, more


def test_other_runs_that_start_at_the_same_time_do_no_harm(machine: Machine) -> None:
    results: list[subprocess.CompletedProcess[str]] = []
    at_once([lambda: results.append(machine.run_cdx("exec"))] * 6)
    assert [(done.returncode, done.stderr) for done in results] == [(0, "")] * 6
    assert len(kept_by(machine)) == 1
    assert "__future__" not in loaded(machine, "exec")


def test_what_cannot_be_kept_is_done_without(machine: Machine) -> None:
    (machine.home / ".cache").write_text("not a folder")
    for _ in range(2):
        done = machine.run_cdx("exec")
        assert (done.returncode, done.stdout, done.stderr) == (0, "ran with: exec\n", "")


def test_python_can_be_told_to_keep_nothing(machine: Machine) -> None:
    assert machine.run_cdx("exec", PYTHONDONTWRITEBYTECODE="1").returncode == 0
    assert kept_by(machine) == []


def test_a_sync_keeps_it_and_uninstalling_removes_it(machine: Machine) -> None:
    assert machine.run_cdx("--wrapper-sync").returncode == 0
    assert kept_by(machine)
    done = machine.run_cdx("--uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    assert str(machine.home / ".cache" / "cdx") in done.stderr
    assert list((machine.home / ".cache").iterdir()) == []
