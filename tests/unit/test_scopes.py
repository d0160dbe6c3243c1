"""Several databases in one process: each is used within its own scope, and none sees what is in another."""

import contextlib
import functools
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdxsync.base import settings
from cdxsync.base.errors import DatabaseAway
from cdxsync.hosts import registry
from cdxsync.ops import homes
from cdxsync.store import named_values
from cdxsync.store.caches import GenerationCache, TimedCache
from cdxsync.store.database import Database, current, snapshot, write
from cdxsync.store.fleet import Fleet
from cdxsync.store.scope import NoScope
from cdxsync.store.tables import Host
from tests.support.together import at_once


def opened(home: Path) -> Fleet:
    given = settings.load(home, environ={})
    homes.initialise(given)
    return homes.open_fleet(given)


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Fleet]]:
    with contextlib.ExitStack() as stack:
        both = opened(tmp_path_factory.mktemp("one")), opened(tmp_path_factory.mktemp("two"))
        for fleet in both:
            stack.callback(fleet.database.close)
        yield both


def put(name: str, value: str) -> None:
    write(lambda: named_values.put(name, value))


def test_outside_of_every_scope_tables_are_refused(fleets: tuple[Fleet, Fleet]) -> None:
    def refused() -> None:
        with pytest.raises(NoScope, match="Enter the scope"):
            Host.select().count()
        with pytest.raises(NoScope):
            write(lambda: None)
        with pytest.raises(NoScope), snapshot():
            pass

    refused()
    with fleets[0].database.scope():
        assert Host.select().count() == 0
        thread = threading.Thread(target=refused)  # has no scope of its own
        thread.start()
        thread.join()
    refused()


def test_scopes_lie_within_each_other(fleets: tuple[Fleet, Fleet]) -> None:
    one, two = (fleet.database for fleet in fleets)
    with one.scope():
        put("nested", "one")
        with two.scope():
            assert named_values.get("nested") is None
            put("nested", "two")
            with one.scope():
                assert named_values.get("nested") == "one"
            assert current() is two
        assert current() is one
        assert named_values.get("nested") == "one"


def test_threads_on_two_databases_do_not_meet(fleets: tuple[Fleet, Fleet]) -> None:
    timed = TimedCache(lambda: named_values.get("whose"), seconds=60)
    generation = GenerationCache(lambda: named_values.get("whose"))
    for number, fleet in enumerate(fleets):
        with fleet.database.scope():
            put("whose", str(number))

    def use(number: int, thread: int) -> None:
        fleet = fleets[number]
        with fleet.database.scope():
            for turn in range(20):
                name = f"h{number}-{thread}-{turn}.example.net"
                host = write(functools.partial(registry.mint_key, name, "test")).host
                assert registry.find(name).id == host.id
                assert timed.get() == str(number)
                assert write(generation.get) == str(number)
        fleet.database.disconnect()

    at_once([functools.partial(use, number, thread) for number in (0, 1) for thread in range(4)])
    for number, fleet in enumerate(fleets):
        with fleet.database.scope():
            found = registry.names("")
            assert len(found) == 80
            assert all(name.startswith(f"h{number}-") for name in found)


def test_errors_of_the_driver_are_told_at_the_end_of_the_scope(tmp_path: Path) -> None:
    database = Database.open("", tmp_path, make=True)
    with pytest.raises(DatabaseAway, match="cannot be used now: disk I/O error"), database.scope():
        raise sqlite3.OperationalError("disk I/O error")
    database.close()
