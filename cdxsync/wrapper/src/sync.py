"""Syncs auth.json with the server's."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.accounts import account_of, expiry_of, holds_grant, same_account, same_login, tokens_of
from cdxsync.wrapper.src.api import Api
from cdxsync.wrapper.src.baked import WRAPPER_VERSION
from cdxsync.wrapper.src.document import LocalDocument, document_digest, format_time, parse_time
from cdxsync.wrapper.src.errors import (
    NoCredentials,
    NotPermitted,
    NotShareable,
    NotTaken,
    Offline,
    OtherAccount,
    Refused,
    Rejected,
    SyncError,
)
from cdxsync.wrapper.src.file_trouble import Unreadable, Unwritable
from cdxsync.wrapper.src.files import file_identity, put_file, read_json, read_regular, replace_file
from cdxsync.wrapper.src.login_note import LoginNote, stored_account
from cdxsync.wrapper.src.messages import debug, say

if TYPE_CHECKING:
    from typing import Any, Iterator

    from cdxsync.wrapper.src.files import Identity

OFFLINE_LIMIT_SECONDS = 24 * 3600
# Codex asks for another access token when this one has less than 5 minutes to go.
EXPIRY_MARGIN_SECONDS = 600
FUTURE_TOLERANCE_SECONDS = 300
# A file that changes meanwhile is looked at again so often, soon at first.
TRIES = 8
PAUSE_SECONDS = 0.05
# What stood here before the fleet's login came.
BEFORE_NAME = "auth.json.before-cdx"


class Sync:
    """Syncs auth.json with the fleet's canonical document.

    A `quiet` one says nothing and leaves the account as it is, because Codex runs.
    """

    def __init__(self, api: Api, home: str, client_version: str, quiet: bool = False) -> None:
        self.api = api
        self.home = home
        self.path = os.path.join(home, "auth.json")
        self.note = LoginNote(home)
        self.client_version = client_version
        self.quiet = quiet
        # What has started a background sync, for the server; empty in a run.
        self.background = ""
        # Whether a grant may be put in place: a Codex that runs was told where to exchange it, or it was not.
        self.takes_grants = True
        self.server_is_behind = False
        self.answer: dict[str, Any] = {}
        # The file that the server is in sync with: its identity and its document's digest.
        self.settled: tuple[Identity | None, str | None] | None = None

    def run(self) -> None:
        """Pull or push, whichever is newer. Raises SyncError; the local file is never lost."""
        self.settled = None
        for turn in range(TRIES):
            # Other runs and their Codex may be writing it, too.
            if turn > 2:
                time.sleep(PAUSE_SECONDS * (turn - 2))
            local = LocalDocument(self.path)
            self.note.load()
            if self._step(local):
                return
        raise SyncError("%s keeps changing; try again" % self.path)

    def _step(self, local: LocalDocument) -> bool:
        """One comparison with the server; returns whether the two are in step, or else it is made once more."""
        if local.document is None and self.note.logged_out:
            raise SyncError("this host was logged out meanwhile")
        if self.note.brings(local.document):
            status = self._store(local, brought=True)
        else:
            status = self._ask("retrieve", **self._claim(local))
            if status == "valid":
                self._settle(local.identity, local.document)
                return True
            if status in ("missing", "upload_required"):
                if local.document is None or holds_grant(local.document):
                    raise NoCredentials()
                status = self._store(local)
        document = self.answer.pop("auth", None)
        if status == "unchanged":
            if not self.note.brings(local.document):
                self._settle(local.identity, local.document)
                return True
            # It is the fleet's login already; what this host is to hold of it is asked for next.
            self.note.change(brought=None)
            return False
        if status not in ("outdated", "updated") or (status == "outdated" and not isinstance(document, dict)):
            raise Offline("the server sent an unknown answer (status %r)" % status)
        if status == "updated" and (not isinstance(document, dict) or is_as_sent(local, document)):
            # The local file is the fleet's now. A synthesised `auths` in the answer makes no other document of it.
            self._settle(local.identity, local.document)
            return True
        return self._take(local, document, stored=status == "updated")

    def _claim(self, local: LocalDocument) -> dict[str, str]:
        """What the server is told of the file. It asks for no private one, nor at the first sync."""
        own = self.note.own
        private = own.get("code") == "other_account" and same_account(
            account_of(local.document or {}), stored_account(own.get("account"))
        )
        return local.claim(newest=self.note.synced and not private)

    def _store(self, local: LocalDocument, brought: bool = False) -> str:
        """Offer the local document; returns the status. Raises NotTaken when it stays the host's own."""
        document = local.document
        assert document is not None
        more: dict[str, object] = {}
        if brought:
            more["brought"] = "login"
            if not local.dated:
                document = dict(document, last_refresh=format_time(time.time()))
        try:
            return self._ask("store", auth=document, **more)
        except Rejected as error:
            kinds = ((NotPermitted, "not_permitted"), (OtherAccount, "other_account"), (NotShareable, "not_shareable"))
            code = next((name for kind, name in kinds if isinstance(error, kind)), "not_taken")
            self._is_own(code, str(error), local)
            if isinstance(error, NotTaken):
                raise
            raise NotTaken(str(error)) from None

    def _is_own(self, code: str, text: str, local: LocalDocument) -> None:
        """Remember that the login here is not the fleet's, and why."""
        account = account_of(local.document or {})
        own = {"code": code, "text": text, "account": list(account) if account else None}
        before = self.note.own
        if (before.get("code"), before.get("account")) == (code, own["account"]):
            own = before  # what the server has said of it, and that it was told
        self.note.change(own=own, brought=None, synced=True)

    def is_news(self) -> bool:
        """Whether the user was not told yet why the login here is not the fleet's; from now on that counts as told."""
        own = self.note.own
        if own.get("told"):
            return False
        if own:
            self.note.change(own=dict(own, told=True))
        return True

    def _take(self, local: LocalDocument, document: dict[str, Any], stored: bool) -> bool:
        """Put the server's document in place; returns whether it was. Raises OtherAccount when the local one stays."""
        held, note = local.document, self.note
        before = None
        if held is not None and holds_grant(document) and not holds_grant(held) and not self.takes_grants:
            if not stored:
                raise NotTaken("Codex was not told where to exchange a grant; it is taken after the run")
            self._settle(local.identity, held)
            return True
        if held is not None and not stored and not holds_grant(held) and not same_login(held, document):
            mine = account_of(held)
            strange = not same_account(mine, account_of(document))
            if strange and note.synced and (note.own or (note.fleet and not same_account(mine, note.fleet))):
                text = "%s holds a login of another account than the fleet's" % self.path
                self._is_own("other_account", text, local)
                raise OtherAccount(text)
            if strange and self.quiet:
                raise NotTaken("the fleet's login is of another account now; the next run takes it")
            if not note.synced or (strange and not note.fleet):
                if self.quiet:
                    raise NotTaken("the first sync is left to the next run")
                before = self._keep_before(local)
        identity = self._replace(local, document)
        if identity is None:
            return False
        if before:
            say("%s has the fleet's login now; what stood there is in %s" % (self.path, before))
        self._settle(identity, document)
        # The server learns that this host holds the document when it asks the next time.
        self.server_is_behind = not stored
        return True

    def _settle(self, identity: Identity | None, document: dict[str, Any] | None) -> None:
        self.settled = (identity, None if document is None else document_digest(document))
        self.server_is_behind = False
        if document is not None:
            self.note.in_step(document)

    def look(self) -> str:
        """What the server says of the local file, while nothing is changed. Raises SyncError."""
        return self._ask("retrieve", **self._claim(LocalDocument(self.path)))

    def _ask(self, command: str, **fields: object) -> str:
        versions = {"client_version": self.client_version, "wrapper_version": WRAPPER_VERSION}
        if self.background:
            fields["background"] = self.background
        self.answer = self.api.post("/auth", dict(fields, command=command, accepts=["grant"], **versions))
        debug("the server says %s" % self.answer.get("status"))
        if self.login:
            self.note.take_settings(self.login)
        status = self.answer.get("status")
        return status if isinstance(status, str) else ""

    @property
    def login(self) -> dict[str, Any]:
        """What the server has said of the fleet's login; empty for older servers."""
        login = self.answer.get("login")
        return login if isinstance(login, dict) else {}

    def versions(self) -> dict[str, Any]:
        """The versions that the server names: an object, empty before the first answer."""
        versions = self.answer.get("versions")
        return versions if isinstance(versions, dict) else {}

    def _replace(self, local: LocalDocument, document: dict[str, Any]) -> Identity | None:
        """Write the server's document, unless the file has changed since it was read as `local`.

        Returns the new file's identity, or None when it was not replaced.
        """
        path = os.path.realpath(self.path)
        text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
        data = text.encode("utf-8", "surrogatepass")
        try:
            if local.unreadable:
                self._keep_aside(path, local)
            return put_file(path, data, unless=lambda: file_identity(self.path) != local.identity)
        except OSError as error:
            raise Unwritable(path, error) from None

    def _keep_aside(self, path: str, local: LocalDocument) -> None:
        if file_identity(self.path) == local.identity:
            replace_file(path + ".unreadable", read_regular(path)[0])
            if not self.quiet:
                say("%s was not a JSON object; the old content is in %s.unreadable" % (self.path, self.path))

    def _keep_before(self, local: LocalDocument) -> str | None:
        """Copy the file, which is not the fleet's, beside it; returns the copy's path, or None when it has changed."""
        try:
            data = read_regular(self.path)[0]
            if file_identity(self.path) != local.identity:
                return None
            return keep_before(self.home, data)
        except OSError as error:
            raise Unwritable(os.path.join(self.home, BEFORE_NAME), error) from None

    def current(self) -> str | None:
        """What identifies the file's content now, or None without a usable one."""
        local = LocalDocument(self.path)
        return None if local.document is None else document_digest(local.document)

    def offline_seconds(self) -> float:
        """For how long the cached credentials can be used without the server; negative when they cannot.

        Raises SyncError where there are none, or their date is wrong.
        """
        document = LocalDocument(self.path).document
        if document is None:
            raise SyncError("there are no cached credentials")
        now = time.time()
        expires = expiry_of(document)
        if expires is not None:
            return expires - EXPIRY_MARGIN_SECONDS - now
        since = parse_time(document["last_refresh"]) or 0.0
        if not tokens_of(document).get("refresh_token"):
            # Nothing in it can be spent: what counts is when the server last knew this host.
            seen = read_json(os.path.join(self.home, ".cdx", "contact.json")).get("synced_at")
            since = max(since, seen if isinstance(seen, (int, float)) else 0.0)
        if since - now > FUTURE_TOLERANCE_SECONDS:
            raise SyncError("the cached credentials are dated in the future; check this machine's clock")
        return since + OFFLINE_LIMIT_SECONDS - now

    def offline_problem(self) -> str | None:
        """Why the cached credentials may not be used without the server, or None when they may."""
        try:
            left = self.offline_seconds()
        except SyncError as error:
            return str(error)
        if left >= 0:
            return None
        if expiry_of(LocalDocument(self.path).document or {}) is not None:
            return "the cached credentials have expired, or do so within %d minutes" % (EXPIRY_MARGIN_SECONDS // 60)
        age = OFFLINE_LIMIT_SECONDS - left
        return "the cached credentials are %d hours old, more than %d" % (age // 3600, OFFLINE_LIMIT_SECONDS // 3600)


def is_as_sent(local: LocalDocument, document: dict[str, Any]) -> bool:
    """Whether the server's document has the refresh token and the date that this host knows it by."""
    sent = local.document or {}
    tokens = (tokens_of(sent).get("refresh_token"), tokens_of(document).get("refresh_token"))
    return tokens[0] == tokens[1] and parse_time(sent.get("last_refresh")) == parse_time(document.get("last_refresh"))


def keep_before(home: str, data: bytes) -> str:
    """Keep what stood in auth.json before the fleet's login, 0600; returns the path. An earlier copy stays."""
    for path in before_names(home):
        with contextlib.suppress(OSError):
            if os.path.lexists(path) and read_regular(path)[0] == data:
                return path
        if not os.path.lexists(path):
            replace_file(path, data)
            return path
    raise AssertionError("there are names without end")


def before_names(home: str) -> Iterator[str]:
    """The names for what stood in auth.json before."""
    path = os.path.join(home, BEFORE_NAME)
    yield path
    for number in itertools.count(2):
        yield "%s.%d" % (path, number)


def remedy(error: SyncError, fqdn: str) -> str:
    """What the user of host `fqdn` can do about an error, or an empty text."""
    return error.remedy % fqdn if error.remedy else ""


def say_refused(error: Refused, fqdn: str) -> None:
    """Say that the server refuses this host, and what to do about it."""
    say("the server refuses this host: %s" % error)
    say(remedy(error, fqdn))


def auth_before(sync: Sync, fqdn: str) -> bool:
    """Sync before a run; returns whether Codex may start. Reports what is wrong."""
    try:
        return sync_auth(sync, fqdn)
    except Unreadable as error:
        # Codex could not read it, either.
        say(str(error))
        return False


def sync_auth(sync: Sync, fqdn: str) -> bool:
    """As `auth_before`. Raises Unreadable."""
    sync.note.load()
    if sync.note.logged_out and sync.current() is None:
        say("this host is logged out. Log in with: cdx login   or take the fleet's login: cdx --wrapper-sync")
        with contextlib.suppress(SyncError):
            sync.look()
        return True
    try:
        sync.run()
    except NoCredentials:
        say("the fleet has no auth.json yet. Log in here with: cdx login   (it is then shared with all hosts)")
        say("Or on the server: cdxsync auth upload FILE")
    except Refused as error:
        say_refused(error, fqdn)
        return False
    except NotTaken as error:
        if sync.is_news():
            say("%s; this login stays on this host" % error)
    except (Offline, Rejected, Unwritable) as error:
        problem = sync.offline_problem()
        if problem:
            say("%s, and %s" % (error, problem))
            say("Run cdx --doctor to find out why.")
            return False
        say("%s; using the cached credentials" % error)
    if sync.login.get("state") == "dead":
        say(str(sync.login.get("message") or "OpenAI has ended the fleet's login. Log in again on one host: cdx login"))
    return True
