"""The scheduler: jobs that throw or hang stop nobody, and a lease is one process's alone."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdxsync.base import settings
from cdxsync.jobs import lease, scheduler
from cdxsync.jobs.schedule import Outcome, Spec
from cdxsync.ops import homes
from cdxsync.store import database
from cdxsync.store.fleet import Fleet
from tests.support.fleet import BASE_ENVIRONMENT
from tests.support.together import at_once, until

Work = Callable[[Fleet, str, str], Outcome]


def jobs_of(works: dict[str, Work]) -> tuple[Spec, ...]:
    """A job for each of `works`, by name; the one that hangs may take a second."""
    return tuple(Spec(name, "", 3600, 1 if name == "hangs" else 60, run) for name, run in works.items())


def scheduler_of(fleet: Fleet, specs: tuple[Spec, ...]) -> scheduler.Scheduler:
    return scheduler.Scheduler(fleet, lambda settings: specs, lambda fleet: None)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet within this process."""
    given = settings.load(tmp_path / "home", environ=BASE_ENVIRONMENT)
    homes.initialise(given)
    fleet = homes.open_fleet(given)
    with contextlib.closing(fleet.database), fleet.database.scope():
        yield fleet


def all_came_back() -> bool:
    """Whether no thread hangs any more."""
    return not any(thread.name == "job hangs" for thread in threading.enumerate())


def test_jobs_that_hang_or_throw_stop_nobody(opened: Fleet) -> None:
    go_on = threading.Event()
    came_back = threading.Event()
    ran = []

    def hangs(fleet: Fleet, cause: str, owner: str) -> Outcome:
        go_on.wait(60)
        came_back.set()
        return Outcome("too late")

    def throws(fleet: Fleet, cause: str, owner: str) -> Outcome:
        raise ZeroDivisionError("with a secret in it")

    def works(fleet: Fleet, cause: str, owner: str) -> Outcome:
        ran.append(cause)
        return Outcome("done")

    specs = jobs_of({"hangs": hangs, "throws": throws, "works": works})
    jobs = scheduler_of(opened, specs)
    jobs.start()
    try:
        until(lambda: lease.row_of("hangs").last_error)
        until(lambda: lease.row_of("throws").last_error and lease.row_of("works").runs)
        assert lease.row_of("hangs").last_error == "did not end within 1 s"
        assert lease.row_of("throws").last_error == "unexpected error; see the server's log"
        lease.request(specs[2], actor="me")
        until(lambda: lease.row_of("works").runs == 2)
        assert ran == ["scheduled", "manual"]
        go_on.set()
        assert came_back.wait(60)
        until(all_came_back)
        row = lease.row_of("hangs")
        assert (row.last_result, row.runs, row.failures) == ("given up", 1, 1)
        assert row.next_run is not None
        assert row.next_run > str(row.last_finished_at)
    finally:
        go_on.set()
        until(all_came_back)
        jobs.stop()


def test_threads_that_hang_do_not_pile_up(opened: Fleet) -> None:
    go_on = threading.Event()
    begun = []

    def hangs(fleet: Fleet, cause: str, owner: str) -> Outcome:
        begun.append(owner)
        go_on.wait(60)
        return Outcome("too late")

    specs = jobs_of({"hangs": hangs, "works": lambda *given: Outcome("done")})
    jobs = scheduler_of(opened, specs)
    jobs.start()
    try:
        for number in range(1, scheduler.MAX_GIVEN_UP + 1):
            until(lambda number=number: lease.row_of("hangs").runs == number)  # type: ignore[misc]
            lease.request(specs[0], actor="me")
        before = lease.request(specs[1], actor="me")
        until(lambda: lease.finished_since("works", before))
        assert len(begun) == scheduler.MAX_GIVEN_UP
    finally:
        go_on.set()
        until(all_came_back)
        jobs.stop()


def test_of_many_one_gets_the_lease(opened: Fleet) -> None:
    spec = jobs_of({"works": lambda *given: Outcome("done")})[0]
    owners = [f"owner {number}" for number in range(20)]
    won = []

    def claim(owner: str) -> None:
        if lease.claim(spec, owner) is not None:
            won.append(owner)
        database.current().disconnect()

    at_once([lambda owner=owner: claim(owner) for owner in owners])  # type: ignore[misc]
    assert len(won) == 1
    assert lease.row_of(spec.name).owner == won[0]
    assert lease.finish(spec, "another", Outcome("x"), 1.0) is None
    assert lease.finish(spec, won[0], Outcome("x"), 1.0) is not None
    assert lease.claim(spec, "later") is None
    assert lease.claim(spec, "admin", even_if_not_due=True) is not None


def test_a_run_that_is_asked_for_meanwhile_follows(opened: Fleet) -> None:
    """As for a document that is stored while the one before it is checked."""
    spec = jobs_of({"works": lambda *given: Outcome("done")})[0]
    assert lease.claim(spec, "first") is not None
    database.write(lambda: lease.mark(spec.name, "new_document"))
    lease.finish(spec, "first", Outcome("x"), 1.0)
    again = lease.claim(spec, "second")
    assert again is not None
    assert again.wanted == "new_document"


def test_an_interrupted_run_is_recorded(opened: Fleet) -> None:
    def interrupted(fleet: Fleet, cause: str, owner: str) -> Outcome:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scheduler.perform(opened, jobs_of({"throws": interrupted})[0], "me")
    row = lease.row_of("throws")
    assert (row.owner, row.last_error) == (None, "interrupted")
