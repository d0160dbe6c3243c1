"""Syncs with the server while Codex runs."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.compiled import keep_compiled
from cdxsync.wrapper.src.context import Context
from cdxsync.wrapper.src.errors import Rejected, SyncError
from cdxsync.wrapper.src.files import file_identity
from cdxsync.wrapper.src.messages import debug
from cdxsync.wrapper.src.runs import Run
from cdxsync.wrapper.src.server import CONNECT_TIMEOUT
from cdxsync.wrapper.src.sync import Sync
from cdxsync.wrapper.src.threads import started

if TYPE_CHECKING:
    from typing import Callable

PULL_INTERVAL = 30.0


class Watcher:
    """While Codex runs: sends a changed auth.json within seconds, fetches a newer one, and notes open session files.

    It never writes to the terminal, which is Codex's.
    """

    TICK = 0.5
    RETRY_SECONDS = 5.0

    def __init__(self, context: Context, run: Run, held: str | None) -> None:
        sync = Sync(context.api.clone(), context.home, context.build.version, quiet=True)
        sync.server_is_behind = context.sync.server_is_behind
        self.sync = sync
        self.spool = context.spool
        self.note = run
        self.held = held
        self.interval = pull_interval()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.identity = context.sync.settled[0] if context.sync.settled else file_identity(sync.path)
        self.next_pull = time.monotonic() + self.interval
        self.next_try = 0.0
        self.next_look = 0.0
        self.pause = 0.1

    def start(self) -> None:
        """Begin. Where there are no threads, all is done after the run."""
        started(self.thread)

    def stop(self) -> str | None:
        """End; returns what auth.json held when the server was last in sync with it."""
        self.stopping.set()
        if self.thread.ident is not None:
            self.thread.join(CONNECT_TIMEOUT)
        return None if self.thread.is_alive() else self.held

    def _work(self) -> None:
        tick = 0.05
        self._attempt(keep_compiled)
        self._attempt(lambda: self.note.recover(self.spool))
        self._attempt(lambda: self.spool.send(self.sync.api, debug))
        while not self.stopping.wait(tick):
            tick = min(self.TICK, tick * 1.5)
            self._look()
            if time.monotonic() >= self.next_try:
                self._attempt(self._keep_in_step)

    def _attempt(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:
            debug("%s; trying again" % error)
            self.next_try = time.monotonic() + self.RETRY_SECONDS
        finally:
            self.sync.api.close()

    def _look(self) -> None:
        # Often at first, when a short run may soon be over.
        if time.monotonic() >= self.next_look:
            self.note.look()
            self.pause = min(5.0, self.pause * 1.5)
            self.next_look = time.monotonic() + self.pause

    def _keep_in_step(self) -> None:
        identity = file_identity(self.sync.path)
        if identity != self.identity:
            now = self.sync.current()
            # A torn file is looked at again; one that was removed is a logout.
            if now is not None:
                self.identity = identity
                if now != self.held:
                    self._sync(now)
        elif identity is not None and self.interval and time.monotonic() >= self.next_pull:
            self._sync(self.held)

    def _sync(self, now: str | None) -> None:
        self.next_pull = time.monotonic() + self.interval
        try:
            self.sync.run()
        except Rejected as error:
            debug(str(error))
            self.held = now  # it is not offered again
        except SyncError:
            self.identity = self.held = None
            raise
        else:
            self.identity, self.held = self.sync.settled or (None, None)


def pull_interval() -> float:
    """Seconds between looks at the server while Codex runs; 0 is never."""
    try:
        return max(0.0, float(os.environ.get("CODEX_SYNC_INTERVAL") or PULL_INTERVAL))
    except ValueError:
        raise SyncError("CODEX_SYNC_INTERVAL must be a number of seconds, such as 30; 0 is never") from None
