"""Keeps usage on disk until the server has acknowledged it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.api import Api
from cdxsync.wrapper.src.claims import keep_claims
from cdxsync.wrapper.src.errors import Later, Rejected, SyncError
from cdxsync.wrapper.src.files import locked, own_folder, paths_in, read_json, replace_file, write_json
from cdxsync.wrapper.src.messages import debug, say

if TYPE_CHECKING:
    from typing import Any, Callable

MAX_SPOOL_FILES = 1000
SPOOL_WAIT_SECONDS = 2.0
# The server remembers a call's Idempotency-Key for seven days.
MAX_AMBIGUOUS_SECONDS = 6 * 86400


class Spool:
    """Usage on disk until the server has acknowledged it: a file for each call, with its Idempotency-Key.

    It says too up to where the session files are counted with it (`Claims`), so that both are kept or neither.
    """

    def __init__(self, home: str) -> None:
        self.home = home
        self.folder = own_folder(home, "spool")

    def paths(self) -> list[str]:
        """The files, oldest first."""
        return paths_in(self.folder, ".json")

    def add(self, key: str, entries: list[dict[str, Any]], files: dict[str, list[Any]] | None = None) -> None:
        """Keep a run's entries; `files` is up to where these count. Raises SyncError when the disk is full."""
        paths = self.paths()
        for path in paths[: max(0, len(paths) - MAX_SPOOL_FILES + 1)]:
            say("more than %d runs could not be reported; the oldest is dropped" % MAX_SPOOL_FILES)
            with contextlib.suppress(OSError):
                os.unlink(path)
        name = "%015d-%s.json" % (time.time() * 1000, key)
        call: dict[str, Any] = {"key": key, "usages": entries}
        if files:
            call["files"] = files
        try:
            replace_file(os.path.join(self.folder, name), json.dumps(call).encode())
        except OSError as error:
            raise SyncError("cannot save the usage in %s: %s" % (self.folder, error.strerror)) from None

    def holds(self, key: str) -> bool:
        """Whether a run's entries are waiting."""
        return any(path.endswith("-%s.json" % key) for path in self.paths())

    def send(self, api: Api, tell: Callable[[str], None] = say) -> None:
        """Send all that waits, oldest first; `tell` says what is lost. Raises SyncError; what was not acknowledged
        stays. What a run adds while another sends is sent by either: whoever finds the other at it waits a moment."""
        until = time.monotonic() + SPOOL_WAIT_SECONDS
        while self.paths():
            with locked(self.folder + ".lock", wait=False) as held:
                if held:
                    self._send_waiting(api, tell)
                    return
            if time.monotonic() > until:
                return
            time.sleep(0.05)

    def _send_waiting(self, api: Api, tell: Callable[[str], None]) -> None:
        tried = set()
        while True:
            paths = [path for path in self.paths() if path not in tried]
            if not paths:
                return
            try:
                keep_claims(self.home)
            except OSError as error:
                raise SyncError("cannot keep what is counted in %s: %s" % (self.home, error.strerror)) from None
            for path in paths:
                tried.add(path)
                self._send_one(api, path, tell)

    def _send_one(self, api: Api, path: str, tell: Callable[[str], None]) -> None:
        call = read_json(path)
        key, entries = call.get("key"), call.get("usages")
        if not isinstance(key, str) or not isinstance(entries, list):
            if os.path.exists(path):
                os.replace(path, path + ".unreadable")
            return
        asked = call.get("asked_at")
        if isinstance(asked, (int, float)) and time.time() - asked > MAX_AMBIGUOUS_SECONDS:
            tell("the usage of a run may have been reported already; it is kept as %s.doubtful" % path)
            os.replace(path, path + ".doubtful")
            return
        if asked is None:
            # From here on the server may have it though its answer does not arrive.
            write_json(path, dict(call, asked_at=time.time()))
        try:
            api.post("/usage", {"usages": entries}, {"Idempotency-Key": key})
        except Later:
            # It certainly has not got it, however long it waits now.
            write_json(path, {name: value for name, value in call.items() if name != "asked_at"})
            raise
        except Rejected as error:
            tell("the server rejected the usage of a run (%s); it is kept as %s.refused" % (error, path))
            os.replace(path, path + ".refused")
            return
        debug("reported the usage of a run")
        with contextlib.suppress(OSError):
            os.unlink(path)
