"""A home that had a database makes no other by itself: when its file is gone, and when a URL leads to an empty one."""

import shutil
from pathlib import Path

import pytest
from typer.main import get_command

from cdxsync.cli import main
from cdxsync.store.database import RESTORE
from tests.support.commands import EXAMPLES, commands, words_of
from tests.support.documents import make_auth
from tests.support.engines import Engine
from tests.support.fleet import BASE_ENVIRONMENT, Fleet, run_cli, running_fleet

MAKE_ONE = {"init", "db migrate", "db import", "db import-reference", "db restore"}
NEED_NONE = {
    "pki list",
    "pki issue",
    "pki revoke",
    "pki export",
    "pki renew",
    "wrapper cat",
    "wrapper show",
    "keys export",
    "keys list",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose database was removed."""
    home = tmp_path_factory.mktemp("lost") / "home"
    run_cli("--home", str(home), "init", "--public-url", "https://localhost:8443")
    for path in home.glob("cdxsync.db*"):
        path.unlink()
    return home


def test_there_are_words_for_each_command() -> None:
    assert set(EXAMPLES) == set(commands(get_command(main.app)))


@pytest.mark.parametrize("path", sorted(set(EXAMPLES) - MAKE_ONE))
def test_a_command_makes_no_other(home: Path, tmp_path: Path, path: str) -> None:
    copy = tmp_path / "home"
    shutil.copytree(home, copy)
    done = run_cli("--home", str(copy), *words_of(path, tmp_path), check=False, input="{}")
    assert not (copy / "cdxsync.db").exists()
    assert "Traceback" not in done.stderr
    if path not in NEED_NONE:
        assert done.returncode == 1
        assert f"{copy}/cdxsync.db is missing" in done.stdout + done.stderr
        assert RESTORE in done.stdout + done.stderr


def test_an_admin_may_want_an_empty_one(home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "home"
    shutil.copytree(home, copy)
    run_cli("--home", str(copy), "db", "migrate")
    assert run_cli("--home", str(copy), "hosts", "list").returncode == 0


@pytest.fixture
def empty(engine: Engine) -> dict[str, str]:
    """The environment of a server whose database is another, empty one."""
    return BASE_ENVIRONMENT | engine.environment()


@pytest.mark.every_engine
def test_a_url_that_leads_to_an_empty_database(tmp_path: Path, empty: dict[str, str]) -> None:
    home = tmp_path / "home"
    run_cli("--home", str(home), "init", "--public-url", "https://localhost:8443")
    if "CDXSYNC_DATABASE_URL" not in empty:
        empty["CDXSYNC_DATABASE_URL"] = "sqlite:///empty.db"
        (home / "empty.db").touch()
    for words in (["hosts", "list"], ["serve", "--listen", "127.0.0.1:0"], ["db", "check"]):
        done = run_cli("--home", str(home), *words, check=False, env=empty)
        assert done.returncode == 1
        assert "is empty, and this home had one with tables" in done.stderr
        assert RESTORE in done.stderr
    assert run_cli("--home", str(home), "db", "migrate", env=empty).returncode == 0
    assert run_cli("--home", str(home), "hosts", "list", env=empty).returncode == 0


def test_a_running_server_does_not_write_into_a_file_that_is_gone(tmp_path: Path) -> None:
    with running_fleet(tmp_path / "home") as fleet:
        key = fleet.key("web.example.net")
        kept = tmp_path / "kept.db"
        with fleet.client(key) as client:
            assert client.call("POST", "/usage", json={"total": 1}).status_code == 200
            move(fleet, kept)
            for _ in range(2):
                lost = client.call("POST", "/usage", json={"total": 2})
                assert (lost.status_code, lost.json()["code"]) == (503, "database_away")
            assert not (fleet.home / "cdxsync.db").exists()
            shutil.move(kept, fleet.home / "cdxsync.db")
            assert client.call("POST", "/usage", json={"total": 4}).status_code == 200
        assert [row["total"] for row in fleet.usages()] == [1, 4]
        fleet.upload(make_auth())


def move(fleet: Fleet, to: Path) -> None:
    """Take the database's file away, with all that was committed."""
    fleet.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.move(fleet.home / "cdxsync.db", to)
    for path in fleet.home.glob("cdxsync.db-*"):
        path.unlink()
