"""Hosts that keep no credentials: what the fleet has given goes when the last run of a home ends."""

from __future__ import annotations

import os

from cdxsync.wrapper.src.document import LocalDocument
from cdxsync.wrapper.src.files import locked, own_folder, remove
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
        document = LocalDocument(path).document
        stays = document is None or note.is_private(document)
        if note.keeps or stays or Run(home, []).others():
            return
        problem = remove(os.path.realpath(path))
    if problem:
        say("%s cannot be removed, as this host's admin wants it: %s" % (path, problem))
    else:
        debug("%s is removed: this host keeps no credentials" % path)
