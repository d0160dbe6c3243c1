"""`cdx --uninstall`: removes this host from the fleet, and cdx from this host."""

from __future__ import annotations

import contextlib
import os
import sys

from cdxsync.wrapper.src.accounts import holds_grant
from cdxsync.wrapper.src.api import Api
from cdxsync.wrapper.src.background import watch_path
from cdxsync.wrapper.src.boot import compiled_folder
from cdxsync.wrapper.src.codex import find_codex
from cdxsync.wrapper.src.codex_install import version_folders
from cdxsync.wrapper.src.context import Context, own_fqdn
from cdxsync.wrapper.src.daemon import daemon_processes, end_daemon
from cdxsync.wrapper.src.document import LocalDocument
from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.file_trouble import Unreadable
from cdxsync.wrapper.src.files import codex_home, read_json, remove, user_home
from cdxsync.wrapper.src.login_note import LoginNote
from cdxsync.wrapper.src.messages import say, tell
from cdxsync.wrapper.src.runs import Run
from cdxsync.wrapper.src.spool import Spool
from cdxsync.wrapper.src.sweep import sweep
from cdxsync.wrapper.src.sync import BEFORE_NAME
from cdxsync.wrapper.src.watch import remove_watch

OWN_NAMES = ("auth.json", ".cdx", ".prompt-baseline.json", "sync.env")


def uninstall(arguments: list[str]) -> int:
    """`--uninstall`: deregister this host and remove cdx, Codex and its folder; returns the exit code."""
    home = os.path.realpath(codex_home())
    before = os.path.join(home, BEFORE_NAME)
    stays = login_that_stays(home)
    paths = leftovers(home, stays)
    say("this deregisters %s and permanently removes:" % own_fqdn())
    for path in paths:
        tell("       %s\n" % path)
    if stays:
        say("%s stays: %s" % (os.path.join(home, "auth.json"), stays))
    elif os.path.exists(before):
        say("the login that was here before the fleet's is put back as %s" % os.path.join(home, "auth.json"))
    synced_by = read_json(watch_path(home)).get("what")
    if synced_by:
        say("the background sync goes: %s" % synced_by)
    for pid, what in daemon_processes(home):
        say("Codex's %s of this home ends (process %d)" % (what, pid))
    waiting = len(Spool(home).paths())
    if waiting:
        say("%d runs wait to be reported: without the server their usage is lost" % waiting)
    if Run(home, []).others():
        say("a run of cdx goes on in this home: what it uses from now on is not counted")
    if "--yes" not in arguments and not agreed():
        say("nothing was removed")
        return 1
    # Both have the login, and would write into the home that is removed.
    problems = bool(remove_watch(tell=False))
    problems = end_daemon(home) or problems
    problems = deregister() or problems
    for path in paths:
        problem = remove(path)
        if problem:
            problems = True
            say("%s: %s" % (path, problem))
    if not stays and os.path.exists(before):
        try:
            os.replace(before, os.path.join(home, "auth.json"))
        except OSError as error:
            problems = True
            say("%s: %s" % (before, error.strerror))
    say("Done, except for the problems above." if problems else "Done.")
    return 1 if problems else 0


def login_that_stays(home: str) -> str:
    """Why the login in auth.json is not removed, as nowhere else is one like it; an empty text for the fleet's."""
    try:
        document = LocalDocument(os.path.join(home, "auth.json")).document
    except Unreadable as error:
        return "whose login it is is not known, as cdx %s" % error
    if document is None or holds_grant(document):
        return ""
    if LoginNote(home).is_private(document):
        return "it is a login of this host, and not the fleet's"
    with contextlib.suppress(SyncError):
        if Context().sync.look() == "upload_required":
            return "it is newer than the server's; to share it, on the server: cdxsync auth upload FILE"
    return ""


def leftovers(home: str, stays: str) -> list[str]:
    """What uninstalling removes, as far as it is there; cdx itself comes last.

    Of the home all goes but a login that `stays`, or was there before the fleet's. A cdx in a user's home leaves alone
    what was installed for the whole machine.
    """
    user, own = user_home(), os.path.realpath(__file__)
    prefix = os.path.dirname(os.path.dirname(own))
    kept = [name for name in os.listdir(home) if name.startswith(BEFORE_NAME) or (stays and name == "auth.json")]
    names = os.listdir(home) if removable_home(home, user) else OWN_NAMES
    paths = [os.path.join(home, name) for name in sorted(names) if name not in kept]
    if removable_home(home, user) and not kept:
        paths = [home]
    program = find_codex()
    if program and any(os.path.realpath(program).startswith(folder + os.sep) for folder in version_folders(user)):
        paths.append(program)
    paths += [os.path.join(prefix, "bin/codex"), os.path.join(prefix, "lib/node_modules/@openai/codex")]
    paths += [version_folders(user)[0], os.path.join(prefix, "lib/cdx")]
    paths += [compiled_folder()] if compiled_folder() else []
    if prefix == "/usr/local":
        paths += [version_folders(user)[1], "/opt/codex", "/usr/local/etc/codex-sync.env", "/etc/codex-sync.env"]
    login = os.path.join(home, "auth.json")
    if os.path.islink(login) and os.path.isfile(login) and not stays:
        # What it leads to would be left on the disk.
        paths.append(os.path.realpath(login))
    found = [path for path in [*paths, own] if os.path.lexists(path) and os.access(os.path.dirname(path), os.W_OK)]
    return sorted(set(found), key=found.index)


def removable_home(home: str, user: str) -> bool:
    """Whether a folder is Codex's own, and not one that holds more."""
    return not (os.path.realpath(user) + os.sep).startswith(home.rstrip(os.sep) + os.sep) and any(
        os.path.lexists(os.path.join(home, name)) for name in ("auth.json", "config.toml", ".cdx")
    )


def agreed() -> bool:
    """Ask on the terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        say("No terminal to confirm on; add --yes.")
        return False
    tell("cdx: Continue? [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def deregister() -> bool:
    """Report what was used and leave the fleet; returns whether that failed. No login is sent."""
    try:
        context = Context()
        try:
            sweep(context, last=True)
            context.spool.send(context.api)
        except SyncError as error:
            lost = len(context.spool.paths())
            if lost:
                say("the usage of %d runs could not be reported, and is lost: %s" % (lost, error))
        Api.data(*context.api.request("DELETE", "/auth?force=1")[::2])
    except SyncError as error:
        say(
            "the server still knows this host (%s); ask your admin to run: cdxsync hosts delete %s"
            % (error, own_fqdn())
        )
        return True
    return False
