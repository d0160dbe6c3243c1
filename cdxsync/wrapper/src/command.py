"""The command line: what cdx does before, during and after a run of Codex, and its own options."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.accounts import holds_grant
from cdxsync.wrapper.src.baked import WRAPPER_VERSION
from cdxsync.wrapper.src.boot import later
from cdxsync.wrapper.src.codex import Build, Codex, find_codex, leave, program_environment
from cdxsync.wrapper.src.codex_command import answers_by_itself, command_of, login_command
from cdxsync.wrapper.src.codex_install import INSTALL_SECONDS, install_codex_now, notes_path, say_newer, update_codex
from cdxsync.wrapper.src.codex_wanted import may_want_codex
from cdxsync.wrapper.src.compiled import keep_compiled
from cdxsync.wrapper.src.context import Context, own_fqdn
from cdxsync.wrapper.src.doctor import Doctor
from cdxsync.wrapper.src.document import LocalDocument
from cdxsync.wrapper.src.errors import NoCredentials, NotTaken, Offline, Refused, SyncError
from cdxsync.wrapper.src.file_trouble import Unreadable
from cdxsync.wrapper.src.files import child_environment
from cdxsync.wrapper.src.full_screen import daemon_wanted, without_daemon
from cdxsync.wrapper.src.handover import codex_arguments, codex_environment
from cdxsync.wrapper.src.keeping import drop_credentials
from cdxsync.wrapper.src.login_command import log_in, log_out
from cdxsync.wrapper.src.login_home import recover_logins
from cdxsync.wrapper.src.loops import loop, unmarked_loop
from cdxsync.wrapper.src.messages import say, show, shown
from cdxsync.wrapper.src.quota import show_quota
from cdxsync.wrapper.src.runs import Run
from cdxsync.wrapper.src.signals import Ended, die_by, end_at_once, end_tidily, for_another_program
from cdxsync.wrapper.src.signatures import Unsigned
from cdxsync.wrapper.src.status import show_status
from cdxsync.wrapper.src.sweep import sweep
from cdxsync.wrapper.src.sync import auth_before, say_refused
from cdxsync.wrapper.src.taps import WITHOUT_CREDENTIALS, Taps, plan_taps
from cdxsync.wrapper.src.threads import beside
from cdxsync.wrapper.src.uninstall import uninstall
from cdxsync.wrapper.src.update import self_test, update_wrapper
from cdxsync.wrapper.src.watch import watch
from cdxsync.wrapper.src.watcher import Watcher

if TYPE_CHECKING:
    from typing import Callable

HELP = """\
usage: cdx [CODEX ARGUMENTS...]      run Codex with the fleet's credentials
       cdx --status                  show this host, its server, whose login is here, versions and unsent usage
       cdx --doctor                  check each step to the server and Codex, and say how to fix it
       cdx --update, -U              take the server's cdx now, and a newer Codex when it names one
       cdx login, cdx logout         as Codex does, but nothing of the fleet's is revoked; a logout stays
       cdx --uninstall [--yes]       deregister this host and remove cdx, Codex and its folder
       cdx --wrapper-sync            sync auth.json and prompts, without running Codex
       cdx --watch install           sync every 4 minutes in the background, for plain codex, IDEs and daemons
       cdx --watch status, remove    show that, take it away
       cdx --wrapper-version, -W     print the version of this wrapper
       cdx --wrapper-help            print this text
       cdx --debug ...               any of these, logging each step on stderr (also: --verbose)

Everything else is passed to Codex unchanged; full-screen runs get --no-daemon before it, where Codex has that.
auth.json and prompts are in $CODEX_HOME, or in ~/.codex.
Environment: CODEX_SYNC_BASE_URL, CODEX_SYNC_API_KEY, CODEX_SYNC_FQDN, CODEX_SYNC_CA_FILE and CODEX_SYNC_SIGNING_KEYS
override the installed values; CODEX_SYNC_INTERVAL is the time between checks of the server during a run, in seconds
(default 30; 0: never); CDX_DAEMON=1 leaves Codex its background server, as plain codex has it; CDX_QUIET=1 hides the
quota bars; CODEX_DEBUG=1 logs each step on stderr.
"""
OWN_COMMANDS = (
    *("--wrapper-sync", "--wrapper-self-test", "--wrapper-install-codex", "--status", "--doctor", "--watch"),
    *("--update", "-U", "--uninstall"),
)
# Prompts, Codex's own version: nothing beside the credentials may hold a run up for longer.
PROMPTS_SECONDS = 10.0
UPDATE_SECONDS = 30.0
FIRST_INSTALL_SECONDS = 300.0


def pull_prompts(context: Context) -> threading.Thread | None:
    """Pull prompts beside the sync of auth.json; returns the thread, or None where it was done at once."""
    deadline = time.monotonic() + PROMPTS_SECONDS

    def work() -> None:
        try:
            context.prompts.pull(deadline)
        except Unsigned as error:
            context.prompts.distrust = str(error)

    return beside(lambda: context.quietly(work))


def sync_before(context: Context, run: Run) -> bool:
    """All that happens before Codex starts; returns whether it may."""
    notes = beside(run.begin)
    prompts = pull_prompts(context)
    may_start = auth_before(context.sync, own_fqdn())
    if prompts:
        prompts.join(PROMPTS_SECONDS)
    if context.prompts.distrust:
        say(context.prompts.distrust)
    if notes:
        notes.join()
    if may_start and not context.sync.note.keeps and context.sync.current() is None:
        # Another run, the last one before this, has taken it away meanwhile.
        may_start = auth_before(context.sync, own_fqdn())
    context.note_contact()
    if may_start and context.sync.answer:
        try:
            if update_wrapper(context.api, context.sync.versions()):
                say("cdx is updated to %s" % context.sync.versions().get("wrapper_version"))
        except SyncError as error:
            say(str(error))
        install_wanted(context)
        show_quota(context.sync.answer)
    # A run may take hours, and the server closes idle connections.
    context.api.close()
    context.prompts.api.close()
    return may_start


def install_wanted(context: Context) -> None:
    """Install the Codex that the server names, where it is to be."""
    if not may_want_codex(context.build, context.sync.versions()):
        return
    later()
    seconds = UPDATE_SECONDS if context.build.program else FIRST_INSTALL_SECONDS
    if update_codex(context.home, context.build, context.sync.versions(), seconds):
        context.build = Build(context.home)


def sync_after(context: Context, run: Run, taps: Taps, arguments: list[str], held: str | None) -> None:
    """Send what the run has changed and used. Never fails the run; what cannot be sent is sent by the next."""
    if run.was_uninstalled():
        return
    sync = context.sync
    try:
        source = run.collect(context.spool, lambda: taps.usage(arguments, context.home))
        if source:
            context.build.remember(**{"sessions" if source == "sessions" else "prints": True})
    except (SyncError, OSError) as error:
        say(str(error))
    run.end()
    # From here on a signal ends the wrapper's own work: everything is on disk.
    end_tidily()
    try:
        now = sync.current()
        if now is not None and (now != held or sync.server_is_behind):
            sync.run()
    except NotTaken as error:
        if sync.is_news():
            say("%s; this login stays on this host" % error)
    except SyncError as error:
        say("auth.json could not be synced after the run (%s); the next run tries again" % error)
        if isinstance(error, (Offline, Refused)):
            return
    try:
        context.prompts.api = context.api
        context.prompts.push()
        context.spool.send(context.api)
    except (SyncError, OSError) as error:
        say("some of the usage or prompts could not be sent (%s); the next run tries again" % error)


def sync_only() -> int:
    """`--wrapper-sync`: returns the exit code."""
    context = Context()
    sync = context.sync
    recover_logins(context.home)
    sync.note.change(logged_out=None)
    try:
        sync.run()
        if sync.server_is_behind:
            sync.run()
        text = "%s is in sync with the server" % sync.path
    except NoCredentials:
        text = (
            "the fleet has no auth.json yet. Log in here with: cdx login   or on the server: cdxsync auth upload FILE"
        )
    except NotTaken as error:
        sync.is_news()
        text = "%s; this login stays on this host" % error
    except Refused as error:
        say_refused(error, own_fqdn())
        return 1
    finally:
        drop_credentials(context.home, sync.note)
    context.note_contact()
    say(text)
    context.prompts.api = context.api
    try:
        try:
            context.prompts.pull()
        except Unsigned as error:
            say(str(error))
        context.prompts.push()
        sweep(context)
        context.spool.send(context.api)
    except (SyncError, OSError) as error:
        say("the sync is incomplete (%s); the next run tries again" % error)
    keep_compiled()
    return 0


def update_now() -> int:
    """`--update`: returns the exit code, 0 when cdx is what the server has now."""
    later()
    context = Context()
    try:
        context.sync.look()
        update_wrapper(context.api, context.sync.versions(), forced=True)
    except Refused as error:
        say_refused(error, own_fqdn())
        return 1
    say("cdx is the server's version %s" % context.sync.versions().get("wrapper_version"))
    with contextlib.suppress(OSError):
        os.unlink(notes_path(context.home))
    update_codex(context.home, context.build, context.sync.versions(), INSTALL_SECONDS)
    say_newer(context.build, context.sync.versions())
    return 0


def run_codex(arguments: list[str]) -> int:
    """Sync, run Codex, sync; does not return when Codex has run."""
    wrapper = loop(arguments) or (find_codex() if unmarked_loop(arguments) else None)
    if wrapper:
        say_loop(wrapper)
        return 126
    program = find_codex() if answers_by_itself(arguments) else None
    if program:
        for_another_program()
        environment = program_environment(child_environment(), program, arguments)
        os.execve(program, ["codex", *arguments], environment)  # noqa: S606
    leaves_daemon = daemon_wanted()
    context = Context()
    command = login_command(arguments)
    if command and context.build.program:
        later()
        if command == "login":
            log_in(context, arguments)
        log_out(context, arguments)
    recover_logins(context.home)
    drop_credentials(context.home, context.sync.note)
    run = Run(context.home, arguments)
    may_start = sync_before(context, run)
    if context.build.program is None:
        say("Codex is not installed. Install it with: npm install -g @openai/codex")
        return give_up(context, run, 127)
    if not may_start and command_of(arguments) not in WITHOUT_CREDENTIALS:
        return give_up(context, run, 1)
    try:
        settled = context.sync.settled
        held = settled[1] if settled else context.sync.current()
        grant = holds_grant(LocalDocument(context.sync.path).document)
    except Unreadable:
        held, grant = None, False  # it was said already
    taps = Taps(plan_taps(arguments, context.build.version, context.build.notes), arguments)
    watcher = Watcher(context, run, held)
    # Codex learns where to exchange grants when it starts, and only then.
    watcher.sync.takes_grants = grant
    environment = codex_environment(context.server, context.home, grant)
    if leaves_daemon and not context.sync.note.keeps:
        say("CDX_DAEMON does not count here: this host keeps no credentials, and a background server would")
        leaves_daemon = False
    given = arguments if leaves_daemon else without_daemon(context.build, arguments)
    codex = Codex(context.build.program, codex_arguments(context.sync.note, given), taps, environment)

    def started(child: int) -> None:
        run.started(child)
        watcher.start()

    try:
        status = codex.run(started)
    except OSError as error:
        say("cannot start %s: %s. Run: cdx --doctor" % (context.build.program, error.strerror))
        return give_up(context, run, 126)
    before, held = held, watcher.stop()
    # What was shared while Codex could not exchange a grant is to be held with one from now on.
    late = context.sync.login.get("refresh") == "server" and not grant and held != before
    context.sync.server_is_behind = watcher.sync.server_is_behind or late
    try:
        sync_after(context, run, taps, arguments, held)
    except Ended:
        pass
    except Exception as error:
        # Whatever it is, the run itself was not ours to fail.
        say("the sync after the run failed (%s: %s); the next run tries again" % (type(error).__name__, error))
    drop_credentials(context.home, context.sync.note)
    leave(status)


def say_loop(wrapper: str) -> None:
    """Say that a program on PATH is not Codex but starts cdx."""
    real = find_codex(but=wrapper)
    there = "; there is one at %s" % real if real else "; to install it: npm install -g @openai/codex"
    say("%s is started as Codex, and starts cdx again. Let it start Codex by its full path%s" % (wrapper, there))


def give_up(context: Context, run: Run, code: int) -> int:
    """End a run whose Codex does not start; returns its exit code."""
    run.end()
    drop_credentials(context.home, context.sync.note)
    return code


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    end_tidily()
    try:
        code = run_command(arguments)
        end_at_once()
    except Ended as error:
        die_by(error.number)
    return code if shown() else code or 1


def run_command(arguments: list[str]) -> int:
    """Run cdx's own command, or Codex; returns the exit code. Raises Ended at a signal."""
    own = ("--debug", "--verbose")
    while arguments and (arguments[0] in own or (arguments[0] in ("--update", "-U") and set(own) & set(arguments))):
        os.environ["CODEX_DEBUG"] = "1"
        arguments = [word for word in arguments[:2] if word not in own] + arguments[2:]
    first = arguments[0] if arguments else ""
    if first == "--wrapper-help":
        show(HELP)
        return 0
    if first in ("--wrapper-version", "-W"):
        show("cdx wrapper %s\n" % WRAPPER_VERSION)
        return 0
    try:
        return own_command(first, arguments[1:]) if first in OWN_COMMANDS else run_codex(arguments)
    except SyncError as error:
        say(str(error))
        return 1
    except Exception as error:
        if os.environ.get("CODEX_DEBUG", "0") not in ("", "0"):
            raise
        say("%s: %s. This should not happen; CODEX_DEBUG=1 shows where it does" % (type(error).__name__, error))
        return 1


def own_command(name: str, arguments: list[str]) -> int:
    """Run one of `OWN_COMMANDS`; returns the exit code. Raises SyncError, and Ended at a signal."""
    if name == "--wrapper-sync":
        return sync_only()
    # The self-test too, so that a cdx that would fail here is not installed.
    later()
    if name in ("--status", "--doctor", "--watch"):
        keep_compiled()
    commands: dict[str, Callable[[], int]] = {
        "--wrapper-self-test": self_test,
        "--watch": lambda: watch(arguments),
        "--status": show_status,
        "--doctor": lambda: Doctor().run(),
        "--update": update_now,
        "-U": update_now,
        "--uninstall": lambda: uninstall(arguments),
        "--wrapper-install-codex": lambda: install_codex_now(arguments),
    }
    return commands[name]()
