"""Findings, the subject of checks, and how checks run."""

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from cdxsync.base import clock
from cdxsync.base.errors import CdxsyncError
from cdxsync.base.settings import Settings
from cdxsync.store.database import Database


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """The result of a check, without secrets; `mend` is the remedy: a command, or what else to do."""

    level: Level
    text: str
    mend: str = ""
    check: str = ""


def ok(text: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, text)


def warn(text: str, mend: str = "") -> Finding:
    """It works, but needs attention."""
    return Finding(Level.WARN, text, mend)


def fail(text: str, mend: str = "") -> Finding:
    """It does not work."""
    return Finding(Level.FAIL, text, mend)


@dataclass
class Subject:
    """The subject: a home, its settings or why they cannot be read, and the days after which a host counts as silent.

    `database` is the open one of a server; otherwise the check of that name sets it.
    """

    home: Path
    found_settings: Settings | None
    settings_problem: str = ""
    silent_days: int = 7
    at: datetime = field(default_factory=clock.now)
    database: Database | None = None

    @property
    def settings(self) -> Settings:
        """The settings; only for checks that need the check `settings`."""
        if self.found_settings is None:
            raise RuntimeError("the settings cannot be read")
        return self.found_settings


@dataclass(frozen=True)
class Check:
    """A named check; it is skipped when a check that it `needs` has failed."""

    name: str
    run: Callable[[Subject], Iterable[Finding]]
    needs: tuple[str, ...] = ()


def examine_with(checks: Sequence[Check], subject: Subject, skip: Collection[str] = ()) -> list[Finding]:
    """Run `checks` in order; an exception becomes a finding."""
    findings: list[Finding] = []
    failed: set[str] = set()
    for check in checks:
        if check.name in skip:
            continue
        for finding in _run(check, subject, failed):
            findings.append(Finding(finding.level, finding.text, finding.mend, check.name))
            if finding.level is Level.FAIL:
                failed.add(check.name)
    return findings


def _run(check: Check, subject: Subject, failed: set[str]) -> Iterator[Finding]:
    blocked = [name for name in check.needs if name in failed]
    if blocked:
        failed.add(check.name)
        yield warn(f"not checked: {blocked[0]} failed")
        return
    found: list[Finding] = []
    try:
        with contextlib.nullcontext() if subject.database is None else subject.database.scope():
            for finding in check.run(subject):
                found.append(finding)
    except CdxsyncError as error:
        found.append(fail(error.explain()))
    except Exception as error:
        found.append(fail(f"the check failed: {type(error).__name__}: {error}"))
    yield from found


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level."""
    return max((finding.level for finding in findings), key=list(Level).index, default=Level.OK)
