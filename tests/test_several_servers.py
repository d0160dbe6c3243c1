"""Several servers on one database, behind a balancer: no matter which of them, or the database, is killed when.

`FAULT_ROUNDS` says how often something is killed; a release is worth 50.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Fleet
from engines import DatabaseServer, MariaDb, Postgres
from several import Load, Site, site

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "6"))
HOSTS = 4
ALL_DOCUMENTS = {"CDXSYNC_PAYLOAD_HISTORY": "10000"}


@pytest.fixture(scope="module", params=[Postgres, MariaDb], ids=["postgres", "mariadb"])
def killable(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """A database server for these tests alone, which waits for the disk."""
    server = request.param(durable=True)
    yield server
    server.stop()


@pytest.fixture
def pair(killable: DatabaseServer, tmp_path: Path) -> Iterator[Site]:
    """Two servers that run on a fresh database."""
    with site(tmp_path, {"CDXSYNC_DATABASE_URL": killable.fresh()} | ALL_DOCUMENTS) as started:
        started.start()
        yield started


def load_on(several: Site) -> Load:
    return Load(several, [several.first.key(f"load{number}.example.net") for number in range(HOSTS)])


def test_nothing_acknowledged_is_lost_whatever_is_killed(pair: Site, killable: DatabaseServer) -> None:
    load = load_on(pair)
    kinds = ["first", "second", "database", "both", "all"]
    with load.running():
        for turn in range(ROUNDS):
            load.wait_for(random.randint(10, 60))
            kind = kinds[turn % len(kinds)]
            dead: list[Fleet] = []
            if kind in ("first", "both", "all"):
                dead.append(pair.servers[0])
            if kind in ("second", "both", "all"):
                dead.append(pair.servers[1])
            for server in dead:
                load.kill(server)
            if kind in ("database", "all"):
                killable.kill()
                killable.start()
            elif kind in ("first", "second"):
                load.wait_for(10)  # the other one serves
            for server in dead:
                server.start()
        load.wait_for(40)
    load.check()
    assert load.server_kills > 0
