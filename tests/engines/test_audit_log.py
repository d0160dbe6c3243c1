"""The audit log's chain: what others do to rows shows, and what the server does with them does not."""

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cdxsync.background import retention
from cdxsync.base import clock, settings
from cdxsync.hosts import registry
from cdxsync.ops import audit_log, homes, keys
from cdxsync.store import audit, audit_chain, database
from cdxsync.store.database import current, write
from cdxsync.store.fleet import Fleet
from cdxsync.store.schemas import LogProblem
from cdxsync.store.tables import LogCheckpoint, LogEntry, proxy
from tests.support.engines import Engine
from tests.support.fleet import BASE_ENVIRONMENT

pytestmark = pytest.mark.every_engine


def opened_at(home: Path, env: dict[str, str]) -> Fleet:
    given = settings.load(home, environ=BASE_ENVIRONMENT | env)
    if not homes.is_initialised(home):
        homes.initialise(given)
    return homes.open_fleet(given)


@pytest.fixture
def opened(tmp_path: Path, engine: Engine) -> Iterator[Fleet]:
    """A fleet within this process, with a host and ten rows."""
    fleet = opened_at(tmp_path / "home", engine.environment())
    with contextlib.closing(fleet.database), fleet.database.scope():
        host = write(lambda: registry.mint_key("web.example.net", "test")).host
        add(9, host)
        yield fleet


def add(count: int, host: Any = None) -> None:
    def work() -> None:
        for number in range(count):
            audit.record("test.row", actor="tester", host=host, number=number, text="ä\0\n“")

    write(work)


def run(statement: str, *values: object) -> None:
    """As who writes the database does it: by SQL of their own."""

    def work() -> None:
        proxy.execute_sql(statement.replace("?", current().peewee.param), values)
        database.outdate()  # as the writer finds when others have written

    write(work)


def problems(fleet: Fleet) -> list[tuple[str, int | None]]:
    found = audit_log.verify(fleet)
    assert found.ok is (not found.problems)
    return [(problem.kind, problem.id) for problem in found.problems]


def test_what_the_server_writes_is_in_the_chain(opened: Fleet) -> None:
    found = audit_log.verify(opened)
    assert (found.ok, found.checked, found.before, found.problems) == (True, 10, 0, [])
    assert [row.seq for row in LogEntry.select().order_by(LogEntry.id)] == list(range(1, 11))

    def fail() -> None:
        audit.record("test.lost", actor="tester")
        raise ZeroDivisionError

    # Work that fails leaves no gap.
    with pytest.raises(ZeroDivisionError):
        write(fail)
    add(1)
    registry.delete(registry.find("web.example.net"), actor="test", action="host.delete")  # its rows lose their host
    assert LogEntry.select().where(LogEntry.host.is_null(False)).count() == 0
    found = audit_log.verify(opened)
    assert (found.ok, found.checked) == (True, 12)
    assert json.loads(Path(str(opened.database.witness)).read_text())["seq"] == 12
    assert Path(str(opened.database.witness)).stat().st_mode & 0o777 == 0o600


CHANGES = {
    "actor": "UPDATE logs SET actor = 'somebody' WHERE id = 5",
    "action": "UPDATE logs SET action = 'test.other' WHERE id = 5",
    "details": "UPDATE logs SET details = NULL WHERE id = 5",
    "moment": "UPDATE logs SET created_at = '2020-01-01T00:00:00+00:00' WHERE id = 5",
    "address": "UPDATE logs SET ip = '192.0.2.1' WHERE id = 5",
    "request": "UPDATE logs SET request_id = 'abc' WHERE id = 5",
    "host taken out": "UPDATE logs SET host_id = NULL WHERE id = 5",
    "host and its copy": "UPDATE logs SET host_id = NULL, host_ref = NULL WHERE id = 5",
    "MAC": "UPDATE logs SET mac = NULL WHERE id = 5",
    "MAC of a row": "UPDATE logs SET mac = (SELECT mac FROM (SELECT mac FROM logs WHERE id = 4) AS x) WHERE id = 5",
    "hash": "UPDATE logs SET hash = '00' WHERE id = 5",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_row_that_was_changed_is_named(opened: Fleet, name: str) -> None:
    run(CHANGES[name])
    assert problems(opened) == [("changed", 5)]
    add(1)
    assert problems(opened) == [("changed", 5)]


def test_rows_that_were_removed_are_told(opened: Fleet) -> None:
    run("DELETE FROM logs WHERE id IN (4, 5)")
    assert problems(opened) == [("removed", 6)]
    assert audit_log.verify(opened).problems[0].problem == "2 rows were removed before row 6"
    run("DELETE FROM logs WHERE id = 1")
    assert problems(opened) == [("removed", 2), ("removed", 6)]


def test_rows_that_were_removed_at_the_end_are_told_also_when_the_server_goes_on(opened: Fleet) -> None:
    run("DELETE FROM logs WHERE id > 7")
    assert problems(opened) == [("removed", None)]
    add(2)  # as a server that runs
    newest = LogEntry.select().order_by(LogEntry.id.desc()).first()
    assert newest.seq == 12
    assert problems(opened) == [("removed", newest.id - 1)]
    # And so does one that was started afterwards, from what the home knows.
    run("DELETE FROM logs WHERE id > 6")
    audit_chain._progress.clear()
    add(1)
    assert [kind for kind, _ in problems(opened)] == ["removed"]
    run("DELETE FROM logs")
    assert problems(opened) == [("removed", None)]


def test_rows_that_were_added_are_told(opened: Fleet) -> None:
    columns = "actor, action, created_at"
    run(f"INSERT INTO logs ({columns}) VALUES ('host:web.example.net', 'auth.retrieve', '2026-01-01T00:00:00+00:00')")
    assert problems(opened) == [("unsealed", 11)]
    run("DELETE FROM logs WHERE id = 11")
    more = f"{columns}, details, host_id, host_ref, seq, hash, mac"
    run(f"INSERT INTO logs ({more}) SELECT {more} FROM logs WHERE id = 3")
    assert [kind for kind, _ in problems(opened)] == ["added"]
    # The server does not go on after rows of others, whatever their number.
    run("DELETE FROM logs WHERE id > 10")
    run(
        f"INSERT INTO logs ({more}) SELECT {columns}, details, host_id, host_ref, 900, hash, mac FROM logs WHERE id = 3"
    )
    [(kind, forged)] = problems(opened)
    assert kind == "added"
    audit_chain._progress.clear()
    add(1)
    assert LogEntry.select().order_by(LogEntry.id.desc()).first().seq == 11
    assert problems(opened) == [("added", forged)]


def test_a_chain_made_without_the_keyring_is_none(opened: Fleet) -> None:
    """All hashes fit, as who has read the program can make them; the MACs do not."""
    rows: list[Any] = list(LogEntry.select().order_by(LogEntry.seq))
    link = rows[3].hash
    rows[4].actor = "somebody"
    for row in rows[4:]:
        values = tuple(getattr(row, name) for name in audit_chain.COVERED)
        link = audit_chain.hash_after(link, audit_chain.content_of(row.seq, row.host_ref, values))
        run("UPDATE logs SET actor = ?, hash = ? WHERE id = ?", row.actor, link, row.id)
    assert problems(opened)[0] == ("changed", 5)
    audit_chain._progress.clear()
    add(1)
    found = problems(opened)
    assert found[0] == ("changed", 5)
    assert found[-1] != ("changed", 11)


def test_the_beginning_of_the_chain_cannot_be_moved(opened: Fleet) -> None:
    run("UPDATE log_checkpoints SET seq = 5")
    assert problems(opened)[0][0] == "checkpoint"
    run("DELETE FROM log_checkpoints")
    assert problems(opened)[0][0] == "checkpoint"
    # Nor does a chain begin once more where there was one.
    run("UPDATE logs SET seq = NULL, hash = NULL, mac = NULL")
    add(1)
    assert not audit_log.verify(opened).ok
    audit_chain._progress.clear()
    add(1)
    assert not audit_log.verify(opened).ok


def test_old_rows_go_and_the_chain_begins_after_them(opened: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    before = clock.now()
    later = before + timedelta(days=100)
    monkeypatch.setattr(clock, "now", lambda: later)
    add(3)
    assert retention.prune(opened.settings, later)["logs"] == 10
    found = audit_log.verify(opened)
    assert (found.ok, found.checked) == (True, 3)
    assert retention.prune(opened.settings, later + timedelta(days=100))["logs"] == 3
    add(1)
    found = audit_log.verify(opened)
    assert (found.ok, found.checked) == (True, 1)
    run("DELETE FROM logs")
    assert problems(opened) == [("removed", None)]


def test_a_wrong_clock_deletes_nothing_and_keeps_nothing(opened: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    at = clock.now()
    for days in (-20_000, 20_000):
        monkeypatch.setattr(clock, "now", lambda days=days: at + timedelta(days=days))
        add(1)
    monkeypatch.setattr(clock, "now", lambda: at)
    add(1)
    assert retention.prune(opened.settings, at)["logs"] == 0
    assert audit_log.verify(opened).checked == 13
    monkeypatch.setattr(clock, "now", lambda: at + timedelta(days=100))
    add(1)
    assert retention.prune(opened.settings, at + timedelta(days=100))["logs"] == 13
    assert audit_log.verify(opened).ok


def test_rows_of_a_retired_key_are_proven_by_later_ones(opened: Fleet) -> None:
    old = opened.keyring.content().active
    keys.rotate(opened, actor="test", on_progress=lambda done, total: None)
    keys.retire(opened, old, actor="test")
    found = audit_log.verify(opened)
    assert (found.ok, found.checked) == (True, 13)
    assert audit_log.verify(opened, newest=5).ok
    run("UPDATE logs SET actor = 'somebody' WHERE id = 5")
    assert problems(opened) == [("changed", 5)]


def test_rows_that_were_there_before_are_counted(opened: Fleet) -> None:
    """As after an upgrade: none of them is in a chain, and the home knows of none."""
    run("UPDATE logs SET seq = NULL, hash = NULL, mac = NULL, host_ref = NULL")
    run("DELETE FROM log_checkpoints")
    audit_chain.forget(opened.database)
    assert audit_log.verify(opened).ok
    add(2)
    found = audit_log.verify(opened)
    assert (found.ok, found.checked, found.before) == (True, 2, 10)
    # One of an older server beside this one.
    run("INSERT INTO logs (actor, action, created_at) VALUES ('server', 'auth.validate', '2026-01-01T00:00:00+00:00')")
    assert [problem[0] for problem in problems(opened)] == ["unsealed"]
    accepted = audit_log.accept(opened, actor="test")
    assert (accepted.ok, accepted.checked, accepted.before) == (True, 1, 13)
    row = LogEntry.select().order_by(LogEntry.id.desc()).first()
    assert (row.action, json.loads(row.details)["problems"]) == ("admin.logs.accept", 1)
    # Among the older ones, too, none can be added.
    run("DELETE FROM logs WHERE id = 3")
    assert audit_log.verify(opened).ok
    run("INSERT INTO logs (id, actor, action, created_at) VALUES (3, 'x', 'y', '2026-01-01T00:00:00+00:00')")
    assert audit_log.verify(opened).ok  # they are not checked, but counted
    run("UPDATE logs SET seq = NULL, id = 0 - id WHERE id = ?", row.id)
    assert not audit_log.verify(opened).ok


def test_many_problems_are_listed_up_to_a_number(opened: Fleet) -> None:
    add(40)
    run("UPDATE logs SET actor = 'somebody'")
    found = audit_log.verify(opened)
    assert (len(found.problems), found.more, found.checked) == (20, 30, 0)
    assert found.problems[0] == LogProblem(kind="changed", id=1, seq=1, problem="row 1 was changed")


def test_servers_without_the_keyring_write_rows_outside_of_the_chain(opened: Fleet) -> None:
    find: Callable[[], Any] | None = None
    opened.database.__dict__.pop("keyring", None)
    opened.database.find_keyring = find
    add(1)
    assert problems(opened) == [("unsealed", 11)]
    assert LogCheckpoint.select().count() == 1
