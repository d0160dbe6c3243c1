"""A folder in the place of CODEX_HOME, in which Codex logs in or out without the login that is here."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.accounts import account_of, same_account
from cdxsync.wrapper.src.document import LocalDocument, document_digest
from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.file_trouble import Unreadable, Unwritable, trouble
from cdxsync.wrapper.src.files import locked, put_file, read_regular, remove, replace_file
from cdxsync.wrapper.src.login_note import LoginNote
from cdxsync.wrapper.src.messages import debug, say
from cdxsync.wrapper.src.sync import before_names, keep_before

if TYPE_CHECKING:
    from typing import Any, Iterator

FOLDER = "logins"


class LoginHome:
    """All that is in the home, by links, but for auth.json and cdx's notes.

    `codex logout`, and `codex login` before it begins, revoke what they find in auth.json and delete it. Here they find
    nothing, and the file of the home stays as it is until there is another login, however this ends.
    """

    def __init__(self, home: str, content: bytes | None = None) -> None:
        self.home = home
        parent = os.path.join(home, ".cdx", FOLDER)
        # Of the system's folder for such, when nothing can be written in the home.
        self.elsewhere: str | None = None
        try:
            try:
                self._make(parent)
            except OSError as error:
                if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                    raise
                import tempfile

                parent = self.elsewhere = tempfile.mkdtemp(prefix="cdx-login-")
                self._make(parent)
            for name in os.listdir(home):
                if name != ".cdx" and not name.startswith(("auth.json", "auth.lock")):
                    os.symlink(os.path.join(os.path.realpath(home), name), os.path.join(self.path, name))
            if content is not None:
                replace_file(self.auth_path, content)
        except OSError as error:
            cause, fix = trouble(parent, error, folder=True)
            raise SyncError("cannot prepare %s: %s%s" % (parent, cause, " (%s)" % fix if fix else "")) from None

    def _make(self, parent: str) -> None:
        self.path = os.path.join(parent, os.urandom(8).hex())
        self.auth_path = os.path.join(self.path, "auth.json")
        os.makedirs(parent, mode=0o700, exist_ok=True)
        with locked(parent + ".lock"):
            os.mkdir(self.path, 0o700)
            # Codex inherits it: the folder is in use as long as one of the two lives.
            self.descriptor = os.open(self.path, os.O_RDONLY)
            os.set_inheritable(self.descriptor, True)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def close(self, keep: bool = False) -> None:
        """Remove it; with `keep` not a login that is in it, which `recover_logins` takes up in the home."""
        if not keep or LocalDocument(self.auth_path).document is None:
            remove(self.path)
            if self.elsewhere:
                remove(self.elsewhere)
                remove(self.elsewhere + ".lock")
        os.close(self.descriptor)


def adopt(home: str, path: str) -> bool:
    """Make the login in the file `path` that of the home, to be sent as one that was made here; whether there is one.

    A private login of another account that gives way to it is kept.
    """
    new = LocalDocument(path)
    if new.document is None:
        return False
    data = read_regular(path)[0]
    note = LoginNote(home)
    target = os.path.join(home, "auth.json")
    account = account_of(new.document)
    try:
        old = readable(target)
        # Plain `codex login` may have made one that cdx has not seen yet.
        private = note.own or not note.synced or not same_account(account_of(old or {}), note.fleet)
        if old is not None and private and not same_account(account_of(old), account):
            say("the login that was here is kept in %s" % keep_before(home, read_regular(target)[0]))
        note.change(brought=brought_note(new.document), logged_out=None, own=None)
        put_file(os.path.realpath(target), data)
    except OSError as error:
        raise Unwritable(target, error) from None
    return True


def brought_note(document: dict[str, Any]) -> dict[str, Any]:
    """What `LoginNote` remembers of a login that was made here, and that the server has not heard of."""
    account = account_of(document)
    return {
        "account": list(account) if account else None,
        "digest": document_digest(document),
        "date": document["last_refresh"],
    }


def readable(target: str) -> dict[str, Any] | None:
    """The login in a file. What cannot be read is moved out of the way, where that can be done, so that it is kept."""
    try:
        return LocalDocument(target).document
    except Unreadable as error:
        kept = next(path for path in before_names(os.path.dirname(target)) if not os.path.lexists(path))
        try:
            os.rename(target, kept)
        except OSError:
            debug(str(error))
        else:
            say("what was in the place of %s is kept as %s" % (target, kept))
        return None


def recover_logins(home: str) -> None:
    """Take up logins whose cdx was killed, and remove what they have left behind."""
    parent = os.path.join(home, ".cdx", FOLDER)
    if not os.path.isdir(parent):
        return
    with locked(parent + ".lock"):
        for path in unused(parent):
            try:
                if adopt(home, os.path.join(path, "auth.json")):
                    say("a login that was cut off is taken up")
            except SyncError as error:
                say("a login that was cut off waits in %s: %s" % (path, error))
            else:
                remove(path)


def unused(parent: str) -> Iterator[str]:
    """The folders of logins that no process is in, those of the last login last."""
    with contextlib.suppress(OSError):
        paths = [os.path.join(parent, name) for name in os.listdir(parent)]
        for path in sorted(paths, key=os.path.getmtime):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                finally:
                    os.close(descriptor)
                yield path
