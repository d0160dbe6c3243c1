"""One process that serves the application until it is told to stop, and what it reloads at SIGHUP."""

import gc
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Protocol

from cdxsync.api import access_log, app
from cdxsync.background import definitions
from cdxsync.background.audit_sending import Sender
from cdxsync.background.expiring import Expiring
from cdxsync.base import metrics
from cdxsync.base.errors import CdxsyncError
from cdxsync.base.settings import Listen, Settings
from cdxsync.jobs.scheduler import Scheduler
from cdxsync.ops import homes
from cdxsync.security import pki, server_names
from cdxsync.security.revocation import Revocations
from cdxsync.server import connection_limits, httpd, processes, tls
from cdxsync.server.notify import Notifier
from cdxsync.store.fleet import Fleet

NEEDS_RESTART = ("listen", "plain_http", "database_url", "database_pool_size", "threads", "workers")
"""Settings that need a restart; SIGHUP applies all others."""
_log = logging.getLogger("cdxsync.server")

Load = Callable[[], Settings]
"""Reads the settings as they are now. Raises `SettingError`."""


class Reporting(Protocol):
    """Receives the state of the process."""

    def ready(self, url: str) -> None:
        """Clients can connect."""

    def alive(self) -> None:
        """The thread that accepts is at work; told about twice a second."""

    def reloading(self) -> None:
        """A reload has begun."""

    def reloaded(self, done: bool) -> None:
        """The reload has ended; `done` says whether it took effect."""

    def stopping(self) -> None:
        """The server is shutting down."""


class Alone:
    """Reports of a process without a supervisor, to systemd and the terminal."""

    def __init__(self, on_listening: Callable[[str], None]) -> None:
        self._on_listening = on_listening
        self._notifier = Notifier()
        self._status = ""

    def ready(self, url: str) -> None:
        """Clients can connect."""
        self._on_listening(url)
        self._status = f"Listening on {url}"
        self._notifier.ready(self._status)

    def alive(self) -> None:
        """Feed the watchdog."""
        self._notifier.alive()

    def reloading(self) -> None:
        """A reload has begun."""
        self._notifier.reloading()

    def reloaded(self, done: bool) -> None:
        """The reload has ended; the service goes on either way."""
        self._notifier.ready(self._status)

    def stopping(self) -> None:
        """The server is shutting down."""
        self._notifier.stopping()


def certificate_files(settings: Settings) -> tls.Files | None:
    """The files of the server's TLS, or None without it. Issues the server's own certificate when it must.

    Raises `Failed`.
    """
    if settings.plain_http:
        return None
    directory = settings.home / homes.PKI_NAME
    if settings.tls_certificate is None:
        names = server_names.wanted(settings.public_url, settings.listen.host)
        if pki.ensure_server_certificate(directory, names):
            _log.info("made a new server certificate for %s", ", ".join(names))
    return tls.Files(_certificate(settings), settings.tls_key or directory / "server.key", directory / "ca.pem")


def _certificate(settings: Settings) -> Path:
    return settings.tls_certificate or settings.home / homes.PKI_NAME / "server.pem"


def _names_shown(settings: Settings) -> tuple[str, ...]:
    """The names in the certificate that the server shows; none without TLS, or of a file that cannot be read."""
    if settings.plain_http:
        return ()
    try:
        return server_names.of_certificate(_certificate(settings).read_bytes())
    except (OSError, ValueError):  # loading it for TLS says what is wrong
        return ()


def with_fixed(wanted: Settings, present: Settings) -> Settings:
    """`wanted`, with what needs a restart taken from `present`."""
    return replace(wanted, **{name: getattr(present, name) for name in NEEDS_RESTART})


def tell_changes(wanted: Settings, present: Settings) -> None:
    """Log the names of the settings that a reload changes, and of those that it does not."""
    changed = [spec.name for spec in fields(Settings) if getattr(wanted, spec.name) != getattr(present, spec.name)]
    now, later = [name for name in changed if name not in NEEDS_RESTART], [n for n in changed if n in NEEDS_RESTART]
    _log.info("settings that change: %s", ", ".join(now) or "none")
    if later:
        _log.warning("settings that change only with a restart: %s", ", ".join(later))


class TerminalWatch:
    """Tells a closed terminal from a request to reload: both come as SIGHUP."""

    def __init__(self) -> None:
        self._had_one = sys.stderr.isatty()

    def is_gone(self) -> bool:
        """Whether the terminal from which the server was started has been closed.

        Standard error goes to /dev/null from then on, so that a last message does not fail at the end of the process.
        """
        gone = self._had_one and not sys.stderr.isatty()
        if gone:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stderr.fileno())
            os.close(nowhere)
        return gone


class Process:
    """A server with its jobs, on an address or a bound socket."""

    def __init__(
        self,
        fleet: Fleet,
        load: Load,
        context: tls.ServerContext | None,
        reporting: Reporting,
        listening: socket.socket | None = None,
    ) -> None:
        settings = fleet.settings
        self._fleet, self._load, self._reporting = fleet, load, reporting
        self._is_alone = listening is None
        self._draining = threading.Event()
        self._server = httpd.Server(
            (settings.listen.host, settings.listen.port),
            self._application(fleet),
            context,
            threads=settings.threads,
            listening=listening,
        )
        self._terminal = TerminalWatch()
        self._jobs = Scheduler(fleet, definitions.specs, definitions.recover, Expiring().look)
        self._audit = Sender(fleet)
        self._apply(settings)
        self._server.on_tick = reporting.alive
        self._server.on_refusal = self._on_refusal

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; requests in flight finish. Raises `Failed` when it cannot listen."""
        settings, server = self._fleet.settings, self._server
        with server.stopping_on(processes.SIGNALS):
            try:
                host, port = httpd.listen(server)
            except OSError as error:
                raise processes.cannot_listen(settings.listen, error) from None
            self._jobs.start()
            self._audit.start()
            self._collect_garbage()
            try:
                self._reporting.ready(url_of(settings, host, port))
                httpd.serve_until_stopped(server, on_hangup=self._on_hangup, on_stopping=self._on_stopping)
            finally:
                # Cheroot has a thread that is no daemon: left alone it would keep a failed process alive.
                server.stop()
                self._jobs.stop()
                self._audit.stop()

    def request_stop(self) -> None:
        """Ask for the end, from any thread."""
        self._server.request_stop()

    def _application(self, fleet: Fleet) -> app.WsgiApp:
        directory = fleet.settings.home / homes.PKI_NAME
        ca = directory / "ca.pem"
        # Behind a proxy admins may show certificates of another CA, and the home may have none.
        revocations = None if fleet.settings.plain_http and not ca.exists() else Revocations(directory / "crl.pem", ca)
        return app.build(fleet, revocations, self._draining.is_set, _names_shown(fleet.settings))

    def _apply(self, settings: Settings) -> None:
        connection_limits.apply(self._server.limits, settings)
        self._access_log = access_log.AccessLog(settings.access_log)

    def _on_stopping(self) -> None:
        self._draining.set()
        self._reporting.stopping()

    def _on_hangup(self) -> None:
        if self._terminal.is_gone():
            self._server.request_stop()
            return
        self._reporting.reloading()
        self._reporting.reloaded(self._reload())

    def _reload(self) -> bool:
        """Read settings and certificates again: all of it, or nothing when something is wrong with it.

        Requests in flight finish with the settings they began with; connections stay open. Returns whether it was done.
        """
        try:
            wanted = self._load()
            settings = with_fixed(wanted, self._fleet.settings)
            fleet = replace(self._fleet, settings=settings, host_ca_pem=homes.host_ca_pem(settings))
            application = self._application(fleet)
            files = certificate_files(settings)
            if files is not None:
                self._server.ssl_adapter.reload(files)
        except CdxsyncError as error:
            _log.error("reload failed, nothing changed: %s", error.explain())
            return False
        if self._is_alone:  # a supervisor has told it already, once for all workers
            tell_changes(wanted, self._fleet.settings)
        self._fleet = fleet
        self._apply(settings)
        self._server.wsgi_app = application
        self._jobs.use(fleet)
        self._audit.use(fleet)
        self._collect_garbage()  # the former application refers to itself, and would stay for long
        _log.info("settings and certificates reloaded")
        return True

    def _collect_garbage(self) -> None:
        """Collect garbage, and leave what is left out of later collections, which stop all threads.

        A worker has shared pages with what its supervisor froze; it must not touch them.
        """
        if self._is_alone:
            gc.unfreeze()
        gc.collect()
        if self._is_alone:
            gc.freeze()

    def _on_refusal(self, client: str, status: int, request_id: str) -> None:
        """Count and log an answer that the application had no part in: the request could not be read."""
        metrics.requests.inc("other", "malformed", str(status))
        self._access_log.write(
            request_id=request_id, client=client, actor=None, method="-", path="-", status=status, size=0, seconds=0
        )


def url_of(settings: Settings, host: str, port: int) -> str:
    """The URL of a server with these settings that listens there."""
    return f"{'http' if settings.plain_http else 'https'}://{Listen(host, port)}"


def tell_exposure(fleet: Fleet) -> None:
    """Log how the connection to the database can be read or altered on its way, if it can."""
    with fleet.database.scope():
        found = fleet.database.engine.exposure(fleet.database.peewee)
    if found is not None:
        _log.warning("%s. To verify it, %s", found.text, found.remedy)


def serve(fleet: Fleet, load: Load, *, on_listening: Callable[[str], None]) -> None:
    """Serve in this process. `on_listening` gets the URL once clients can connect.

    Raises `Failed` when the address cannot be bound or a certificate cannot be used.
    """
    reporting = Alone(on_listening)
    tell_exposure(fleet)
    files = certificate_files(fleet.settings)
    metrics.start()
    Process(fleet, load, files.context() if files is not None else None, reporting).run()
