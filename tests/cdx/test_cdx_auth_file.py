"""An auth.json that cannot be read or replaced: login and logout run all the same, other runs say what to do."""

import errno
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdxsync.wrapper.src import file_trouble, files
from cdxsync.wrapper.src.document import LocalDocument
from cdxsync.wrapper.src.file_trouble import Unreadable, trouble, write_trouble
from tests.support.documents import make_auth, with_auths
from tests.support.fleet import Fleet, free_port
from tests.support.machines import Machine, host

ANOTHER_USER = 65534
OLD, NEW = "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"
CODEX = """#!/bin/sh
case "$1" in --version) echo "codex-cli 0.171.0"; exit 0;; esac
home="${CODEX_HOME:-$HOME/.codex}"
case "$*" in
*logout*) rm -f "$home/auth.json"; echo "logged out"; exit 0;;
*login*) rm -f "$home/auth.json"; cp "$NEW_AUTH" "$home/auth.json"; exit 0;;
esac
echo "ran with: $*"
"""


@pytest.fixture
def synced(fresh_fleet: Fleet) -> Fleet:
    fresh_fleet.upload(make_auth(OLD))
    return fresh_fleet


@pytest.fixture
def machine(synced: Fleet, tmp_path: Path) -> Machine:
    """A host in step with its fleet, and a new login."""
    made = host(synced, tmp_path, codex=CODEX)
    assert made.run_cdx("--wrapper-sync").returncode == 0
    made.env["NEW_AUTH"] = str(made.home / "new.json")
    (made.home / "new.json").write_text(json.dumps(make_auth(NEW, "new")))
    return made


@pytest.fixture
def users(machine: Machine) -> Iterator[Machine]:
    """The same, of a user who is not root."""
    if os.geteuid() != 0:
        pytest.skip("only root can start programs as another user")
    root = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        shutil.move(machine.root, root / "machine")
        root.chmod(0o755)
        moved = Machine.__new__(Machine)
        moved.root, moved.home, moved.bin = root / "machine", root / "machine/home", root / "machine/bin"
        (moved.bin / "python3").unlink()
        (moved.bin / "python3").symlink_to("/usr/bin/python3")
        moved.env = {name: value.replace(str(machine.root), str(moved.root)) for name, value in machine.env.items()}
        for path in [moved.root, *moved.root.rglob("*")]:
            os.chown(path, ANOTHER_USER, ANOTHER_USER, follow_symlinks=False)
        yield moved
    finally:
        shutil.rmtree(root)


def as_user(machine: Machine, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [machine.cdx, *arguments],
        env=machine.env,
        user=ANOTHER_USER,
        group=ANOTHER_USER,
        extra_groups=[],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def roots(path: Path) -> str:
    os.chown(path, 0, 0)
    return f"it belongs to root (sudo chown {ANOTHER_USER} {path})".replace("it", str(path), 1)


def without_mode(path: Path) -> str:
    path.chmod(0)
    return f"{path} has mode 0000 (chmod u+rw {path})"


def a_folder(path: Path) -> str:
    path.unlink()
    path.mkdir()
    return f"it is a folder (mv {path} {path}.moved)"


def a_pipe(path: Path) -> str:
    path.unlink()
    os.mkfifo(path)
    return f"it is no file (mv {path} {path}.moved)"


def a_device(path: Path) -> str:
    path.unlink()
    path.symlink_to("/dev/null")
    return f"it is no file (mv {path} {path}.moved)"


def a_circle(path: Path) -> str:
    path.unlink()
    path.symlink_to(path)
    return f"it is a link that leads to itself (rm {path})"


KINDS = [roots, without_mode, a_folder, a_pipe, a_device, a_circle]


@pytest.mark.parametrize("spoil", KINDS)
def test_what_cannot_be_read(users: Machine, synced: Fleet, spoil: Any) -> None:
    path = users.auth_file
    says = spoil(path)
    for arguments in (("exec",), ("--wrapper-sync",)):
        done = as_user(users, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"cdx: cannot read {path}: {says}\n")
    done = as_user(users, "--doctor")
    assert (done.returncode, done.stderr) == (1, "")
    cause, _, fix = says.rpartition(" (")
    assert f"FAIL  cannot read {path}: {says}\n      -> {fix[:-1]}\n" in done.stdout
    assert cause in done.stdout
    assert "the server's log" not in done.stdout
    assert "Codex 0.171.0 is" in done.stdout
    assert f"cannot read {path}" in as_user(users, "--status").stdout
    done = as_user(users, "login")
    assert done.returncode == 0, done.stderr
    assert f"what was in the place of {path} is kept as {path}.before-cdx" in done.stderr
    assert "this login is shared with the fleet" in done.stderr
    assert users.auth() == make_auth(NEW, "new")
    assert os.path.lexists(f"{path}.before-cdx")
    assert Path("/dev/null").is_char_device()
    assert as_user(users, "exec").returncode == 0


@pytest.mark.parametrize("spoil", [roots, without_mode, a_pipe, a_device, a_circle])
def test_logging_out_takes_away_what_cannot_be_read(users: Machine, spoil: Any) -> None:
    spoil(users.auth_file)
    done = as_user(users, "logout")
    assert (done.returncode, done.stdout) == (0, "logged out\n")
    assert "this host is logged out until" in done.stderr
    assert not os.path.lexists(users.auth_file)
    assert Path("/dev/null").is_char_device()


def test_logging_out_leaves_a_folder_and_says_so(machine: Machine) -> None:
    path = machine.auth_file
    a_folder(path)
    done = machine.run_cdx("logout")
    assert (done.returncode, done.stdout) == (1, "logged out\n")
    expected = f"cdx: this host is not logged out: cannot remove {path}: it is a folder (mv {path} {path}.moved)\n"
    assert done.stderr == expected


@pytest.mark.parametrize("spoil", [a_folder, a_pipe])
def test_uninstalling_leaves_what_cannot_be_read(machine: Machine, spoil: Any) -> None:
    spoil(machine.auth_file)
    done = machine.run_cdx("--uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    assert "whose login it is is not known" in done.stderr
    assert machine.auth_file.exists()
    assert not machine.cdx.exists()


def test_a_home_of_another_user(users: Machine) -> None:
    """What cannot be written is not asked for in vain: the cached credentials do."""
    home = users.home / ".codex"
    os.chown(home, 0, 0)
    home.chmod(0o755)
    done = as_user(users, "--doctor")
    assert (
        f"{home} is not writable: {home} belongs to root\n      -> sudo chown -R {ANOTHER_USER} {home}\n" in done.stdout
    )
    assert as_user(users, "exec").stdout == "ran with: exec\n"
    done = as_user(users, "login")
    assert done.returncode == 0, done.stderr
    # The folder of cdx's own is the user's, and the file can be written into.
    assert users.auth() == make_auth(NEW, "new")


@pytest.mark.parametrize("away", [False, True])
def test_a_home_in_which_nothing_can_be_written(users: Machine, synced: Fleet, away: bool) -> None:
    """Codex logs in and out all the same. A new login is the fleet's, or stays where it was made."""
    home = users.home / ".codex"
    for path in [*home.rglob("*"), home]:
        os.chown(path, 0, 0)
        path.chmod(0o755 if path.is_dir() else 0o644)
    users.env["TMPDIR"] = str(users.home)
    done = as_user(users, "logout")
    assert (done.returncode, done.stdout) == (1, "logged out\n")
    assert "this host is not logged out: cannot remove" in done.stderr
    assert not list(users.home.glob("cdx-login-*"))
    if away:
        users.env["CODEX_SYNC_BASE_URL"] = f"https://localhost:{free_port()}"
    done = as_user(users, "login")
    assert f"cdx: cannot write {users.auth_file}: " in done.stderr
    assert done.returncode == int(away)
    found = list(users.home.glob("cdx-login-*/*/auth.json"))
    if away:
        assert json.loads(found[0].read_text()) == make_auth(NEW, "new")
        assert f"this login is in {found[0]} alone" in done.stderr
    else:
        assert found == []
        assert "this login is shared with the fleet, but this host cannot keep it" in done.stderr
        assert synced.canonical() == with_auths(make_auth(NEW, "new"))


@pytest.mark.parametrize("name", ["config.toml", ".prompt-baseline.json", ".cdx/state.json", ".cdx/login.json", ".cdx"])
def test_a_pipe_in_the_place_of_another_file_stops_nothing(machine: Machine, name: str) -> None:
    path = machine.home / ".codex" / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert machine.run_cdx("exec").stdout == "ran with: exec\n"
    assert machine.run_cdx("--status").returncode == 0
    done = machine.run_cdx("--doctor")
    assert (f"FAIL  {path} is no folder" in done.stdout) is (name == ".cdx")
    assert done.stderr == ""


# --- what only certain file systems give


def failing(monkeypatch: pytest.MonkeyPatch, name: str, number: int, only: Path) -> None:
    """Let a call of the system fail for one file."""
    real = getattr(os, name)

    def call(*arguments: Any, **more: Any) -> Any:
        if str(only) in map(str, arguments):
            raise OSError(number, os.strerror(number))
        return real(*arguments, **more)

    monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EROFS, errno.EACCES, errno.EPERM])
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_mount_is_written_into(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, mode: int) -> None:
    path = tmp_path / "auth.json"
    path.write_bytes(b"a longer old content")
    path.chmod(mode)
    inode = path.stat().st_ino
    failing(monkeypatch, "replace", number, path)
    identity = files.put_file(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert identity == files.file_identity(str(path))
    assert (path.stat().st_ino, path.stat().st_mode & 0o777) == (inode, 0o600)
    assert [found.name for found in tmp_path.iterdir()] == ["auth.json"]
    assert files.put_file(str(path), b"newer", unless=lambda: True) is None
    assert path.read_bytes() == b"new"


def test_what_a_link_leads_to_goes(tmp_path: Path) -> None:
    path, place = tmp_path / "auth.json", tmp_path / "place"
    place.write_text("secret")
    path.symlink_to(place)
    assert files.take_away(str(path)) is None
    assert list(tmp_path.iterdir()) == [path]
    path.unlink()
    path.symlink_to("/dev/null")
    assert files.take_away(str(path)) is None
    assert Path("/dev/null").is_char_device()
    path.mkdir()
    assert isinstance(files.take_away(str(path)), OSError)


def test_other_failures_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_bytes(b"old")
    with monkeypatch.context() as full:
        failing(full, "replace", errno.ENOSPC, path)
        with pytest.raises(OSError, match="No space"):
            files.put_file(str(path), b"new")
    # What others could read, and cannot be made private, gets no secret.
    path.chmod(0o644)
    failing(monkeypatch, "replace", errno.EBUSY, path)
    monkeypatch.setattr(os, "fchmod", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "not yours")))
    with pytest.raises(OSError, match="not yours"):
        files.put_file(str(path), b"new")
    assert path.read_bytes() == b"old"


def test_a_disk_that_fills_leaves_the_old_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_bytes(b"old")
    failing(monkeypatch, "replace", errno.EBUSY, path)
    real, left = os.pwrite, [4]

    def pwrite(descriptor: int, data: bytes, at: int) -> int:
        if at >= left[0]:
            raise OSError(errno.ENOSPC, "full")
        return real(descriptor, data[:2], at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OSError, match="full"):
        files.put_file(str(path), b"much longer")
    assert path.read_bytes() == b"old"


def test_a_mount_is_emptied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text(json.dumps(make_auth()))
    failing(monkeypatch, "unlink", errno.EBUSY, path)
    assert files.take_away(str(path)) is None
    assert LocalDocument(str(path)).document is None


def test_nothing_but_files_is_replaced(tmp_path: Path) -> None:
    """As root /dev/null would be one of the last things to replace."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, Path("/dev/null")):
        with pytest.raises(OSError, match="no file"):
            files.put_file(str(path), b"new")
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("number", "cause", "fix"),
    [
        (errno.EROFS, "its file system is read-only", "mount it writable"),
        (errno.ENOSPC, "No space left on device", "free some space"),
        (errno.EDQUOT, "Disk quota exceeded", "free some space"),
        (errno.EBUSY, "it is a mount of its own", "mount its folder instead"),
        (errno.EPERM, "Operation not permitted: it, or its folder, is marked as immutable", "sudo chattr -i "),
        (errno.EIO, "Input/output error", ""),
        (errno.EACCES, "Permission denied", ""),
    ],
)
def test_the_advice_fits_the_cause(tmp_path: Path, number: int, cause: str, fix: str) -> None:
    path = tmp_path / "auth.json"
    path.write_text("{}")
    found = trouble(str(path), OSError(number, os.strerror(number)))
    assert found[0].endswith(cause)
    assert found[1].startswith(fix)
    assert bool(found[1]) is bool(fix)


def test_what_cannot_be_written_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    assert write_trouble(str(path)) is None
    path.write_text("{}")
    assert write_trouble(str(path)) is None
    failing(monkeypatch, "open", errno.EPERM, path)
    assert "chattr -i" in str(write_trouble(str(path)))
    monkeypatch.setattr(file_trouble, "owner_name", lambda _: "somebody")
    with pytest.raises(Unreadable, match="immutable"):
        LocalDocument(str(path))
