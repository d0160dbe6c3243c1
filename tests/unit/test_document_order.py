"""The order of documents while time passes (docs/protocol.md 3.6 and 4.9), within this process: its clock is set."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from cdxsync.auth import canonical, exchange, history, sights
from cdxsync.background import checking, retention
from cdxsync.base import clock, settings
from cdxsync.base.clock import Instant
from cdxsync.base.errors import CdxsyncError, Invalid
from cdxsync.hosts import registry
from cdxsync.hosts.admission import Caller
from cdxsync.ops import homes
from cdxsync.security import addresses
from cdxsync.services import chatgpt
from cdxsync.store import named_values, rights
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import AuthPayload, DocumentSight, Host
from tests.support.documents import ACCESS_TOKEN, API_KEY, BEDROCK, make_auth, plain_digest
from tests.support.fleet import BASE_ENVIRONMENT

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


class World:
    """A fleet, a clock, and hosts that call."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.at = START
        self.callers: dict[str, Caller] = {}

    def now(self) -> datetime:
        return self.at

    def after(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    def dated(self, ahead: float, seed: str) -> dict[str, Any]:
        """A document of a host whose clock is so many seconds ahead."""
        return make_auth(clock.rfc3339(Instant.of(self.at + timedelta(seconds=ahead))), seed)

    def caller(self, name: str) -> Caller:
        if name not in self.callers:
            made = write(lambda: registry.mint_key(f"{name}.example.net", "test"))
            row = made.host
            write(lambda: rights.update(Host, row.id, ip="192.0.2.1"))
            address = str(addresses.parse("192.0.2.1"))
            self.callers[name] = Caller(row.id, row.fqdn, made.api_key, row.api_key_sha256, address)
        return self.callers[name]

    def _run(self, name: str, **body: Any) -> str:
        try:
            answer = exchange.run(self.fleet, self.caller(name), body, exchange.Reported("1", "1"))
        except CdxsyncError as error:
            return error.code
        return answer.status

    def store(self, document: dict[str, Any], host: str = "a", **more: Any) -> str:
        return self._run(host, command="store", auth=document, **more)

    def retrieve(self, document: dict[str, Any], host: str = "a") -> str:
        return self._run(host, last_refresh=document["last_refresh"], digest=plain_digest(document))

    def rank(self) -> datetime:
        found = write(canonical.rank)
        assert found is not None
        return datetime.fromtimestamp(found.microseconds / 1_000_000, UTC)

    def held(self) -> Any:
        """The tokens of the canonical document."""
        found = write(lambda: canonical.current(self.fleet))
        return None if found is None else dict(found[1].content["tokens"])

    def reset(self) -> None:
        """A fleet without a document, at the beginning."""
        self.at = START

        def work() -> None:
            for table in (AuthPayload, DocumentSight, Host):
                table.delete().execute()
            named_values.drop(canonical.POINTER)

        write(work)
        self.callers.clear()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    loaded = settings.load(tmp_path / "home", environ=BASE_ENVIRONMENT)
    homes.initialise(loaded)
    fleet = homes.open_fleet(loaded)
    with contextlib.closing(fleet.database), fleet.database.scope():
        made = World(fleet)
        monkeypatch.setattr(clock, "now", made.now)
        yield made


@pytest.mark.parametrize("first", ["store", "retrieve"])
def test_a_document_that_was_refused_for_its_date_does_not_win_later(world: World, first: str) -> None:
    world.store(world.dated(-100, "old"))
    ahead = world.dated(330, "ahead")
    assert (world.store if first == "store" else world.retrieve)(ahead) == "validation_failed"
    world.after(10)
    assert world.store(world.dated(0, "login"), "b") == "updated"
    world.after(26)
    assert world.retrieve(ahead) == "outdated"
    assert world.store(ahead) == "outdated"
    world.after(1000)
    assert world.store(ahead) == "outdated"
    assert world.store(world.dated(0, "next")) == "updated"


def test_one_that_was_refused_is_taken_when_nothing_came_since(world: World) -> None:
    world.store(world.dated(-100, "old"))
    ahead, seen = world.dated(330, "ahead"), world.at
    assert world.store(ahead) == "validation_failed"
    world.after(60)
    assert world.retrieve(ahead) == "upload_required"
    assert world.store(ahead) == "updated"
    assert world.rank() == seen


def test_a_host_whose_clock_is_ahead_does_not_hold_the_fleet(world: World) -> None:
    assert world.store(world.dated(200, "ahead")) == "updated"
    assert world.rank() == world.at
    for number in range(3):
        world.after(5)
        assert world.store(world.dated(0, f"right {number}"), "b") == "updated"
        assert world.retrieve(world.dated(195, "ahead")) in ("outdated", "upload_required")


def test_the_same_moment_decides_for_the_first(world: World) -> None:
    assert world.store(world.dated(10, "one")) == "updated"
    assert world.store(world.dated(20, "two"), "b") == "outdated"


def test_rows_of_older_programs_rank_by_date_and_time_of_storing(world: World) -> None:
    world.store(world.dated(-100, "one"))
    row = AuthPayload.get()
    for ahead, rank in ((-100, -100.0), (200, 0.999999)):
        instant = Instant.of(world.at + timedelta(seconds=ahead))
        changes = {"rank_us": None, "credential_sha256": None, "last_refresh_us": instant.microseconds}
        write(lambda: rights.update(AuthPayload, row.id, **changes))  # noqa: B023
        assert world.rank() == world.at + timedelta(seconds=rank)
    # Without the pointer the newest by rank counts, of both kinds of rows.
    world.after(10)
    assert world.store(world.dated(-3600, "two"), brought="login") == "updated"
    newest = write(canonical.pointed_payload)
    write(lambda: rights.update(AuthPayload, row.id, last_refresh_us=0))
    write(lambda: named_values.drop(canonical.POINTER))
    assert write(canonical.pointed_payload) == newest
    assert world.store(world.dated(-100, "one") | {"last_refresh": row.last_refresh}) == "outdated"


def test_a_clock_that_was_set_back_loses_no_login(world: World) -> None:
    world.store(world.dated(0, "one"))
    world.after(-3600)
    assert world.store(world.dated(0, "two")) == "outdated"
    assert world.store(world.dated(0, "three"), brought="login") == "updated"
    assert world.store(world.dated(0, "four"), brought="login") == "updated"
    assert world.rank() > START


def test_sights_are_bounded_and_go_when_they_do_not_count(world: World) -> None:
    world.store(world.dated(-100, "old"))
    for number in range(sights.MAX_PER_HOST):
        world.store(world.dated(400 + number, str(number)))
        world.retrieve(world.dated(400 + number, f"other {number}"))
    assert DocumentSight.select().count() == sights.MAX_PER_HOST
    world.retrieve(world.dated(400, "b"), "b")
    assert DocumentSight.select().count() == sights.MAX_PER_HOST + 1
    assert retention.prune(world.fleet.settings, world.at)["document_sights"] == 0
    world.after(500)
    assert world.store(world.dated(0, "later"), "b") == "updated"
    assert retention.prune(world.fleet.settings, world.at)["document_sights"] == sights.MAX_PER_HOST + 1


def test_a_deleted_host_leaves_what_was_seen(world: World) -> None:
    world.store(world.dated(-100, "old"), "b")
    ahead = world.dated(330, "ahead")
    world.store(ahead)
    registry.delete(world.callers["a"], actor="test", action="host.delete")
    world.after(10)
    world.store(world.dated(0, "login"), "b")
    world.after(60)
    assert world.retrieve(ahead, "b") == "outdated"


@pytest.mark.parametrize("ahead", [1.0, 250.0, 300.999])
def test_what_a_host_only_claims_neither_stops_nor_dates_what_an_admin_does(world: World, ahead: float) -> None:
    world.store(world.dated(-200, "one"))
    world.store(world.dated(-100, "two"))
    denied = world.caller("denied")
    write(lambda: rights.update(Host, denied.id, allow_store_auth=False))
    for number in range(3):
        world.after(1)
        claimed = world.dated(ahead, f"claimed {number}")
        assert world.retrieve(claimed, "denied") == "upload_required"
        assert world.store(claimed, "denied") == "store_not_permitted"
        history.rollback(world.fleet, None, actor="test")
        assert newest_date(world) == world.at
        assert world.retrieve(claimed, "denied") == "outdated"
        forced = make_auth("2020-01-01T00:00:00Z", f"forced {number}")
        assert exchange.upload(world.fleet, forced, host=None, actor="test", force=True).status == "updated"
        assert newest_date(world) == world.at + timedelta(microseconds=1)
        assert world.store(world.dated(0.5, f"login {number}"), "b", brought="login") == "updated"
        assert newest_date(world) <= world.at + timedelta(seconds=0.5)


def test_what_an_admin_does_outranks_all_that_was_taken_before(world: World) -> None:
    """Whatever the dates and the clock: also what is kept no more, and what a login has brought."""
    given = world.fleet.settings
    for ahead, clock_moves, kept in itertools.product((0.0, 300.999), (0.0, 1.0, 400.0, -3600.0), (20, 1)):
        world.reset()
        world.fleet = replace(world.fleet, settings=replace(given, payload_history=kept))
        outranks(world, ahead, clock_moves, kept=kept)


def outranks(world: World, ahead: float, clock_moves: float, *, kept: int) -> None:
    taken = [world.dated(-100, "old"), world.dated(ahead, "ahead"), world.dated(ahead, "brought")]
    assert world.store(taken[0]) == "updated"
    assert world.store(taken[1]) == "updated"
    world.after(0.5)
    assert world.store(taken[2], brought="login") == "updated"
    world.after(clock_moves)
    forced = make_auth("2020-01-01T00:00:00Z", "forced")
    assert exchange.upload(world.fleet, forced, host=None, actor="test", force=True).status == "updated"
    held = world.held()
    assert held == forced["tokens"]
    assert newest_date(world) <= world.at + timedelta(seconds=301)
    for after in (0.0, 10.0, 400.0):
        world.after(after)
        for document in taken:
            for call in (world.retrieve, world.store):
                assert call(document) in ("outdated", "validation_failed"), (ahead, clock_moves, kept, after)
            assert world.held() == held
    if kept > 1:
        history.rollback(world.fleet, None, actor="test")
        assert world.held() != held


def newest_date(world: World) -> datetime:
    """The date of the canonical document."""
    found = write(lambda: canonical.current(world.fleet))
    assert found is not None
    return datetime.fromtimestamp(found[1].instant.microseconds / 1_000_000, UTC)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(1, 400)),
        st.tuples(st.just("refreshed"), st.integers(-400, 400)),
        st.tuples(st.just("login"), st.integers(-400, 400)),
        st.tuples(st.just("again"), st.integers(0, 20)),
        st.tuples(st.just("redated"), st.integers(0, 20)),
        st.tuples(st.just("brought again"), st.integers(0, 20)),
        st.tuples(st.just("rollback"), st.just(0)),
    ),
    max_size=20,
)


@settings_of(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_whatever_happens_logins_win_and_nothing_spent_comes_back(world: World, steps: list[tuple[str, int]]) -> None:
    """Hosts with wrong clocks, copies with other dates, calls that are sent again, rollbacks, in any order."""
    world.reset()
    sent: list[dict[str, Any]] = []
    past: list[str] = []
    for number, (step, value) in enumerate(steps):
        world.after(1)
        document = world.dated(value, f"seed {number}")
        if step == "pass":
            world.after(value)
            continue
        if step == "rollback":
            with contextlib.suppress(CdxsyncError):
                history.rollback(world.fleet, None, actor="test")
                past = []  # what is rolled back to is canonical by an admin's word
        elif step in ("refreshed", "login"):
            sent.append(document)
            status = world.store(document, brought="login") if step == "login" else world.store(document)
            if step == "login":
                assert status == "updated"
                assert world.held() == document["tokens"]
            elif value == 0 and status != "updated":
                assert world.rank() >= world.at, "what is made now is taken, unless something came in this moment"
        elif sent:
            document = sent[value % len(sent)]
            if step == "redated":
                document = document | {"last_refresh": world.dated(0, "x")["last_refresh"]}
            before = world.held()
            if step == "brought again":
                world.store(document, brought="login")
            else:
                world.store(document)
            now = world.held()
            assert now == before or now["refresh_token"] not in past, "what was replaced has come back"
        now = world.held()
        if now is not None:
            assert world.rank() <= world.at
            if not past or past[-1] != now["refresh_token"]:
                past.append(now["refresh_token"])


@pytest.mark.parametrize("document", [API_KEY, ACCESS_TOKEN, BEDROCK], ids=["key", "token", "bedrock"])
def test_what_jobs_say_of_a_login_that_stays_as_it_is(world: World, document: dict[str, Any]) -> None:
    exchange.upload(world.fleet, document, host=None, actor="test")
    changed: Any = {"runner": "local", "runner_check": "quota", "chatgpt_base_url": "http://127.0.0.1:1"}
    fleet = replace(world.fleet, settings=replace(world.fleet.settings, **changed))
    read = chatgpt.read(fleet)
    assert (read.error, "has no ChatGPT quota" in read.result) == (None, True)
    checked = checking.check_canonical(fleet, "test", "test")
    assert (checked.error, "to check it by" in checked.result) == (None, True)
    with pytest.raises(Invalid) as caught:
        exchange.upload(world.fleet, document | {"last_refresh": "soon"}, host=None, actor="test")
    assert caught.value.errors.keys() == {"auth.last_refresh"}
