"""Servers that share a database are upgraded one after the other; what an older one does not tolerate it says."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cdxsync
from cdxsync.store import migrations
from tests.support.engines import Engine
from tests.support.fleet import Fleet
from tests.support.several import Load, Site, site

pytestmark = [pytest.mark.every_engine, pytest.mark.slow]
NEXT = f"m{len(migrations.known()) + 1:04}_of_a_newer_version"
MORE = """STATEMENTS = (
    "ALTER TABLE hosts ADD COLUMN colour VARCHAR(32)",
    "ALTER TABLE logs ADD COLUMN weight {{bigint}} NOT NULL DEFAULT 0",
    "CREATE INDEX logs_weight ON logs (weight)",
    "CREATE TABLE extras (id {{id}}, name VARCHAR(64) NOT NULL)",
)
ADDITIVE = {additive}
"""


def newer_version(folder: Path, *, additive: bool) -> Path:
    """A copy of the program with a further migration; the folder to run it in."""
    package = Path(cdxsync.__file__).parent
    shutil.copytree(package, folder / "cdxsync", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "cdxsync" / "store" / "migrations" / f"{NEXT}.py").write_text(MORE.format(additive=additive))
    return folder


def migrate(fleet: Fleet, version: Path) -> None:
    command = [sys.executable, "-m", "cdxsync", "--home", str(fleet.home), "db", "migrate"]
    done = subprocess.run(command, cwd=version, env=fleet.env, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, f"{NEXT}\n"), done


@pytest.fixture
def pair(engine: Engine, tmp_path: Path) -> Iterator[Site]:
    # Two homes on one file of SQLite are on one machine, as with several workers.
    shared = {"CDXSYNC_DATABASE_URL": f"sqlite:///{tmp_path / 'shared.db'}"}
    with site(tmp_path, shared | engine.environment() | {"CDXSYNC_PAYLOAD_HISTORY": "10000"}) as started:
        started.start()
        yield started


def test_older_servers_go_on_with_additive_changes(pair: Site, tmp_path: Path) -> None:
    load = Load(pair, [pair.first.key(f"rolling{number}.example.net") for number in range(3)])
    older, other = pair.servers
    version = newer_version(tmp_path / "newer", additive=True)
    with load.running():
        load.wait_for(40)
        migrate(older, version)
        load.wait_for(40)
        # An older server may be started again beside it, and a newer one.
        load.kill(older)
        older.start()
        load.wait_for(20)
        load.kill(other)
        start_newer(other, version)
        load.wait_for(40)
    load.check()
    assert NEXT in [name for (name,) in older.rows("SELECT name FROM schema_migrations")]


def start_newer(fleet: Fleet, version: Path) -> None:
    fleet.env = fleet.env | {"PYTHONPATH": str(version)}
    fleet.start(program=("-P", "-m", "cdxsync"))


def test_an_older_server_refuses_other_changes(pair: Site, tmp_path: Path) -> None:
    older = pair.first
    migrate(older, newer_version(tmp_path / "newer", additive=False))
    older.stop()
    done = older.cli("serve", "--listen", f"127.0.0.1:{older.port}", check=False)
    assert done.returncode == 1
    assert f"migration {NEXT} is not additive" in done.stderr
    assert "Upgrade this one" in done.stderr
    assert "Traceback" not in done.stderr
