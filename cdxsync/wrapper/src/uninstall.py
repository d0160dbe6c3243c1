"""`cdx --uninstall`: removes this host from the fleet, and cdx from this host."""

from __future__ import annotations

import contextlib
import os
import sys

from cdxsync.wrapper.src.api import Api
from cdxsync.wrapper.src.boot import compiled_folder
from cdxsync.wrapper.src.codex import find_codex
from cdxsync.wrapper.src.codex_install import version_folders
from cdxsync.wrapper.src.context import Context, own_fqdn
from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.files import codex_home, remove, user_home
from cdxsync.wrapper.src.messages import say

OWN_NAMES = ("auth.json", ".cdx", ".prompt-baseline.json", "sync.env")


def uninstall(arguments: list[str]) -> int:
    """`--uninstall`: deregister this host and remove cdx, Codex and its folder; returns the exit code."""
    home = os.path.realpath(codex_home())
    paths = leftovers(home)
    say("this deregisters %s and permanently removes:" % own_fqdn())
    for path in paths:
        sys.stderr.write("       %s\n" % path)
    if "--yes" not in arguments and not agreed():
        say("nothing was removed")
        return 1
    problems = deregister()
    for path in paths:
        problem = remove(path)
        if problem:
            problems = True
            say("%s: %s" % (path, problem))
    say("Done, except for the problems above." if problems else "Done.")
    return 1 if problems else 0


def leftovers(home: str) -> list[str]:
    """What uninstalling removes, as far as it is there; cdx itself comes last.

    A cdx in a user's home leaves alone what was installed for the whole machine.
    """
    user, own = user_home(), os.path.realpath(__file__)
    prefix = os.path.dirname(os.path.dirname(own))
    paths = [home] if removable_home(home, user) else [os.path.join(home, name) for name in OWN_NAMES]
    program = find_codex()
    if program and any(os.path.realpath(program).startswith(folder + os.sep) for folder in version_folders(user)):
        paths.append(program)
    paths += [os.path.join(prefix, "bin/codex"), os.path.join(prefix, "lib/node_modules/@openai/codex")]
    paths.append(version_folders(user)[0])
    paths += [compiled_folder()] if compiled_folder() else []
    if prefix == "/usr/local":
        paths += [version_folders(user)[1], "/opt/codex", "/usr/local/etc/codex-sync.env", "/etc/codex-sync.env"]
    found = [path for path in [*paths, own] if os.path.lexists(path) and os.access(os.path.dirname(path), os.W_OK)]
    return sorted(set(found), key=found.index)


def removable_home(home: str, user: str) -> bool:
    """Whether a folder is Codex's own, and not one that holds more."""
    return not (os.path.realpath(user) + os.sep).startswith(home.rstrip(os.sep) + os.sep) and any(
        os.path.lexists(os.path.join(home, name)) for name in ("auth.json", "config.toml", ".cdx")
    )


def agreed() -> bool:
    """Ask on the terminal."""
    if not sys.stdin.isatty():
        say("No terminal to confirm on; add --yes.")
        return False
    sys.stderr.write("cdx: Continue? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def deregister() -> bool:
    """Send what is still to be sent and leave the fleet; returns whether that failed."""
    try:
        context = Context()
        with contextlib.suppress(SyncError):
            context.sync.run()
        with contextlib.suppress(SyncError):
            context.spool.send(context.api)
        Api.data(*context.api.request("DELETE", "/auth?force=1")[::2])
    except SyncError as error:
        say(
            "the server still knows this host (%s); ask your admin to run: cdxsync hosts delete %s"
            % (error, own_fqdn())
        )
        return True
    return False
