"""Taking over the reference implementation's database while it runs: the same as from a dump of it."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymysql.constants import CLIENT

from cdxsync.store.engines import mysql_url
from tests.support import DATA
from tests.support import reference_dump as old
from tests.support.fleet import run_cli

DUMP = DATA / "reference.sql"
servers = pytest.importorskip("tests.support.database_servers")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of a database as the reference implementation has it."""
    try:
        server = servers.MariaDb()
    except servers.NotInstalled as missing:
        pytest.skip(str(missing))
    made: str = server.fresh()
    with contextlib.closing(mysql_url.read(made).connect(client_flag=CLIENT.MULTI_STATEMENTS)) as connection:
        cursor = connection.execute(DUMP.read_text())
        while cursor.nextset():
            pass
    yield made
    server.stop()


def test_a_running_database_gives_what_its_dump_gives(url: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(old.KEY_TEXT)
    (tmp_path / "url").write_text(url + "\n")
    found: list[dict[str, Any]] = []
    for name, source in (("dump", [str(DUMP)]), ("live", ["--url-file", str(tmp_path / "url")])):
        key = ("--encryption-key-file", str(tmp_path / "key"))
        done = run_cli("--home", str(tmp_path / name), "--json", "db", "import-reference", *source, *key)
        found.append(json.loads(done.stdout))
        assert run_cli("--home", str(tmp_path / name), "db", "check").returncode == 0
    for data in found:
        for entry in data["skipped"]:
            entry.pop("examples")  # they name lines, which only a dump has
    assert found[0] == found[1]
    assert found[0]["imported"]["hosts"] == 2


def test_a_url_is_never_an_argument(tmp_path: Path) -> None:
    done = run_cli("--home", str(tmp_path), "db", "import-reference", "mysql://cdx:t0p-5ecret@db/fleet", check=False)
    assert done.returncode == 2
    assert "--url-file" in done.stderr
    assert "t0p-5ecret" not in done.stderr


def test_a_database_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("mysql://cdx:t0p-5ecret@127.0.0.1:1/fleet\n")
    home = str(tmp_path / "home")
    done = run_cli("--home", home, "db", "import-reference", "--url-file", str(tmp_path / "url"), check=False)
    assert done.returncode == 1
    assert "mysql://cdx@127.0.0.1:1/fleet" in done.stderr
    assert "t0p-5ecret" not in done.stderr
