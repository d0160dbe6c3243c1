"""Signing keys of a home: made once, changed by commands, moved with the home, and never replaced in silence."""

import json
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cdxsync.security import signing
from cdxsync.security.signing import Content
from tests.support.fleet import Fleet, run_cli

PUBLIC_URL = "https://localhost:1"


def initialised(home: Path) -> Path:
    run_cli("--home", str(home), "init", "--public-url", PUBLIC_URL)
    return home / "signing.json"


def content(path: Path) -> Content:
    found = signing.read(path)
    assert found is not None
    return found


def finding(fleet: Fleet) -> dict[str, Any]:
    checks = json.loads(fleet.cli("--json", "doctor", check=False).stdout)["checks"]
    found: dict[str, Any] = next(check for check in checks if check["check"] == "signing")
    return found


def rotated(fleet: Fleet, *options: str) -> str:
    return str(json.loads(fleet.cli("--json", "keys", "signing", "rotate", *options).stdout)["id"])


def test_the_life_of_a_key(tmp_path: Path) -> None:
    path = initialised(tmp_path / "home")
    fleet = Fleet(tmp_path / "home")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (first,) = content(path).ids
    only = fleet.cli("keys", "signing", "retire", first, "--yes", check=False)
    assert (only.returncode, "is the only one" in only.stderr) == (4, True)
    second = rotated(fleet)
    assert content(path).ids == [first, second]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listed = fleet.cli("--json", "keys", "signing", "list").stdout
    assert [key["id"] for key in json.loads(listed)["keys"]] == [first, second]
    assert "PRIVATE" not in listed
    assert "modulus" not in listed
    fleet.cli("hosts", "register", "new.example.net")
    asked = fleet.cli("keys", "signing", "retire", first, input="no\n", check=False)
    assert asked.returncode != 0
    assert "1 hosts have not called since the newest one was made: new.example.net" in asked.stdout + asked.stderr
    assert content(path).ids == [first, second]
    fleet.cli("keys", "signing", "retire", first, "--yes")
    assert content(path).ids == [second]
    assert fleet.cli("keys", "signing", "retire", first, "--yes", check=False).returncode == 3
    audited = {entry["action"]: entry["details"] for entry in json.loads(fleet.cli("--json", "logs").stdout)["logs"]}
    assert first in audited["admin.keys.signing_retire"]
    assert second in audited["admin.keys.signing_rotate"]
    assert "PRIVATE" not in json.dumps(audited)


def test_the_first_start_of_an_older_home_makes_the_key(tmp_path: Path) -> None:
    path = initialised(tmp_path / "home")
    path.unlink()
    fleet = Fleet(tmp_path / "home")
    assert finding(fleet)["level"] == "warn"
    fleet.start()
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert finding(fleet)["level"] == "ok"
        with fleet.client(fleet.key("a.example.net")) as client:
            assert client.call("GET", "/wrapper/download").headers[signing.HEADER].startswith(content(path).ids[0])
            assert client.call("GET", "/slash-commands").json()["data"]["sequence"] > 0
    finally:
        fleet.stop()


def test_lost_keys_are_not_replaced_in_silence(fresh_fleet: Fleet) -> None:
    path = fresh_fleet.home / "signing.json"
    known = content(path)
    fresh_fleet.stop()
    path.unlink()
    fresh_fleet.start()
    fresh_fleet.wait_for("the home lacks the keys that the fleet's hosts know")
    assert not path.exists()
    assert finding(fresh_fleet)["level"] == "fail"
    with fresh_fleet.client(fresh_fleet.key("a.example.net")) as client:
        assert signing.HEADER not in client.call("GET", "/wrapper/download").headers
        assert set(client.call("GET", "/slash-commands").json()["data"]) == {"commands"}
    refused = fresh_fleet.cli("--json", "keys", "signing", "rotate", check=False)
    assert (refused.returncode, json.loads(refused.stderr)["code"]) == (4, "signing_keys_lost")
    assert not path.exists()
    # Another key than the fleet's is not signed with in silence either.
    signing.write(path, signing.first())
    assert finding(fresh_fleet)["level"] == "fail"
    signing.write(path, known)
    assert finding(fresh_fleet)["level"] == "ok"
    path.unlink()
    new = rotated(fresh_fleet, "--lost")
    assert content(path).ids == [new]
    assert content(path).changed > known.changed
    assert finding(fresh_fleet)["level"] == "ok"


@pytest.mark.every_engine
@pytest.mark.servers_only
def test_a_second_server_makes_no_key_of_its_own(fresh_fleet: Fleet, tmp_path: Path) -> None:
    second = Fleet(tmp_path / "second", env=fresh_fleet.env)
    second.home.mkdir(mode=0o700)
    for name in ("config.toml", "keyring.json"):
        shutil.copy2(fresh_fleet.home / name, second.home / name)
    shutil.copytree(fresh_fleet.home / "pki", second.home / "pki")
    second.start()
    try:
        second.wait_for("the home lacks the keys that the fleet's hosts know")
        assert not (second.home / "signing.json").exists()
        shutil.copy2(fresh_fleet.home / "signing.json", second.home / "signing.json")
        assert finding(second)["level"] == "ok"
        rotated(fresh_fleet)
        assert "changed on another server" in finding(second)["text"]
    finally:
        second.stop()


def test_a_backup_has_the_keys_and_keeps_newer_ones(tmp_path: Path) -> None:
    path = initialised(tmp_path / "home")
    fleet = Fleet(tmp_path / "home")
    (first,) = content(path).ids
    fleet.cli("db", "backup", str(tmp_path / "backup.zip"))
    with zipfile.ZipFile(tmp_path / "backup.zip") as archive:
        assert archive.read("signing.json") == path.read_bytes()
    second = rotated(fleet)
    fleet.cli("keys", "signing", "retire", first, "--yes")
    newer = content(path)
    fleet.cli("db", "restore", str(tmp_path / "backup.zip"), "--force", "--yes")
    assert content(path).ids == [first, second]
    assert content(path).changed > newer.changed
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    run_cli("--home", str(tmp_path / "empty"), "db", "restore", str(tmp_path / "backup.zip"))
    assert content(tmp_path / "empty" / "signing.json").ids == [first]
    # One from before signatures leaves the home's keys as they are.
    with zipfile.ZipFile(tmp_path / "backup.zip") as archive, zipfile.ZipFile(tmp_path / "old.zip", "w") as old:
        manifest = json.loads(archive.read("manifest.json"))
        del manifest["files"]["signing.json"]
        old.writestr("manifest.json", json.dumps(manifest))
        for name in manifest["files"]:
            old.writestr(name, archive.read(name))
    before = content(path)
    fleet.cli("db", "restore", str(tmp_path / "old.zip"), "--force", "--yes")
    assert content(path) == before


def test_a_restored_list_of_prompts_is_newer_than_any(tmp_path: Path) -> None:
    initialised(tmp_path / "home")
    fleet = Fleet(tmp_path / "home")
    (tmp_path / "a.md").write_text("a")
    fleet.cli("prompts", "store", str(tmp_path / "a.md"))
    fleet.cli("db", "backup", str(tmp_path / "backup.zip"))
    fleet.cli("prompts", "delete", "a.md", "--yes")
    statement = "SELECT version FROM versions WHERE name = 'prompts_revision'"
    ((before,),) = fleet.rows(statement)
    fleet.cli("db", "restore", str(tmp_path / "backup.zip"), "--force", "--yes")
    ((after,),) = fleet.rows(statement)
    assert int(after.partition("-")[0]) > int(before.partition("-")[0])


def test_an_export_with_the_keyring_has_the_keys(tmp_path: Path) -> None:
    path = initialised(tmp_path / "home")
    fleet = Fleet(tmp_path / "home")
    fleet.cli("db", "export", str(tmp_path / "fleet.jsonl"), "--with-keyring")
    fleet.cli("db", "export", str(tmp_path / "plain.jsonl"))
    assert "PRIVATE KEY" not in (tmp_path / "plain.jsonl").read_text()
    run_cli("--home", str(tmp_path / "new"), "db", "import", str(tmp_path / "fleet.jsonl"))
    assert content(tmp_path / "new" / "signing.json") == content(path)
    initialised(tmp_path / "other")
    signing.write(tmp_path / "other" / "signing.json", signing.first())
    mine = content(tmp_path / "other" / "signing.json").ids
    run_cli("--home", str(tmp_path / "other"), "db", "import", str(tmp_path / "fleet.jsonl"))
    assert sorted(content(tmp_path / "other" / "signing.json").ids) == sorted({*mine, *content(path).ids})


def test_an_older_servers_change_of_prompts_gets_a_sequence(fresh_fleet: Fleet) -> None:
    with fresh_fleet.client(fresh_fleet.key("a.example.net")) as client:
        first = client.call("GET", "/slash-commands")
        assert client.call("GET", "/slash-commands").json()["data"] == first.json()["data"]
        fresh_fleet.execute("UPDATE versions SET version = 'f00dfeedf00dfeed' WHERE name = 'prompts_revision'")
        second = client.call("GET", "/slash-commands", headers={"If-None-Match": first.headers["ETag"]})
        assert second.json()["data"]["sequence"] > first.json()["data"]["sequence"]
        assert client.call("HEAD", "/slash-commands").headers["ETag"] == second.headers["ETag"]
