"""Running the background jobs: each in a thread of its own, under its lease, until the server is told to stop.

A job that raises has failed; one that hangs is given up at its time limit. Neither stops the others.
"""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cdxsync.base import clock
from cdxsync.base.errors import CdxsyncError, ServiceError
from cdxsync.base.settings import Settings
from cdxsync.jobs import lease, schedule
from cdxsync.jobs.schedule import Outcome, Spec
from cdxsync.store.driver_errors import translated
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Job

LOOK_SECONDS = 1.0
TROUBLE_SECONDS = 10.0
STOP_SECONDS = 10.0
MAX_GIVEN_UP = 3
"""Limit of hanging threads of a job; above it the job does not start again in this process."""
_log = logging.getLogger("cdxsync.jobs")


def new_owner() -> str:
    """A name for the holder of one lease: machine, process, and a number of its own."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"[-255:]


def perform(fleet: Fleet, spec: Spec, owner: str, *, by_admin: bool = False) -> Outcome | None:
    """Run a job under its lease, in the calling thread; None when it is not to be run now (see `jobs.claim`).

    In the scope of the fleet's database. Exceptions become an outcome, except KeyboardInterrupt and the like.
    """
    before = lease.claim(spec, owner, even_if_not_due=by_admin)
    if before is None:
        return None
    begun = time.monotonic()
    try:
        outcome = _outcome_of(fleet, spec, before.wanted or (schedule.MANUAL if by_admin else "scheduled"), owner)
    except BaseException:
        if not spec.outlives:
            lease.finish(spec, owner, Outcome("interrupted", error="interrupted"), time.monotonic() - begun)
        raise
    took = time.monotonic() - begun
    next_run = lease.finish(spec, owner, outcome, took)
    when = f"next run {next_run}" if spec.interval is not None and next_run is not None else "no next run planned"
    if outcome.error is not None:
        _log.warning("job %s failed in %.1f s: %s; %s", spec.name, took, outcome.error, when)
    else:
        _log.info("job %s done in %.1f s: %s; %s", spec.name, took, outcome.result, when)
    return outcome


def _outcome_of(fleet: Fleet, spec: Spec, cause: str, owner: str) -> Outcome:
    try:
        with translated():
            return spec.run(fleet, cause, owner)
    except ServiceError as error:
        return Outcome("failed", error=error.message, wait=error.wait)
    except CdxsyncError as error:
        return Outcome("failed", error=error.explain())
    except Exception:
        _log.exception("job %s failed", spec.name)
        return Outcome("failed", error="unexpected error; see the server's log")


@dataclass
class _Run:
    spec: Spec
    owner: str
    thread: threading.Thread
    until: float
    given_up: bool = False


class Scheduler:
    """The scheduler of one server process."""

    def __init__(
        self,
        fleet: Fleet,
        specs: Callable[[Settings], Iterable[Spec]],
        recover: Callable[[Fleet], None],
        look: Callable[[Fleet], None] = lambda fleet: None,
    ) -> None:
        """`specs` returns the jobs; `recover` runs once, before the first of them.

        `look` is what this process does by itself about once a second, whoever runs the jobs: something quick.
        """
        self._fleet = fleet
        self._specs = specs
        self._recover = recover
        self._look = look
        self._stop = threading.Event()
        self._runs: list[_Run] = []
        self._thread = threading.Thread(target=self._loop, name="jobs", daemon=True)

    def use(self, fleet: Fleet) -> None:
        """Use the settings of `fleet` for runs that begin from now on."""
        self._fleet = fleet

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Start no more jobs, and wait a while for running ones.

        The lease of one that does not end expires: its Codex may still be at work.
        """
        self._stop.set()
        lease.wake.set()
        self._thread.join(STOP_SECONDS)
        until = time.monotonic() + STOP_SECONDS
        for run in self._runs:
            if not run.given_up:
                run.thread.join(max(0.0, until - time.monotonic()))

    def _loop(self) -> None:
        try:
            with self._fleet.database.scope():
                self._recover(self._fleet)
        except Exception:
            _log.exception("what a killed server left cannot be examined")
        while not self._stop.is_set():
            pause = LOOK_SECONDS
            try:
                with self._fleet.database.scope():
                    self._round()
                    self._look(self._fleet)
            except CdxsyncError as error:
                _log.error("jobs cannot be read: %s", error.explain())
                pause = TROUBLE_SECONDS
            except Exception:
                _log.exception("jobs cannot be read")
                pause = TROUBLE_SECONDS
            lease.wake.wait(pause)
            lease.wake.clear()
        self._fleet.database.disconnect()

    def _round(self) -> None:
        self._runs = [run for run in self._runs if run.thread.is_alive()]
        for run in self._runs:
            if not run.given_up and time.monotonic() > run.until:
                run.given_up = True
                _log.error("job %s hangs and is given up", run.spec.name)
                error = f"did not end within {run.spec.time_limit} s"
                lease.finish(run.spec, run.owner, Outcome("given up", error=error), run.spec.time_limit)
        rows, at = lease.all_rows(), clock.now()
        for spec in self._specs(self._fleet.settings):
            mine = [run for run in self._runs if run.spec.name == spec.name]
            due = schedule.state_of(spec, rows.get(spec.name) or Job(name=spec.name), at) is schedule.State.DUE
            if due and all(run.given_up for run in mine) and len(mine) < MAX_GIVEN_UP:
                self._begin(spec)

    def _begin(self, spec: Spec) -> None:
        owner = new_owner()
        thread = threading.Thread(target=self._perform, args=(spec, owner), name=f"job {spec.name}", daemon=True)
        self._runs.append(_Run(spec, owner, thread, time.monotonic() + spec.time_limit))
        thread.start()

    def _perform(self, spec: Spec, owner: str) -> None:
        fleet = self._fleet
        try:
            with fleet.database.scope():
                perform(fleet, spec, owner)
        except CdxsyncError as error:
            _log.error("job %s: its outcome cannot be stored: %s", spec.name, error.explain())
        except Exception:
            _log.exception("job %s: its outcome cannot be stored", spec.name)
        finally:
            fleet.database.disconnect()
