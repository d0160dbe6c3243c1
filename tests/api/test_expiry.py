"""What expires is gone when it expires: no job has to come round, and no file keeps it."""

import contextlib
import json
import sqlite3
import zipfile
from pathlib import Path

import pytest

from tests.support.fleet import Fleet, run_cli, running_fleet
from tests.support.together import until

SHORT = {"INSTALL_TOKEN_TTL_SECONDS": "2"}
LONG_AGO = "2026-01-01T00:00:00+00:00"


def sealed_keys(fleet: Fleet) -> list[str]:
    return [row[0] for row in fleet.rows("SELECT api_key FROM install_tokens WHERE api_key IS NOT NULL ORDER BY id")]


def runs_of_jobs(fleet: Fleet) -> dict[str, int]:
    return {job["name"]: job["runs"] for job in json.loads(fleet.cli("--json", "jobs", "list").stdout)["jobs"]}


def in_files(fleet: Fleet, text: str) -> list[str]:
    """The files of the database that have a text."""
    files = (path for path in fleet.home.iterdir() if path.name.startswith("cdxsync.db"))
    return [path.name for path in files if text.encode() in path.read_bytes()]


@pytest.mark.every_engine
def test_an_installers_key_is_wiped_when_it_expires(fresh_fleet: Fleet) -> None:
    fresh_fleet.stop()
    fresh_fleet.env |= SHORT
    fresh_fleet.start()
    until(lambda: runs_of_jobs(fresh_fleet)["retention"] == 1)  # the next one is in an hour
    registered = fresh_fleet.register("late.example.net")
    until(lambda: not sealed_keys(fresh_fleet))
    assert runs_of_jobs(fresh_fleet)["retention"] == 1
    with fresh_fleet.client() as client:
        for path in ("", "/begin"):
            answer = client.call("GET", f"/install/{registered['installer']['token']}{path}")
            assert answer.status_code == 410
            assert "installer_expired" in answer.text
    assert fresh_fleet.rows("SELECT fqdn, used_at FROM install_tokens") == [("late.example.net", None)]


def test_no_file_of_the_database_keeps_an_expired_key(fresh_fleet: Fleet) -> None:
    fresh_fleet.stop()
    fresh_fleet.env |= SHORT
    fresh_fleet.cli("hosts", "register", "late.example.net")
    (sealed,) = sealed_keys(fresh_fleet)
    assert in_files(fresh_fleet, sealed)
    fresh_fleet.start()
    until(lambda: not in_files(fresh_fleet, sealed))
    assert not sealed_keys(fresh_fleet)


def test_a_start_wipes_what_has_expired_before(fresh_fleet: Fleet) -> None:
    fresh_fleet.register("early.example.net")
    fresh_fleet.register("good.example.net")
    fresh_fleet.stop()
    with fresh_fleet.database() as execute:
        execute("UPDATE install_tokens SET expires_at = ? WHERE fqdn = 'early.example.net'", LONG_AGO)
        execute("UPDATE jobs SET next_run = '2099-01-01T00:00:00+00:00', wanted = NULL")
    early, good = sealed_keys(fresh_fleet)
    fresh_fleet.start()
    until(lambda: sealed_keys(fresh_fleet) == [good] and not in_files(fresh_fleet, early))


def test_neither_a_backup_nor_an_export_has_a_key_that_has_expired(tmp_path: Path) -> None:
    with running_fleet(tmp_path / "home") as fleet:
        for name in ("early.example.net", "good.example.net"):
            fleet.register(name)
    fleet.execute("UPDATE install_tokens SET expires_at = ? WHERE fqdn = 'early.example.net'", LONG_AGO)
    early, good = sealed_keys(fleet)
    backup, export = tmp_path / "backup.zip", tmp_path / "export.jsonl"
    run_cli("--home", str(fleet.home), "db", "backup", str(backup))
    with zipfile.ZipFile(backup) as packed:
        copy = Path(packed.extract("cdxsync.db", tmp_path / "unpacked"))
    assert early.encode() not in copy.read_bytes()
    with contextlib.closing(sqlite3.connect(copy)) as database:
        rows = database.execute("SELECT api_key FROM install_tokens ORDER BY id").fetchall()
    assert rows == [(None,), (good,)]
    run_cli("--home", str(fleet.home), "db", "export", str(export))
    assert early not in export.read_text()
    assert good in export.read_text()
