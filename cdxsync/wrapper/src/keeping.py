"""Hosts that keep no credentials: what the fleet has given goes when the last run of a home ends."""

from __future__ import annotations

import os

from cdxsync.wrapper.src.document import LocalDocument
from cdxsync.wrapper.src.file_trouble import FileTrouble, Unreadable
from cdxsync.wrapper.src.files import locked, own_folder, take_away
from cdxsync.wrapper.src.login_note import LoginNote
from cdxsync.wrapper.src.messages import debug, say
from cdxsync.wrapper.src.runs import Run


def drop_credentials(home: str, note: LoginNote) -> None:
    """Remove the fleet's login where it may not stay and no run of this home goes on. A private one stays."""
    if note.keeps:
        return
    note.load()
    path = os.path.join(home, "auth.json")
    with locked(os.path.join(own_folder(home), "keep.lock")):
        try:
            document = LocalDocument(path).document
        except Unreadable as error:
            debug(str(error))
            return
        stays = document is None or note.is_private(document)
        if note.keeps or stays or Run(home, []).others():
            return
        problem = take_away(path)
    if problem:
        say("as this host's admin wants it, %s" % FileTrouble("remove", path, problem))
    else:
        debug("%s is removed: this host keeps no credentials" % path)
