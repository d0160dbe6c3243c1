"""`cdxsync serve --workers N`: processes that share one port, and the supervisor that restarts them.

Workers are forked before a database, a thread or a worker's file is opened (SQLite forbids to carry a connection over
a fork, and a thread's locks would stay locked). So they share the program's memory, and the TLS context with the key of
its session tickets: a session that one has begun is resumed by any.

Each worker has a listening socket of its own (SO_REUSEPORT), which the supervisor makes and keeps: connections that
wait there when a worker dies are answered by its successor.
"""

import contextlib
import gc
import logging
import os
import selectors
import shutil
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cdxsync.base import metrics
from cdxsync.base.errors import CdxsyncError
from cdxsync.base.settings import Settings
from cdxsync.ops import home_lock
from cdxsync.server import httpd, processes, service, tls
from cdxsync.server.notify import Notifier
from cdxsync.server.service import Load
from cdxsync.store.fleet import Fleet

STEADY_SECONDS = 10.0
"""A worker that lived so long is restarted at once, any other after a pause that doubles."""
MAX_PAUSE_SECONDS = 30.0
HANG_SECONDS = 60.0
"""A worker that has reported nothing for so long hangs, and is killed."""
ALIVE_SECONDS = 5.0
RELOAD_SECONDS = 60.0
STOP_SECONDS = httpd.SHUTDOWN_TIMEOUT_SECONDS + 35.0
_READY, _ALIVE, _RELOADED, _NOT_RELOADED = b"R", b".", b"H", b"F"
_log = logging.getLogger("cdxsync.server")

OpenFleet = Callable[[Settings], Fleet]
"""Opens the home, making it when there is none."""


@dataclass
class _Place:
    """The place of a worker, which its successors take over."""

    number: int
    listening: socket.socket | None = None
    process: int = 0
    reports: int = -1
    started: float = 0.0
    heard: float = 0.0
    ready: bool = False
    pause: float = 0.0
    begin_at: float = 0.0
    settings: Settings | None = None
    """Those that the worker was begun with, or has reloaded since."""


class _ToSupervisor:
    """Reports of a worker, one byte each, through a pipe."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._alive_at = 0.0

    def ready(self, url: str) -> None:
        """Clients can connect."""
        metrics.worker_starts.inc()
        self._write(_READY)

    def alive(self) -> None:
        """The thread that accepts is at work."""
        if time.monotonic() - self._alive_at >= ALIVE_SECONDS:
            self._alive_at = time.monotonic()
            self._write(_ALIVE)

    def reloading(self) -> None:
        """Nothing to report: the supervisor asked for it."""

    def reloaded(self, done: bool) -> None:
        """The next worker may reload."""
        self._write(_RELOADED if done else _NOT_RELOADED)

    def stopping(self) -> None:
        """Nothing to report: the supervisor sees the process end."""

    def _write(self, report: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self._pipe, report)


def serve(load: Load, open_fleet: OpenFleet, *, on_listening: Callable[[str, Settings], None]) -> None:
    """Serve until SIGTERM or SIGINT. `on_listening` gets the URL and the settings once all workers serve.

    Raises `Failed` when the address cannot be bound or a certificate cannot be used, and SystemExit with the status
    of what could not open the home or start, which has said why.
    """
    notifier = Notifier()
    # What makes and migrates the home opens the database, so it is done in a process of its own.
    _finish(processes.fork(lambda: _open_once(open_fleet, load())))
    settings = load()
    home_lock.share(settings.home)
    files = service.certificate_files(settings)
    adapter = tls.DeferringAdapter(files.context()) if files is not None else None
    _Supervisor(settings, load, open_fleet, adapter, notifier, on_listening).run()


def _open_once(open_fleet: OpenFleet, settings: Settings) -> None:
    fleet = open_fleet(settings)
    service.tell_exposure(fleet)
    fleet.database.close()


def _finish(process: int) -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status:
        raise SystemExit(status if status > 0 else 128 - status)


class _Supervisor:
    def __init__(
        self,
        settings: Settings,
        load: Load,
        open_fleet: OpenFleet,
        adapter: tls.DeferringAdapter | None,
        notifier: Notifier,
        on_listening: Callable[[str, Settings], None],
    ) -> None:
        self._settings, self._load, self._open_fleet = settings, load, open_fleet
        self._adapter, self._notifier, self._on_listening = adapter, notifier, on_listening
        self._places = [_Place(number) for number in range(settings.workers)]
        self._selector = selectors.DefaultSelector()
        self._signals, self._signalled = socket.socketpair()
        self._lifeline, self._alive = os.pipe()
        self._terminal = service.TerminalWatch()
        self._metrics: Path | None = None
        self._address = (settings.listen.host, settings.listen.port)
        self._served = self._stopping = False
        self._to_reload: deque[_Place] = deque()
        self._reloading: _Place | None = None
        self._reload_until = 0.0
        self._status = 0

    def run(self) -> None:
        """Start the workers, restart those that end, and stop them all at the end."""
        try:
            self._address = processes.find_address(self._address)
        except OSError as error:
            raise processes.cannot_listen(self._settings.listen, error) from None
        try:
            self._metrics = metrics.make_folder(self._settings.home, len(self._places))
        except OSError as error:
            _log.warning("/metrics shows one worker only, as they cannot share a folder: %s", error)
        metrics.load()
        gc.collect()
        gc.freeze()  # what is there before the forks is never looked at again, so its pages stay shared
        self._signals.setblocking(False)
        self._signalled.setblocking(False)
        self._selector.register(self._signals, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._signalled.fileno(), warn_on_full_buffer=False)
        for number in (*processes.SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        for place in self._places:
            self._begin(place)
        try:
            while not self._stopping:
                self._turn()
        finally:
            self._stop()
        if self._status:
            raise SystemExit(self._status)

    def _turn(self) -> None:
        """Wait for the next event and handle it."""
        now = time.monotonic()
        waits = [place.begin_at - now for place in self._places if not place.process]
        self._read_reports(max(0.0, min([ALIVE_SECONDS, self._notifier.interval, *waits])))
        now = time.monotonic()
        for place in self._places:
            if place.process:
                self._look_after(place, now)
            elif now >= place.begin_at:
                self._begin(place)
        if self._reloading is not None and (not self._reloading.process or now > self._reload_until):
            self._reload_next()
        self._notifier.alive()

    def _read_reports(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._signals:
                with contextlib.suppress(BlockingIOError):
                    for number in self._signals.recv(4096):
                        self._take_signal(number)
                continue
            place: _Place = key.data
            for report in os.read(place.reports, 4096) or b"":
                self._take_report(place, bytes([report]))

    def _take_signal(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT) or (number == signal.SIGHUP and self._terminal.is_gone()):
            _log.info("stopping on %s", signal.Signals(number).name)
            self._stopping = True
        elif number == signal.SIGHUP:
            self._reload()

    def _take_report(self, place: _Place, report: bytes) -> None:
        place.heard = time.monotonic()
        if report == _READY:
            place.ready = True
            if place.settings is not self._settings:
                self._to_reload.append(place)
                if self._reloading is None:
                    self._reload_next()
            if not self._served and all(other.ready for other in self._places):
                self._served = True
                url = service.url_of(self._settings, *self._address)
                self._on_listening(url, self._settings)
                self._notifier.ready(f"Listening on {url} with {len(self._places)} workers")
        elif report in (_RELOADED, _NOT_RELOADED) and self._reloading is place:
            if report == _NOT_RELOADED:
                _log.error("worker %d did not reload", place.number)
            self._reload_next()

    def _look_after(self, place: _Place, now: float) -> None:
        process, status = os.waitpid(place.process, os.WNOHANG)
        if not process:
            if now - place.heard > HANG_SECONDS:
                _log.error("worker %d (process %d) hangs; killing it", place.number, place.process)
                place.heard = now
                os.kill(place.process, signal.SIGKILL)
            return
        self._ended(place, os.waitstatus_to_exitcode(status), now)

    def _ended(self, place: _Place, code: int, now: float) -> None:
        self._selector.unregister(place.reports)
        os.close(place.reports)
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        if not self._served and not self._stopping:
            _log.error("worker %d (process %d) %s before it served", place.number, place.process, how)
            place.process, self._stopping, self._status = 0, True, code if code > 0 else 1
            return
        steady = place.ready and now - place.started >= STEADY_SECONDS
        place.pause = 0.0 if steady else min(MAX_PAUSE_SECONDS, max(1.0, 2 * place.pause))
        if steady or place.pause == 1.0:  # the first time it is begun again at once
            place.begin_at = now
        else:
            place.begin_at = now + place.pause
            self._unlisten(place)  # the others get what would wait here
        wait = f"in {place.pause:.0f} s" if place.begin_at > now else "now"
        _log.error("worker %d (process %d) %s; restarting it %s", place.number, place.process, how, wait)
        place.process = 0

    def _unlisten(self, place: _Place) -> None:
        if place.listening is not None:
            place.listening.close()
            place.listening = None

    def _begin(self, place: _Place) -> None:
        try:
            if place.listening is None:
                place.listening = processes.bind(self._address)
            place.reports, reports = os.pipe()
        except OSError as error:
            _log.error("cannot start worker %d: %s", place.number, error)
            place.pause = min(MAX_PAUSE_SECONDS, max(1.0, 2 * place.pause))
            place.begin_at = time.monotonic() + place.pause
            return
        place.ready, place.started, place.settings = False, time.monotonic(), self._settings
        place.heard = place.started
        place.process = processes.fork(lambda: self._work(place, reports))
        os.close(reports)
        self._selector.register(place.reports, selectors.EVENT_READ, place)

    def _work(self, place: _Place, reports: int) -> None:
        """Be a worker; in a process of its own, which leaves alone what is the supervisor's or other workers'."""
        os.close(self._alive)
        self._selector.close()
        self._signals.close()
        self._signalled.close()
        for other in self._places:
            if other.process:
                os.close(other.reports)
            if other is not place:
                self._unlisten(other)
        os.close(place.reports)
        metrics.start(self._metrics, place.number)
        fleet = self._open_fleet(self._settings)
        context = self._adapter.context if self._adapter is not None else None
        worker = service.Process(fleet, self._load, context, _ToSupervisor(reports), place.listening)
        threading.Thread(target=self._end_with_supervisor, args=(worker,), daemon=True).start()
        try:
            worker.run()
        finally:
            fleet.database.close()  # this process ends past the interpreter's own end

    def _end_with_supervisor(self, worker: service.Process) -> None:
        os.read(self._lifeline, 1)  # nothing is ever written: it returns when the supervisor has ended, however
        worker.request_stop()

    def _reload(self) -> None:
        """Read settings and certificates, for workers that are begun from now on, and let the others do it in turn."""
        self._notifier.reloading()
        try:
            wanted = self._load()
            settings = service.with_fixed(wanted, self._settings)
            files = service.certificate_files(settings)
            if self._adapter is not None and files is not None:
                self._adapter.reload(files)
        except CdxsyncError as error:
            _log.error("reload failed, nothing changed: %s", error.explain())
            self._notifier.ready("Listening; the last reload failed")
            return
        service.tell_changes(wanted, self._settings)
        self._settings = settings
        self._to_reload = deque(place for place in self._places if place.ready)
        self._reload_next()

    def _reload_next(self) -> None:
        self._reloading = None
        while self._to_reload:
            place = self._to_reload.popleft()
            if place.process and place.ready:
                place.settings, self._reloading = self._settings, place
                self._reload_until = time.monotonic() + RELOAD_SECONDS
                os.kill(place.process, signal.SIGHUP)
                return
        self._notifier.ready(f"Listening with {len(self._places)} workers")

    def _stop(self) -> None:
        """End the workers: requests in flight finish; nothing new is accepted."""
        self._notifier.stopping()
        for place in self._places:
            self._unlisten(place)
        left = [place for place in self._places if place.process]
        for place in left:
            self._selector.unregister(place.reports)  # at its end it would be readable for ever
            os.kill(place.process, signal.SIGTERM)
        end = time.monotonic() + STOP_SECONDS
        while left:
            if time.monotonic() > end:
                for place in left:
                    _log.error("worker %d (process %d) does not end; killing it", place.number, place.process)
                    os.kill(place.process, signal.SIGKILL)
                end = float("inf")
            with contextlib.suppress(BlockingIOError):
                self._selector.select(1.0)
                self._signals.recv(4096)
            for place in list(left):
                if os.waitpid(place.process, os.WNOHANG)[0]:
                    left.remove(place)
            self._notifier.alive()
        signal.set_wakeup_fd(-1)
        if self._metrics is not None:
            shutil.rmtree(self._metrics, ignore_errors=True)
