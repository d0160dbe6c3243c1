"""What cdx remembers of the login in a home."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.accounts import account_of, holds_grant, same_account
from cdxsync.wrapper.src.document import document_digest, parse_time
from cdxsync.wrapper.src.files import locked, own_folder, read_json, replace_file
from cdxsync.wrapper.src.messages import debug

if TYPE_CHECKING:
    from typing import Any

    from cdxsync.wrapper.src.accounts import Account


class LoginNote:
    """`login.json` among cdx's own notes. Several processes of a home may change it.

    - `synced`: this home was in step with the fleet before.
    - `fleet`, `grant`: of which account the fleet's login was then, and whether it came with a grant.
    - `own`: the login here is not the fleet's, and why: {`code`, `text`, `account`, `told`}.
    - `brought`: a login that was made here is still to be sent as such: {`account`, `digest`, `date`}.
    - `logged_out`: none is fetched.
    - `keep`: false when none may stay after a run. `file_store`: Codex is told to read auth.json. `outside`: false
      when what sessions outside cdx use is not reported.
    """

    def __init__(self, home: str) -> None:
        self.home = home
        self.path = os.path.join(home, ".cdx", "login.json")
        self.values: dict[str, Any] = {}
        self.load()

    def load(self) -> None:
        """Read it again."""
        self.values = read_json(self.path)
        if "synced" not in self.values:
            # A cdx from before this note was here.
            contact = read_json(os.path.join(self.home, ".cdx", "contact.json"))
            self.values["synced"] = bool(contact.get("synced_at"))

    def change(self, **values: object) -> None:
        """Remember this; None forgets. Durably: what it says of a login must not be lost with it."""
        wanted = dict(self.values)
        for name, value in values.items():
            if value is None:
                wanted.pop(name, None)
            else:
                wanted[name] = value
        if wanted == self.values and os.path.exists(self.path):
            return
        with locked(os.path.join(own_folder(self.home), "login.lock")):
            known = self.values
            self.load()
            for name, value in values.items():
                if value is not None:
                    self.values[name] = value
                elif known.get(name) == self.values.get(name):  # what another process has noted since stays
                    self.values.pop(name, None)
            try:
                replace_file(self.path, json.dumps(self.values).encode())
            except OSError as error:
                debug("%s: %s" % (self.path, error.strerror))

    @property
    def synced(self) -> bool:
        """Whether this home was in step with the fleet before."""
        return bool(self.values.get("synced"))

    @property
    def logged_out(self) -> bool:
        """Whether this host was logged out, and is to stay so."""
        return bool(self.values.get("logged_out"))

    @property
    def keeps(self) -> bool:
        """Whether credentials stay here after a run."""
        return self.values.get("keep") is not False

    @property
    def file_store(self) -> bool:
        """Whether Codex is to be told that its login is in auth.json."""
        return self.values.get("file_store") is True

    @property
    def counts_outside(self) -> bool:
        """Whether what sessions outside cdx use is reported."""
        return self.values.get("outside") is not False

    @property
    def own(self) -> dict[str, Any]:
        """Why the login here is not the fleet's; empty when it is."""
        own = self.values.get("own")
        return own if isinstance(own, dict) else {}

    @property
    def fleet(self) -> Account | None:
        """Of which account the fleet's login was when this home was last in step."""
        return stored_account(self.values.get("fleet"))

    def brings(self, document: dict[str, Any] | None) -> bool:
        """Whether this document, of auth.json, is the login made here that the server has not heard of."""
        brought = self.values.get("brought")
        if not isinstance(brought, dict) or document is None or holds_grant(document):
            return False
        if brought.get("digest") == document_digest(document):
            return True
        # Codex may have refreshed it meanwhile.
        dates = parse_time(document.get("last_refresh")), parse_time(brought.get("date"))
        later = dates[0] is not None and dates[1] is not None and dates[0] > dates[1]
        return later and same_account(account_of(document), stored_account(brought.get("account")))

    def is_private(self, document: dict[str, Any]) -> bool:
        """Whether this document, of auth.json, is not what the fleet has given, as far as it is known."""
        if holds_grant(document):
            return False
        other = bool(self.values.get("grant")) or not same_account(account_of(document), self.fleet)
        return other or bool(self.own) or not self.synced or self.brings(document)

    def in_step(self, document: dict[str, Any]) -> None:
        """This document, now in auth.json, is the fleet's."""
        account = account_of(document)
        fleet = list(account) if account else None
        grant = True if holds_grant(document) else None
        self.change(synced=True, fleet=fleet, grant=grant, own=None, brought=None)
        # Not when it has gone meanwhile: then that is what a logout beside this run has done.
        if os.path.exists(os.path.join(self.home, "auth.json")):
            self.change(logged_out=None)

    def take_settings(self, login: dict[str, Any]) -> None:
        """What the server says that this host is to do with a login."""
        keep = False if login.get("keep") is False else None
        file_store = True if login.get("file_store") is True else None
        outside = False if login.get("outside") is False else None
        told = (keep, file_store, outside)
        if (self.values.get("keep"), self.values.get("file_store"), self.values.get("outside")) != told:
            self.change(keep=keep, file_store=file_store, outside=outside)


def stored_account(value: object) -> Account | None:
    """An account as it was noted."""
    if isinstance(value, list) and len(value) == 3 and all(isinstance(part, str) for part in value):
        return (value[0], value[1], value[2])
    return None
