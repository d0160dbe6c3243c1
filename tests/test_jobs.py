"""The scheduler: jobs that throw or hang stop nobody, and a lease is one process's alone."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import BASE_ENVIRONMENT
from together import at_once, until

from cdxsync import deployment, settings
from cdxsync.domain import jobs, outside
from cdxsync.domain.fleet import Fleet
from cdxsync.domain.jobs import Outcome, Spec
from cdxsync.server import jobs as server_jobs
from cdxsync.store import database

SPECS = (
    Spec("hangs", "", interval=3600, time_limit=1),
    Spec("throws", "", interval=3600, time_limit=60),
    Spec("works", "", interval=3600, time_limit=60),
)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet within this process."""
    given = settings.load(tmp_path / "home", environ=BASE_ENVIRONMENT)
    deployment.initialise(given)
    yield deployment.open_fleet(given)
    database.close_database()


def all_came_back() -> bool:
    """Whether no thread hangs any more."""
    return not any(thread.name == "job hangs" for thread in threading.enumerate())


def test_jobs_that_hang_or_throw_stop_nobody(opened: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
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

    monkeypatch.setattr(outside, "specs", lambda given: SPECS)
    monkeypatch.setattr(server_jobs, "WORK", {"hangs": hangs, "throws": throws, "works": works})
    scheduler = server_jobs.Jobs(opened)
    scheduler.start()
    try:
        until(lambda: jobs.row_of("hangs").last_error)
        until(lambda: jobs.row_of("throws").last_error and jobs.row_of("works").runs)
        assert jobs.row_of("hangs").last_error == "did not end within 1 s"
        assert jobs.row_of("throws").last_error == "unexpected: ZeroDivisionError; the server's log has more"
        jobs.request(SPECS[2], actor="me")
        until(lambda: jobs.row_of("works").runs == 2)
        assert ran == ["scheduled", "manual"]
        go_on.set()
        assert came_back.wait(60)
        until(all_came_back)
        row = jobs.row_of("hangs")
        assert (row.last_result, row.runs, row.failures) == ("given up", 1, 1)
        assert row.next_run is not None
        assert row.next_run > str(row.last_finished_at)
    finally:
        go_on.set()
        until(all_came_back)
        scheduler.stop()


def test_threads_that_hang_do_not_pile_up(opened: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    begun = []

    def hangs(fleet: Fleet, cause: str, owner: str) -> Outcome:
        begun.append(owner)
        go_on.wait(60)
        return Outcome("too late")

    monkeypatch.setattr(outside, "specs", lambda given: (SPECS[0], SPECS[2]))
    monkeypatch.setattr(server_jobs, "WORK", {"hangs": hangs, "works": lambda *given: Outcome("done")})
    scheduler = server_jobs.Jobs(opened)
    scheduler.start()
    try:
        for number in range(1, server_jobs.MAX_GIVEN_UP + 1):
            until(lambda number=number: jobs.row_of("hangs").runs == number)  # type: ignore[misc]
            jobs.request(SPECS[0], actor="me")
        before = jobs.request(SPECS[2], actor="me")
        until(lambda: jobs.finished_since("works", before))
        assert len(begun) == server_jobs.MAX_GIVEN_UP
    finally:
        go_on.set()
        until(all_came_back)
        scheduler.stop()


def test_of_many_one_gets_the_lease(opened: Fleet) -> None:
    spec = SPECS[1]
    owners = [f"owner {number}" for number in range(20)]
    won = []

    def claim(owner: str) -> None:
        if jobs.claim(spec, owner) is not None:
            won.append(owner)
        database.close_database()

    at_once([lambda owner=owner: claim(owner) for owner in owners])  # type: ignore[misc]
    assert len(won) == 1
    assert jobs.row_of(spec.name).owner == won[0]
    assert jobs.finish(spec, "another", Outcome("x"), 1.0) is None
    assert jobs.finish(spec, won[0], Outcome("x"), 1.0) is not None
    assert jobs.claim(spec, "later") is None
    assert jobs.claim(spec, "admin", even_if_not_due=True) is not None


def test_a_run_that_is_asked_for_meanwhile_follows(opened: Fleet) -> None:
    """As for a document that is stored while the one before it is checked."""
    spec = SPECS[1]
    assert jobs.claim(spec, "first") is not None
    database.write(lambda: jobs.mark(spec.name, "new_document"))
    jobs.finish(spec, "first", Outcome("x"), 1.0)
    again = jobs.claim(spec, "second")
    assert again is not None
    assert again.wanted == "new_document"


def test_an_interrupted_run_is_recorded(opened: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(fleet: Fleet, cause: str, owner: str) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(server_jobs, "WORK", {"throws": interrupted})
    with pytest.raises(KeyboardInterrupt):
        server_jobs.perform(opened, SPECS[1], "me")
    row = jobs.row_of("throws")
    assert (row.owner, row.last_error) == (None, "interrupted")
