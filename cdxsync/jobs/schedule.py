"""When a job is due: the rules, as pure functions of a job's description and of its row in the database."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from cdxsync.base import clock
from cdxsync.base.errors import NotFound, Unavailable
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Job

FIRST_BACKOFF_SECONDS = 60
LEASE_MARGIN_SECONDS = 5
LONGEST_LEASE_SECONDS = 3600
MOST_AHEAD_SECONDS = 2 * 86400
"""More than any interval, and than any wait that a service is granted."""
MANUAL = "manual"
"""The reason of a run that an admin asked for."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `result` for people; `error` when it failed.

    `next_in` overrides the interval, in seconds; `wait` is how many seconds a service has asked us not to call.
    """

    result: str
    error: str | None = None
    next_in: float | None = None
    wait: float | None = None


@dataclass(frozen=True)
class Spec:
    """A job: its description and its work.

    `interval` in seconds; None runs only when asked for. `time_limit` in seconds is how long a run may take; a lease
    lasts a little longer. `off` says why the settings switch it off, or is empty. With `outlives` a program that a run
    started may go on after the run was stopped; the lease then expires, and is not given back. `run` does the work,
    given the fleet, why it runs (`scheduled`, `manual`, or what it was marked with), and the owner of its lease.
    """

    name: str
    help: str
    interval: int | None
    time_limit: int
    run: Callable[[Fleet, str, str], Outcome] = field(repr=False, compare=False)
    off: str = ""
    outlives: bool = False


class State(StrEnum):
    """What a job does at a time."""

    OFF = "off"
    RUNNING = "running"
    DUE = "due"
    HELD = "held"
    """Requested or due, but a service asked us to wait."""
    IDLE = "idle"


def is_ahead(moment: str | None, at: datetime, most: int = MOST_AHEAD_SECONDS) -> bool:
    """Whether a stamp is ahead of `at`, but by no more than `most` seconds.

    One further ahead was written before the clock was set back, and must not block a job for so long.
    """
    return moment is not None and clock.stamp(at) < moment <= clock.stamp(at + timedelta(seconds=most))


def state_of(spec: Spec, row: Job, at: datetime) -> State:
    """What the job does at the time `at`: due when it may be started now.

    A lease that has run out and was not given back is of a run that was cut off; that is to be made up for.
    """
    if spec.off:
        return State.OFF
    if is_ahead(row.lease_until, at, LONGEST_LEASE_SECONDS):
        return State.RUNNING
    cut_off = row.owner is not None
    scheduled = spec.interval is not None and not is_ahead(row.next_run, at)
    if row.wanted is None and not scheduled and not cut_off:
        return State.IDLE
    return State.HELD if is_ahead(row.not_before, at) else State.DUE


def next_delay(spec: Spec, outcome: Outcome, failures: int, spread: float) -> float:
    """Seconds until the next run. After `failures` in a row: 1, 2, 4 … minutes, up to the interval.

    `spread` from 0 to 1 is the jitter: up to a tenth is taken off, so that servers and fleets do not call in step.
    """
    interval = spec.interval if spec.interval is not None else FIRST_BACKOFF_SECONDS
    if outcome.next_in is not None:
        return max(1.0, outcome.next_in)
    delay = float(interval)
    if outcome.error is not None:
        delay = min(delay, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 20))
    return max(1.0, max(delay, outcome.wait or 0.0) if outcome.wait else delay * (1 - spread / 10))


def may_mark(row: Job | None, at: datetime) -> bool:
    """Whether a request should ask for the job: its data is stale, and no run is requested or running."""
    if row is None:
        return True
    asked = row.wanted is not None or is_ahead(row.lease_until, at, LONGEST_LEASE_SECONDS)
    return not asked and not is_ahead(row.next_run, at) and not is_ahead(row.not_before, at)


def named(specs: Iterable[Spec], name: str) -> Spec:
    """The spec of that name. Raises `NotFound`."""
    known = {spec.name: spec for spec in specs}
    if name not in known:
        raise NotFound(f"No job {name!r}; there are: {', '.join(known)}", code="job_not_found")
    return known[name]


def runnable(specs: Iterable[Spec], name: str) -> Spec:
    """The spec of a job to run. Raises `NotFound`, `Unavailable` when it is switched off."""
    spec = named(specs, name)
    if spec.off:
        raise Unavailable(f"The job {name} is off: {spec.off}", code="job_off")
    return spec
