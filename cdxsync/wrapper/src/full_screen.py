"""Which runs open Codex's full-screen program: under cdx these use no daemon of Codex.

A daemon would go on with the login and the environment that it was started with, outlive the terminal, and hold the
session files open in the place of the program that is run here.
"""

from __future__ import annotations

import os

from cdxsync.wrapper.src.codex import Build
from cdxsync.wrapper.src.codex_command import OTHER_COMMANDS, before_dashes, command_index
from cdxsync.wrapper.src.errors import SyncError

DAEMON_FEATURE = "daemon_auto_start"
NO_DAEMON = "--no-daemon"


def daemon_wanted() -> bool:
    """Whether the user leaves Codex its daemon. Raises SyncError for a value that says neither."""
    value = os.environ.get("CDX_DAEMON", "")
    if value not in ("", "0", "1"):
        raise SyncError("CDX_DAEMON must be 1 (leave Codex its background server) or 0, not %s" % value[:40])
    return value == "1"


def without_daemon(build: Build, arguments: list[str]) -> list[str]:
    """The arguments by which a full-screen run of this build uses no daemon; as they are for any other run.

    What the user says of the daemon stands, and a server that --remote names is the user's choice as well. A build
    without the option starts no daemon by itself.
    """
    command = full_screen_command(arguments)
    if command is None or says_of_daemon(arguments) or not build.takes(NO_DAEMON, *command):
        return arguments
    return [NO_DAEMON, *arguments]


def full_screen_command(arguments: list[str]) -> list[str] | None:
    """The command whose help tells of the full-screen program's options, as a list; None for a run that has none."""
    # What opens it is no word, a prompt, `resume`, `fork` or `agents`. A command that is not known here is taken for a
    # prompt: before a command Codex takes the option, whatever the command is.
    index = command_index(arguments)
    name = arguments[index] if index is not None else ""
    if name in OTHER_COMMANDS:
        return None
    # Older versions take the option for all but this one, which is a view of the daemon there.
    return ["agents"] if name == "agents" else []


def says_of_daemon(arguments: list[str]) -> bool:
    """Whether the user has said whether a daemon is used, or which server is."""
    option = ""
    for word in before_dashes(arguments):
        name, equals, value = word.partition("=")
        if word == NO_DAEMON or name == "--remote":
            return True
        if option or (equals and name in ("--config", "--enable", "--disable")) or word.startswith("-c"):
            said = word if option or word.startswith("-c") else value
            if DAEMON_FEATURE in said:
                return True
        option = word if word in ("-c", "--config", "--enable", "--disable") else ""
    return False
