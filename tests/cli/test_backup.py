"""Backups of a live server, the way back, and what stands in its way."""

import contextlib
import functools
import io
import json
import os
import shutil
import sqlite3
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdxsync.base.errors import Failed, Refused
from cdxsync.ops import home_lock
from cdxsync.ops.backup import archive, encryption
from tests.support import forkserver
from tests.support.documents import make_auth, with_auths
from tests.support.fleet import BASE_ENVIRONMENT, Fleet, run_cli, running_fleet
from tests.support.together import at_once

NAMES = {"cdxsync.db", "keyring.json", "config.toml", "pki/ca.key", "pki/ca.pem", "pki/issued/alice.pem"}


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A backup of a fleet with a document, a host and a further admin; and the host's key."""
    folder = tmp_path_factory.mktemp("backup")
    home = str(folder / "home")
    run_cli("--home", home, "init", "--public-url", "https://localhost:1")
    run_cli("--home", home, "auth", "upload", "-", input=json.dumps(make_auth()))
    host = json.loads(run_cli("--home", home, "--json", "hosts", "register", "kept.example.net").stdout)["host"]
    run_cli("--home", home, "pki", "issue", "alice")
    run_cli("--home", home, "db", "backup", str(folder / "backup.zip"))
    return folder / "backup.zip", host["api_key"]


def contents(home: Path) -> dict[str, bytes]:
    """All files of a home but the lock."""
    files = [path for path in home.rglob("*") if path.is_file() and path.name != home_lock.LOCK_NAME]
    return {str(path.relative_to(home)): path.read_bytes() for path in files}


def test_a_backup_while_hosts_write(fresh_fleet: Fleet, tmp_path: Path) -> None:
    """Whatever was acknowledged before the backup began is in it, and it is whole."""
    api_keys = [fresh_fleet.key(f"host{number}.example.net") for number in range(3)]
    done = threading.Event()
    acknowledged: list[int] = []
    known_before: list[int] = []

    def host(number: int) -> None:
        with fresh_fleet.client(api_keys[number]) as client:
            while not done.is_set():
                assert client.call("POST", "/usage", json={"total": 1, "model": "m"}).status_code == 200
                acknowledged.append(number)

    def back_up() -> None:
        try:
            for turn in range(3):
                known_before.append(len(acknowledged))
                fresh_fleet.cli("db", "backup", str(tmp_path / f"{turn}.zip"))
        finally:
            done.set()

    at_once([*(functools.partial(host, number) for number in range(3)), back_up])
    for turn in range(3):
        home = tmp_path / f"restored{turn}"
        run_cli("--home", str(home), "db", "restore", str(tmp_path / f"{turn}.zip"))
        assert json.loads(run_cli("--home", str(home), "--json", "db", "check").stdout)["ok"] is True
        with contextlib.closing(sqlite3.connect(home / "cdxsync.db")) as database, database:
            rows = database.execute("SELECT count(*) FROM token_usages").fetchone()[0]
        assert known_before[turn] <= rows <= len(acknowledged)


def test_a_restored_home_serves_the_same_hosts(backup: tuple[Path, str], tmp_path: Path) -> None:
    file, api_key = backup
    assert file.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(file) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert set(archive.namelist()) == {"manifest.json", *manifest["files"]}
    assert set(manifest["files"]) >= NAMES
    assert manifest["contents"] == "full"
    assert manifest["created_at"].startswith("20")
    home = tmp_path / "new" / "home"
    data = json.loads(run_cli("--home", str(home), "--json", "db", "restore", str(file)).stdout)
    assert (data["kept"], data["created_at"]) == (None, manifest["created_at"])
    assert home.stat().st_mode & 0o777 == 0o700
    for path in home.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0
    with running_fleet(home) as fleet:
        assert fleet.canonical() == with_auths(make_auth())
        with fleet.client(api_key) as client:
            assert client.call("GET", "/wrapper").status_code == 200
        with fleet.client(certificate="alice") as client:
            assert client.call("GET", "/admin/hosts").status_code == 200
        with contextlib.closing(sqlite3.connect(home / "cdxsync.db")) as database, database:
            actions = [row[0] for row in database.execute("SELECT action FROM logs")]
        assert "admin.db.restore" in actions

        # While anything runs on the home, it is left alone.
        before = set(contents(home))
        done = fleet.cli("db", "restore", str(file), "--force", "--yes", check=False)
        assert done.returncode == 4
        assert "is in use. Stop cdxsync serve" in done.stderr
        assert set(contents(home)) == before


def test_restoring_over_a_home_keeps_what_was_there(backup: tuple[Path, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    run_cli("--home", str(home), "init")
    before = contents(home)
    for arguments, says in [([], "--force"), (["--force"], "--yes")]:
        done = run_cli("--home", str(home), "db", "restore", str(backup[0]), *arguments, check=False)
        assert done.returncode == 4
        assert says in done.stderr
        assert contents(home) == before
    command = ["--json", "db", "restore", str(backup[0]), "--force", "--yes"]
    data = json.loads(run_cli("--home", str(home), *command).stdout)
    kept = Path(data["kept"])
    assert kept.parent == home
    assert {name: content for name, content in contents(kept).items() if not name.startswith("cdxsync.db")} == {
        name: content for name, content in before.items() if not name.startswith("cdxsync.db")
    }
    shown = json.loads(run_cli("--home", str(home), "--json", "hosts", "list").stdout)
    assert [host["fqdn"] for host in shown["hosts"]] == ["kept.example.net"]


def test_backups_from_standard_input_and_encrypted(backup: tuple[Path, str], tmp_path: Path) -> None:
    import subprocess

    source = tmp_path / "source"
    run_cli("--home", str(source), "db", "restore", str(backup[0]))
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    file = tmp_path / "secret.backup"
    run_cli("--home", str(source), "db", "backup", str(file), "--password-file", str(password))
    assert make_auth()["tokens"]["refresh_token"].encode() not in file.read_bytes()
    assert b"manifest.json" not in file.read_bytes()
    home = tmp_path / "home"

    def restore(content: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = ["--home", str(home), "db", "restore", "-", *arguments]
        return forkserver.run(*command, env=BASE_ENVIRONMENT, input=content, text=False)

    good = file.read_bytes()
    assert b"is encrypted. Add --password-file" in restore(good).stderr
    (tmp_path / "wrong").write_text("battery staple")
    wrong = restore(good, "--password-file", str(tmp_path / "wrong"))
    assert (wrong.returncode, b"password is wrong" in wrong.stderr) == (4, True)
    assert not home.exists()
    assert restore(good, "--password-file", str(password)).returncode == 0
    assert run_cli("--home", str(home), "db", "check").returncode == 0
    # One that exists is not replaced by mistake.
    assert run_cli("--home", str(home), "db", "backup", str(file), check=False).returncode == 4
    assert run_cli("--home", str(home), "db", "backup", str(file), "--force").returncode == 0


def rewrite(file: Path, target: Path, **changes: Any) -> Path:
    """A copy of a backup with members replaced; `manifest` changes that."""
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(target, "w") as changed:
        members = {name: archive.read(name) for name in archive.namelist()}
        members["manifest.json"] = json.dumps(
            json.loads(members["manifest.json"]) | changes.pop("manifest", {})
        ).encode()
        for name, content in (members | changes.pop("members", {})).items():
            changed.writestr(name, content)
    return target


def test_damaged_and_foreign_backups_change_nothing(backup: tuple[Path, str], tmp_path: Path) -> None:
    file, _ = backup
    text = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        database = archive.read("cdxsync.db")
        keyring = json.loads(archive.read("keyring.json"))
    cut, none = tmp_path / "cut.zip", tmp_path / "none.zip"
    cut.write_bytes(text[: len(text) // 2])
    none.write_bytes(b"PK and nothing more")
    ring = json.dumps(keyring | {"keys": {keyring["active"]: "A" * 43 + "="}}).encode()

    def with_member(name: str, content: bytes) -> dict[str, Any]:
        import hashlib

        described = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        return {"members": {name: content}, "manifest": {"files": manifest["files"] | {name: described}}}

    newer = tmp_path / "newer.db"
    newer.write_bytes(database)
    with contextlib.closing(sqlite3.connect(newer)) as opened, opened:
        opened.execute("INSERT INTO schema_migrations (name, applied_at) VALUES ('m9999_future', '2030-01-01')")
    opened.close()
    broken = bytearray(database)
    broken[4096 * 3 : 4096 * 3 + 200] = os.urandom(200)
    cases = [
        (cut, "Not a backup of cdxsync"),
        (none, "Not a backup of cdxsync"),
        (tmp_path / "nofile", "No such file"),
        (
            rewrite(file, tmp_path / "1.zip", members={"keyring.json": b"{}"}),
            "keyring.json does not match its checksum",
        ),
        (rewrite(file, tmp_path / "2.zip", members={"config.toml": b"x" * 10000}), "config.toml does not match"),
        (rewrite(file, tmp_path / "3.zip", **with_member("../evil", b"x")), "unexpected file '../evil'"),
        (rewrite(file, tmp_path / "4.zip", **with_member("pki/../../evil", b"x")), "unexpected file 'pki/../../evil'"),
        (rewrite(file, tmp_path / "5.zip", manifest={"format": "other"}), "has the format 'other'"),
        (rewrite(file, tmp_path / "6.zip", manifest={"files": {}}), "has no database"),
        (rewrite(file, tmp_path / "7.zip", manifest={"files": 7}), "manifest cannot be read"),
        (rewrite(file, tmp_path / "8.zip", **with_member("cdxsync.db", newer.read_bytes())), "of a newer cdxsync"),
        (rewrite(file, tmp_path / "9.zip", **with_member("cdxsync.db", bytes(broken))), "database is damaged"),
        (rewrite(file, tmp_path / "10.zip", **with_member("keyring.json", ring)), "does not open the stored values"),
        (rewrite(file, tmp_path / "11.zip", **with_member("config.toml", b"public_urll = 1")), "unknown setting"),
    ]
    home = tmp_path / "home"
    run_cli("--home", str(home), "init")
    before = contents(home)
    for bad, says in cases:
        done = run_cli("--home", str(home), "db", "restore", str(bad), "--force", "--yes", check=False)
        assert done.returncode in (1, 2), bad
        assert says in done.stderr, bad
        assert "Nothing was changed" in done.stderr or says in ("No such file", "unknown setting"), bad
        assert "Traceback" not in done.stderr
        assert contents(home) == before
    assert not (tmp_path / "evil").exists()
    assert not (home.parent / "evil").exists()


def test_the_database_alone(backup: tuple[Path, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    run_cli("--home", str(home), "db", "restore", str(backup[0]))
    file = tmp_path / "database.zip"
    data = json.loads(run_cli("--home", str(home), "--json", "db", "backup", "--database-only", str(file)).stdout)
    assert data["files"] == ["cdxsync.db"]
    assert len(data["key_ids"]) == 1
    # Its keys are in the home that it comes back to, or it is refused.
    run_cli("--home", str(home), "hosts", "delete", "kept.example.net", "--yes")
    ring = (home / "keyring.json").read_bytes()
    run_cli("--home", str(home), "db", "restore", str(file), "--force", "--yes")
    assert "kept.example.net" in run_cli("--home", str(home), "hosts", "list").stdout
    assert (home / "keyring.json").read_bytes() == ring
    other = tmp_path / "other"
    done = run_cli("--home", str(other), "db", "restore", str(file), check=False)
    assert (done.returncode, "keyring is missing" in done.stderr) == (1, True)
    assert not other.exists()
    run_cli("--home", str(other), "init")
    done = run_cli("--home", str(other), "db", "restore", str(file), "--force", "--yes", check=False)
    assert done.returncode == 1
    assert f"key '{data['key_ids'][0]}'" in done.stderr


def test_a_restore_that_was_cut_off_is_seen(backup: tuple[Path, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    run_cli("--home", str(home), "init")
    with home_lock.exclusive(home) as lock:
        (home / "keyring.json").unlink()
        home_lock.replacing(lock).__enter__()
        assert "is being restored" in run_cli("--home", str(home), "hosts", "list", check=False).stderr
    for command in (["hosts", "list"], ["init"], ["serve"]):
        done = run_cli("--home", str(home), *command, check=False)
        assert done.returncode == 4
        assert "a restore was interrupted. Run it again: cdxsync db restore FILE --force" in done.stderr
    run_cli("--home", str(home), "db", "restore", str(backup[0]), "--force", "--yes")
    assert "kept.example.net" in run_cli("--home", str(home), "hosts", "list").stdout


def test_a_damaged_database_is_not_backed_up(backup: tuple[Path, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    run_cli("--home", str(home), "db", "restore", str(backup[0]))
    with (home / "cdxsync.db").open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(200))
    done = run_cli("--home", str(home), "db", "backup", str(tmp_path / "bad.zip"), check=False)
    assert done.returncode == 1
    assert "No backup was made" in done.stderr
    assert not (tmp_path / "bad.zip").exists()
    assert not list(home.glob(".backup-*"))


def test_a_database_elsewhere(backup: tuple[Path, str], tmp_path: Path) -> None:
    """The settings in the backup say where the database goes."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    home.mkdir()
    (home / "config.toml").write_text(
        f'public_url = "https://localhost:1"\ndatabase_url = "sqlite:///{elsewhere}/fleet.db"\n'
    )
    run_cli("--home", str(home), "init")
    run_cli("--home", str(home), "hosts", "register", "a.example.net")
    run_cli("--home", str(home), "db", "backup", str(tmp_path / "b.zip"))
    (elsewhere / "fleet.db").rename(elsewhere / "gone.db")
    shutil.rmtree(home)
    run_cli("--home", str(home), "db", "restore", str(tmp_path / "b.zip"))
    assert "a.example.net" in run_cli("--home", str(home), "hosts", "list").stdout
    assert (elsewhere / "fleet.db").exists()
    assert not (home / "cdxsync.db").exists()


@settings(max_examples=40)
@given(data=st.data())
def test_no_damage_to_an_archive_goes_unseen(backup: tuple[Path, str], data: st.DataObject) -> None:
    text = bytearray(backup[0].read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(text)) | st.just(len(text)))
    with tempfile.TemporaryDirectory() as bad:
        try:
            archive.extract(io.BytesIO(bytes(text[:cut])), Path(bad))
        except Failed:
            return
        # What was hit means nothing: a date, or a permission.
        with zipfile.ZipFile(backup[0]) as good:
            names = set(good.namelist()) - {"manifest.json"}
            assert contents(Path(bad)) == {name: good.read(name) for name in names}


def test_targets_that_cannot_be_written(backup: tuple[Path, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    run_cli("--home", str(home), "db", "restore", str(backup[0]))
    for target in (tmp_path / "no" / "such" / "folder.zip", Path("/proc/backup.zip")):
        done = run_cli("--home", str(home), "db", "backup", str(target), check=False)
        assert done.returncode == 1
        assert "No backup was made" in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(home.glob(".backup-*"))


CHUNK = encryption.CHUNK_BYTES


@pytest.fixture(scope="module", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """The cost of a password is for attackers; what is tested here is the same at a lower one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encryption, "_LOG2_N", 10)
        yield


def encrypted(content: bytes, password: bytes = b"pw") -> bytes:
    target = io.BytesIO()
    encryption.encrypt(io.BytesIO(content), target, password)
    return target.getvalue()


def decrypted(content: bytes, password: bytes = b"pw") -> bytes:
    target = io.BytesIO()
    encryption.decrypt(io.BytesIO(content), target, password)
    return target.getvalue()


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_what_is_encrypted_comes_back(size: int) -> None:
    content = os.urandom(size)
    assert decrypted(encrypted(content)) == content
    assert encryption.is_encrypted(io.BytesIO(encrypted(content)))
    with pytest.raises(Refused):
        decrypted(encrypted(content), b"other")


@settings(max_examples=60)
@given(st.data())
def test_no_byte_of_an_encrypted_file_can_be_changed_or_lost(data: st.DataObject) -> None:
    sealed = encrypted(b"secret" * 5)
    position = data.draw(st.integers(0, len(sealed) - 1))
    changed = bytearray(sealed)
    changed[position] ^= data.draw(st.integers(1, 255))
    if position >= len(encryption.MAGIC):  # without the magic it is not taken for an encrypted file at all
        with pytest.raises((Refused, Failed)):
            decrypted(bytes(changed))
    with pytest.raises((Refused, Failed)):
        decrypted(sealed[:position])


def test_chunks_cannot_be_dropped_or_swapped() -> None:
    sealed = encrypted(os.urandom(3 * CHUNK))
    header = len(sealed) - 3 * (CHUNK + 16)
    parts = [sealed[header + i * (CHUNK + 16) : header + (i + 1) * (CHUNK + 16)] for i in range(3)]
    for order in ([0, 1], [0, 2], [1, 0, 2], [0], [0, 1, 2, 2]):
        with pytest.raises((Refused, Failed)):
            decrypted(sealed[:header] + b"".join(parts[i] for i in order))
