"""The admin API of what is outside: Codex releases, ChatGPT quota, the runner, and the jobs that deal with them.

No request calls anybody: it asks for a run of the job, and waits a while for that to end.
"""

import threading
import time

from bottle import Bottle, HTTPResponse, request

from cdxsync.domain import canonical, clock, jobs, outside, quota, runner, versions
from cdxsync.domain.fleet import Fleet
from cdxsync.errors import NotFound, Unavailable
from cdxsync.http import access, envelope, params
from cdxsync.store.database import reachable, write

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
        spec = jobs.runnable(outside.specs(settings), name)
        runs = jobs.request(spec, actor=access.actor())
        if not waiting.acquire(blocking=False):
            return False
        try:
            until = time.monotonic() + WAIT_SECONDS
            while time.monotonic() < until:
                if jobs.finished_since(name, runs):
                    return True
                if outside.describe_job(settings, name)["state"] == jobs.State.HELD:
                    return False
                time.sleep(_LOOK_SECONDS)
            return False
        finally:
            waiting.release()

    @app.get("/admin/jobs")
    def list_jobs() -> HTTPResponse:
        return envelope.answer({"jobs": outside.describe_jobs(settings)})

    @app.post("/admin/jobs/<name>/run")
    def run_job(name: str) -> HTTPResponse:
        ended = run(name)
        return envelope.answer({"job": outside.describe_job(settings, name), "pending": not ended})

    @app.post("/admin/versions/check")
    def check_versions() -> HTTPResponse:
        ended = run(versions.JOB)
        error = jobs.last_error(versions.JOB)
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
            stale = bool(settings.chatgpt_base_url) and jobs.may_mark(jobs.row_of(quota.JOB), clock.now())
        ended = run(quota.JOB) if force or stale else False
        return quota.report(cached=not ended, pending=(force or stale) and not ended)

    @app.get("/admin/runner")
    def show_runner() -> HTTPResponse:
        return envelope.answer(runner.status(fleet))

    @app.post("/admin/runner/run")
    def run_runner() -> HTTPResponse:
        spec = jobs.named(outside.specs(settings), runner.JOB)
        if spec.off:
            raise Unavailable(f"There is no runner: {spec.off}")
        if write(lambda: canonical.current(fleet)) is None:
            raise NotFound(canonical.NONE_YET)
        before = runner.last_stored_id()
        ended = run(runner.JOB)
        return envelope.answer(runner.run_report(fleet, applied=runner.last_stored_id() != before, pending=not ended))
