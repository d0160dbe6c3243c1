"""`cdx --watch`: installs, removes and shows the background sync."""

from __future__ import annotations

import os
import time

from cdxsync.wrapper.src.background import KEPT_VARIABLES, run_watch, watch_path
from cdxsync.wrapper.src.context import Context
from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.files import codex_home, codex_home_path, locked, own_folder, read_json, remove, write_json
from cdxsync.wrapper.src.messages import debug, say, show, tell
from cdxsync.wrapper.src.quota import shown_time
from cdxsync.wrapper.src.schedulers import NO_CRONTAB, Cron, Other, all_schedulers, choose_scheduler, noted_scheduler
from cdxsync.wrapper.src.update import replaced_settings
from cdxsync.wrapper.src.watch_job import EVERY_MINUTES, Job

WATCH_USAGE = "usage: cdx --watch install [systemd|launchd|cron|other] | status | remove | run"
LATE_SECONDS = 900
REMOVE_WAIT_SECONDS = 10.0


def watch(arguments: list[str]) -> int:
    """`--watch`; returns the exit code."""
    first, rest = (arguments or ["status"])[0], arguments[1:]
    if first == "install" and len(rest) < 2:
        return install_watch(rest[0] if rest else "")
    if first == "run":
        after = rest[1] if rest[:1] == ["--after"] and len(rest) == 2 else "0"
        return run_watch(float(after) if after.isdigit() else 0.0)
    if first == "status" and not rest:
        return show_watch()
    if first == "remove" and not rest:
        return remove_watch()
    tell(WATCH_USAGE + "\n")
    return 2


def install_watch(wanted: str) -> int:
    """Have a scheduler of this host start the sync, in the place of any other; returns the exit code."""
    home = codex_home()
    job = Job(home)
    job.check()
    try:
        scheduler = choose_scheduler(job, wanted)
    except SyncError as error:
        say(str(error))
        say("Where something else can start it every %d minutes: cdx --watch install other" % EVERY_MINUTES)
        return 1
    # The first run needs the note; without the scheduler's part it is of no use.
    before = read_json(watch_path(home))
    own_folder(home)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.lower() in KEPT_VARIABLES and value and "\0" not in value
    }
    note = {"by": scheduler.by, "what": scheduler.describe(), "entry": scheduler.entry, "program": job.program}
    write_json(watch_path(home), dict(note, environment=environment))
    if read_json(watch_path(home)).get("what") != note["what"]:
        raise SyncError("cannot write %s: is the disk full, or read-only?" % watch_path(home))
    try:
        scheduler.install()
    except SyncError:
        if before:
            write_json(watch_path(home), before)
        else:
            remove(watch_path(home))
        raise
    for other in all_schedulers(job):
        if other.describe() != scheduler.describe():
            other.remove()
    say("%s starts %s every %d minutes, for %s" % (scheduler.describe(), job.program, EVERY_MINUTES, job.home))
    hint = scheduler.hint()
    if hint:
        say(hint)
    replaced = replaced_settings()
    if replaced:
        say("%s is of this shell alone: the background sync works with the installed values" % ", ".join(replaced))
    if run_watch(0.0):
        say("the first sync failed, as said above; the next one is in %d minutes" % EVERY_MINUTES)
    return 0


def remove_watch(tell: bool = True) -> int:
    """Take the background sync of this home away; returns the exit code. `tell`: the server, and the user."""
    home = codex_home()
    noted = read_json(watch_path(home))
    removed, problems = [], []
    for scheduler in all_schedulers(Job(home)):
        try:
            if scheduler.remove():
                removed.append(scheduler.describe())
            elif noted.get("by") == Cron.by == scheduler.by:
                problem = scheduler.unavailable()
                problems += [problem] if problem not in ("", NO_CRONTAB) else []
        except SyncError as error:
            problems.append(str(error))
    for problem in problems:
        say(problem)
    if not problems:
        remove(watch_path(home))
        remove(watch_path(home, "watch-last.json"))
    # One that has begun before ends first: what it does must not come after what follows.
    until = time.monotonic() + REMOVE_WAIT_SECONDS
    while os.path.isdir(os.path.join(home, ".cdx")) and time.monotonic() < until:
        with locked(watch_path(home, "watch.lock"), wait=False) as held:
            if held:
                break
        time.sleep(0.1)
    if tell and not problems:
        say("%s is removed" % ", ".join(removed or ["the background sync"]) if removed or noted else "there was none")
        if removed or noted:
            try:
                context = Context()
                context.sync.background = "none"
                context.sync.look()
                context.api.close()
            except SyncError as error:
                debug("the server was not told: %s" % error)
    elif removed:
        say("%s is removed" % ", ".join(removed))
    return 1 if problems else 0


def watch_state(home: str) -> tuple[str, str, str]:
    """(mark, text, what to do) of the background sync; the mark is `ok`, `warn`, or `none` without one."""
    note, last = read_json(watch_path(home)), read_json(watch_path(home, "watch-last.json"))
    if not note:
        return "none", "none", "cdx --watch install"
    again, job = "cdx --watch install", Job(home)
    scheduler = noted_scheduler(job, note)
    if scheduler is None and note.get("by") != Other.by:
        return "warn", "%s cannot be looked at here" % note.get("what"), again
    text = "%s, last run %s" % (note.get("what"), shown_time(last.get("ran_at")))
    program = str(note.get("program"))
    if not os.access(program, os.X_OK):
        return "warn", "it starts %s, which is not there any more" % program, again
    if os.path.realpath(program) != os.path.realpath(__file__):
        return "warn", "it starts %s, and not this %s" % (program, job.program), again
    problem = scheduler.problem() if scheduler else ""
    if problem:
        return "warn", problem, again
    if last.get("problem"):
        since = shown_time(last.get("since"))
        return "warn", "it fails since %s: %s" % (since, last["problem"]), "cdx --watch run"
    ran, hint = last.get("ran_at"), scheduler.hint() if scheduler else ""
    if not isinstance(ran, (int, float)) or not -LATE_SECONDS < time.time() - ran < LATE_SECONDS:
        return "warn", "it should run every %d minutes: %s" % (EVERY_MINUTES, text), hint or again
    return "ok", "%s; %s" % (text, hint) if hint else text, ""


def show_watch() -> int:
    """`--watch status`; returns the exit code: 0 when it is installed and works."""
    home = os.path.abspath(codex_home_path())
    note, last = read_json(watch_path(home)), read_json(watch_path(home, "watch-last.json"))
    mark, text, fix = watch_state(home)
    rows = [("background", "good" if mark == "ok" else text)]
    if note:
        rows += [
            ("by", str(note.get("what"))),
            ("file", str(note.get("entry") or "none")),
            ("starts", "%s --watch run, every %d minutes" % (note.get("program"), EVERY_MINUTES)),
            ("for", home),
            ("last run", shown_time(last.get("ran_at"))),
            ("last good", shown_time(last.get("ok_at"))),
            ("last failure", shown_time(last.get("failed_at")) if last.get("failed_at") else "none"),
        ]
    scheduler = noted_scheduler(Job(home), note)
    hint = scheduler.hint() if scheduler else ""
    if hint:
        rows.append(("note", hint))
    if fix:
        rows.append(("to do", fix))
    for name, value in rows:
        show("%-12s %s\n" % (name, value))
    return 0 if mark == "ok" else 1
