"""The background jobs of a fleet, each declared once: name, when it is due, time limit, and what it does.

The work imports the HTTP client that it needs: commands that only list jobs start faster.
"""

import logging

from cdxsync.auth import rotation, runner
from cdxsync.auth.schemas import Backend
from cdxsync.background import retention
from cdxsync.base import clock
from cdxsync.base.settings import Settings
from cdxsync.codex import quota, versions
from cdxsync.jobs.schedule import Outcome, Spec
from cdxsync.store.fleet import Fleet
from cdxsync.usage import pricing

_log = logging.getLogger("cdxsync.jobs")
RETENTION_JOB = "retention"
DAY = 86400
_SLACK_SECONDS = 30


def _limit(*timeouts: float) -> int:
    """A time limit for a job whose calls take at most `timeouts` seconds: a lease must outlast its run."""
    return int(2 * max(timeouts)) + _SLACK_SECONDS


def _read_releases(fleet: Fleet, cause: str, owner: str) -> Outcome:
    from cdxsync.services import github

    return github.check(fleet)


def _read_quota(fleet: Fleet, cause: str, owner: str) -> Outcome:
    from cdxsync.services import chatgpt

    return chatgpt.read(fleet)


def _read_prices(fleet: Fleet, cause: str, owner: str) -> Outcome:
    from cdxsync.services import prices

    return prices.read(fleet)


def _check_canonical(fleet: Fleet, cause: str, owner: str) -> Outcome:
    from cdxsync.background import checking

    return checking.check_canonical(fleet, cause, owner)


def _prune(fleet: Fleet, cause: str, owner: str) -> Outcome:
    deleted = {name: count for name, count in retention.prune(fleet.settings, clock.now()).items() if count}
    return Outcome(", ".join(f"{count} of {name}" for name, count in deleted.items()) or "nothing to delete")


def _refresh_canonical(fleet: Fleet, cause: str, owner: str) -> Outcome:
    from cdxsync.background import refreshing

    return refreshing.refresh_canonical(fleet, cause, owner)


def recover(fleet: Fleet) -> None:
    """Store what a killed server refreshed on this machine; another one may hold the lease now."""
    from cdxsync.background import checking, refreshing

    if checking.recover(fleet):
        _log.warning("found and stored a document that a killed server had refreshed")
    refreshing.take_up_at_start(fleet)


def _no_refresh(settings: Settings) -> str:
    if settings.refresh != "server":
        return "the setting refresh is hosts"
    return "" if settings.token_url else "the setting token_url is empty"


def specs(settings: Settings) -> tuple[Spec, ...]:
    """All jobs of a server with these settings, in the order in which they are listed."""
    used, off = runner.backend(settings)
    return (
        Spec(
            versions.JOB,
            "Read the newest Codex release from GitHub.",
            interval=versions.CACHE_SECONDS,
            time_limit=_limit(settings.outside_timeout),
            run=_read_releases,
            off="" if settings.github_api_url else "the setting github_api_url is empty",
        ),
        Spec(
            quota.JOB,
            "Read the ChatGPT quota, when a host or an admin asks for a newer one.",
            interval=None,
            time_limit=_limit(settings.chatgpt_usage_timeout),
            run=_read_quota,
            off="" if settings.chatgpt_base_url else "the setting chatgpt_base_url is empty",
        ),
        Spec(
            pricing.JOB,
            "Read the prices of models.",
            interval=DAY,
            time_limit=_limit(settings.outside_timeout),
            run=_read_prices,
            off="" if settings.pricing_url else "the setting pricing_url is empty; prices come from the settings",
        ),
        Spec(
            runner.JOB,
            "Check the canonical document.",
            interval=DAY,
            time_limit=_limit(settings.auth_runner_timeout, settings.chatgpt_usage_timeout),
            run=_check_canonical,
            off=off if used is Backend.OFF else "",
            outlives=True,
        ),
        Spec(
            rotation.JOB,
            "Refresh the canonical login ahead of expiry, and when a host asks.",
            interval=rotation.LOOK_SECONDS,
            time_limit=rotation.LIMIT_SECONDS,
            run=_refresh_canonical,
            off=_no_refresh(settings),
            outlives=True,
        ),
        Spec(RETENTION_JOB, "Delete old rows.", interval=3600, time_limit=600, run=_prune),
    )
