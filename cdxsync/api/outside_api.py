"""The admin API of what is outside: Codex releases, ChatGPT quota, the runner, and the jobs that deal with them.

No request calls anybody: it asks for a run of the job, and waits a while for that to end.
"""

import threading
import time

from bottle import Bottle, HTTPResponse, request

from cdxsync.api import access, envelope, params
from cdxsync.auth import canonical, runner
from cdxsync.background import definitions, status
from cdxsync.base import clock
from cdxsync.base.errors import NotFound, Unavailable
from cdxsync.codex import quota, versions
from cdxsync.jobs import lease, schedule
from cdxsync.store.database import reachable, write
from cdxsync.store.fleet import Fleet

WAIT_SECONDS = 25.0
MAX_WAITING = 4
"""Requests that may wait at a time; the others answer at once, so that hosts always find a free thread."""
_LOOK_SECONDS = 0.1


def mount(app: Bottle, fleet: Fleet) -> None:
    """Add the routes to `app`."""
    settings = fleet.settings
    waiting = threading.Semaphore(MAX_WAITING)

    def run(name: str) -> bool:
        """Have a job run; returns whether it has ended. Raises `Unavailable` when it is switched off."""
        spec = schedule.runnable(definitions.specs(settings), name)
        runs = lease.request(spec, actor=access.actor())
        if not waiting.acquire(blocking=False):
            return False
        try:
            until = time.monotonic() + WAIT_SECONDS
            while time.monotonic() < until:
                if lease.finished_since(name, runs):
                    return True
                if status.describe_job(settings, name)["state"] == schedule.State.HELD:
                    return False
                time.sleep(_LOOK_SECONDS)
            return False
        finally:
            waiting.release()

    @app.get("/admin/jobs")
    def list_jobs() -> HTTPResponse:
        return envelope.answer({"jobs": status.describe_jobs(settings)})

    @app.post("/admin/jobs/<name>/run")
    def run_job(name: str) -> HTTPResponse:
        ended = run(name)
        return envelope.answer({"job": status.describe_job(settings, name), "pending": not ended})

    @app.post("/admin/versions/check")
    def check_versions() -> HTTPResponse:
        ended = run(versions.JOB)
        error = lease.last_error(versions.JOB)
        with reachable():
            return envelope.answer(
                versions.check_report(fetched=ended and error is None, pending=not ended, error=error)
            )

    @app.get("/admin/chatgpt/usage")
    def show_quota() -> HTTPResponse:
        if request.method == "HEAD":
            return envelope.answer(quota.report(cached=True))
        return envelope.answer(_quota(params.flag("force")))

    @app.post("/admin/chatgpt/usage/refresh")
    def refresh_quota() -> HTTPResponse:
        return envelope.answer(_quota(True))

    def _quota(force: bool) -> dict[str, object]:
        with reachable():
            stale = bool(settings.chatgpt_base_url) and schedule.may_mark(lease.row_of(quota.JOB), clock.now())
        ended = run(quota.JOB) if force or stale else False
        return quota.report(cached=not ended, pending=(force or stale) and not ended)

    @app.get("/admin/runner")
    def show_runner() -> HTTPResponse:
        return envelope.answer(runner.status(fleet))

    @app.post("/admin/runner/run")
    def run_runner() -> HTTPResponse:
        spec = schedule.named(definitions.specs(settings), runner.JOB)
        if spec.off:
            raise Unavailable(f"There is no runner: {spec.off}")
        if write(lambda: canonical.current(fleet)) is None:
            raise NotFound(canonical.NONE_YET)
        before = runner.last_stored_id()
        ended = run(runner.JOB)
        return envelope.answer(runner.run_report(fleet, applied=runner.last_stored_id() != before, pending=not ended))
