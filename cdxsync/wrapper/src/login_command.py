"""`cdx login` and `cdx logout`: Codex does them, and can revoke nothing of the fleet's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.codex import Codex, leave
from cdxsync.wrapper.src.codex_command import command_index
from cdxsync.wrapper.src.codex_settings import credentials_store, other_logins
from cdxsync.wrapper.src.context import Context, own_fqdn
from cdxsync.wrapper.src.daemon import tell_of_daemon
from cdxsync.wrapper.src.document import LocalDocument
from cdxsync.wrapper.src.errors import NotTaken, Refused, SyncError
from cdxsync.wrapper.src.file_trouble import FileTrouble
from cdxsync.wrapper.src.files import child_environment, take_away
from cdxsync.wrapper.src.handover import FILE_STORE
from cdxsync.wrapper.src.keeping import drop_credentials
from cdxsync.wrapper.src.login_home import LoginHome, adopt, brought_note, recover_logins
from cdxsync.wrapper.src.messages import say
from cdxsync.wrapper.src.sync import Sync, remedy
from cdxsync.wrapper.src.taps import Taps

if TYPE_CHECKING:
    from typing import NoReturn

# The wait status of a process that ended with 1.
FAILED_STATUS = 1 << 8


def run_in(place: LoginHome, context: Context, arguments: list[str]) -> int:
    """Run Codex in that folder, with its login in a file; returns the wait status."""
    index = command_index(arguments) or 0
    if context.sync.note.file_store or credentials_store(context.home) != "file":
        # Elsewhere it would be filed under the name of a folder that is soon gone.
        arguments = [*arguments[:index], *FILE_STORE, *arguments[index:]]
    environment = dict(child_environment(), CODEX_HOME=os.path.abspath(place.path))
    program = str(context.build.program)
    try:
        return Codex(program, arguments, Taps([], arguments), environment).run(lambda _child: None)
    except OSError as error:
        raise SyncError("cannot start %s: %s. Run: cdx --doctor" % (program, error.strerror)) from None


def log_in(context: Context, arguments: list[str]) -> NoReturn:
    """`cdx login`. The login that is here stays until Codex has another one; that is then sent to the server."""
    recover_logins(context.home)
    place = LoginHome(context.home)
    taken = False
    status = FAILED_STATUS
    try:
        status = run_in(place, context, arguments)
        made = adopt(context.home, place.auth_path)
        taken = True
    except SyncError as error:
        if LocalDocument(place.auth_path).document is None:
            raise
        if place.elsewhere:
            say(str(error))
            taken = share_from(place, context)
            made, status = False, status if taken else FAILED_STATUS
        else:
            raise SyncError("%s; the new login is kept, and the next run takes it up" % error) from None
    finally:
        place.close(keep=not taken)
    if made:
        say(share(context))
        for text, _ in other_logins(context.home, context.sync.note.file_store):
            say(text)
        tell_of_daemon(context.home)
        drop_credentials(context.home, context.sync.note)
    leave(status)


def share_from(place: LoginHome, context: Context) -> bool:
    """Send a login that this host cannot keep; returns whether the fleet has it. Says what became of it."""
    sync = Sync(context.api, place.path, context.build.version)
    sync.note.change(brought=brought_note(LocalDocument(place.auth_path).document or {}))
    try:
        sync.run()
    except SyncError as error:
        say("this login is in %s alone, as it could not be shared: %s" % (place.auth_path, error))
        return False
    say("this login is shared with the fleet, but this host cannot keep it")
    return True


def share(context: Context) -> str:
    """Send the login that was just made here; returns what became of it."""
    try:
        context.sync.run()
    except NotTaken as error:
        context.sync.is_news()
        return "%s; this login stays on this host" % error
    except Refused as error:
        return "this login stays on this host until the server takes it: %s. %s" % (error, remedy(error, own_fqdn()))
    except SyncError as error:
        return "this login stays on this host for now (%s); the next run sends it" % error
    finally:
        context.note_contact()
    return "this login is shared with the fleet"


def note_logout(context: Context) -> None:
    """Remember that this host is logged out."""
    context.sync.note.load()
    context.sync.note.change(logged_out=True, brought=None, own=None)


def log_out(context: Context, arguments: list[str]) -> NoReturn:
    """`cdx logout`. Codex has an empty file to delete; when it has, the login that is here goes, and stays away."""
    recover_logins(context.home)
    place = LoginHome(context.home, b"{}\n")
    try:
        status = run_in(place, context, arguments)
        done = status == 0 and not os.path.lexists(place.auth_path)
    finally:
        place.close()
    if done:
        note_logout(context)
        problem = take_away(context.sync.path)
        # A run beside this one may have been in step until now.
        note_logout(context)
        if problem:
            say("this host is not logged out: %s" % FileTrouble("remove", context.sync.path, problem))
            status = status or FAILED_STATUS
        else:
            say("this host is logged out until: cdx login   or, for the fleet's login: cdx --wrapper-sync")
        if credentials_store(context.home) != "file":
            say("what Codex keeps outside auth.json stays; `codex logout` removes it")
        tell_of_daemon(context.home)
    leave(status)
