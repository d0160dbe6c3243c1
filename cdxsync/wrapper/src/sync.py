"""Syncs auth.json with the server's."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.api import Api
from cdxsync.wrapper.src.baked import WRAPPER_VERSION
from cdxsync.wrapper.src.document import LocalDocument, document_digest, parse_time
from cdxsync.wrapper.src.errors import NoCredentials, NotPermitted, NotTaken, Offline, Refused, Rejected, SyncError
from cdxsync.wrapper.src.files import file_identity, replace_file
from cdxsync.wrapper.src.messages import debug, say

if TYPE_CHECKING:
    from typing import Any

    from cdxsync.wrapper.src.files import Identity

OFFLINE_LIMIT_SECONDS = 24 * 3600
FUTURE_TOLERANCE_SECONDS = 300


class Sync:
    """Syncs auth.json with the fleet's canonical document."""

    def __init__(self, api: Api, home: str, client_version: str, quiet: bool = False) -> None:
        self.api = api
        self.path = os.path.join(home, "auth.json")
        self.client_version = client_version
        self.quiet = quiet
        self.server_is_behind = False
        self.answer: dict[str, Any] = {}
        # The file that the server is in sync with: its identity and its document's digest.
        self.settled: tuple[Identity | None, str | None] | None = None

    def run(self) -> None:
        """Pull or push, whichever is newer. Raises SyncError; the local file is never lost."""
        self.settled = None
        for _ in range(3):
            local = LocalDocument(self.path)
            status = self._ask("retrieve", **local.claim)
            if status in ("missing", "upload_required"):
                if local.document is None:
                    raise NoCredentials()
                try:
                    status = self._ask("store", auth=local.document)
                except NotPermitted:
                    raise
                except Rejected as error:
                    raise NotTaken(str(error)) from None
                if status in ("updated", "unchanged"):
                    # The local file is the fleet's now. That the answer has a synthesised `auths` makes no other
                    # document of it.
                    self._settle(local.identity, local.document)
                    return
            elif status == "valid":
                self._settle(local.identity, local.document)
                return
            if status != "outdated" or not isinstance(self.answer.get("auth"), dict):
                raise Offline("the server sent an unknown answer (status %r)" % status)
            document = self.answer.pop("auth")
            identity = self._replace(local, document)
            if identity is not None:
                self._settle(identity, document)
                # The server learns that this host holds the document when it asks the next time.
                self.server_is_behind = True
                return
        raise SyncError("%s keeps changing; try again" % self.path)

    def _settle(self, identity: Identity | None, document: dict[str, Any] | None) -> None:
        self.settled = (identity, None if document is None else document_digest(document))
        self.server_is_behind = False

    def look(self) -> str:
        """What the server says of the local file, while nothing is changed. Raises SyncError."""
        return self._ask("retrieve", **LocalDocument(self.path).claim)

    def _ask(self, command: str, **fields: object) -> str:
        versions = {"client_version": self.client_version, "wrapper_version": WRAPPER_VERSION}
        self.answer = self.api.post("/auth", dict(fields, command=command, **versions))
        debug("the server says %s" % self.answer.get("status"))
        status = self.answer.get("status")
        return status if isinstance(status, str) else ""

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
        if local.unreadable:
            self._keep_aside(path, local)
        data = text.encode("utf-8", "surrogatepass")
        try:
            return replace_file(path, data, unless=lambda: file_identity(self.path) != local.identity)
        except OSError as error:
            raise SyncError("cannot write %s: %s" % (path, error.strerror)) from None

    def _keep_aside(self, path: str, local: LocalDocument) -> None:
        if file_identity(self.path) == local.identity:
            with open(path, "rb") as file:
                replace_file(path + ".unreadable", file.read())
            if not self.quiet:
                say("%s was not a JSON object; the old content is in %s.unreadable" % (self.path, self.path))

    def current(self) -> str | None:
        """What identifies the file's content now, or None without a usable one."""
        local = LocalDocument(self.path)
        return None if local.document is None else document_digest(local.document)

    def offline_problem(self) -> str | None:
        """Why the cached credentials may not be used without the server, or None when they may."""
        local = LocalDocument(self.path)
        if local.document is None:
            return "there are no cached credentials"
        age = time.time() - (parse_time(local.document["last_refresh"]) or 0)
        if age > OFFLINE_LIMIT_SECONDS:
            return "the cached credentials are %d hours old, more than %d" % (
                age // 3600,
                OFFLINE_LIMIT_SECONDS // 3600,
            )
        if age < -FUTURE_TOLERANCE_SECONDS:
            return "the cached credentials are dated in the future; check this machine's clock"
        return None


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
        sync.run()
    except NoCredentials:
        say("the fleet has no auth.json yet. Log in here with: cdx login   (it is then shared with all hosts)")
        say("Or on the server: cdxsync auth upload FILE")
    except Refused as error:
        say_refused(error, fqdn)
        return False
    except NotTaken as error:
        say("%s; this login stays on this host" % error)
    except (Offline, Rejected) as error:
        problem = sync.offline_problem()
        if problem:
            say("%s, and %s" % (error, problem))
            say("Run cdx --doctor to find out why.")
            return False
        say("%s; using the cached credentials" % error)
    return True
