"""`cdxsync serve`: one process that serves the application until it is told to stop."""

import logging
import signal
from collections.abc import Callable

from cdxsync.deployment import PKI_NAME
from cdxsync.domain.fleet import Fleet
from cdxsync.errors import Failed
from cdxsync.http import app
from cdxsync.server import httpd, tls
from cdxsync.server.jobs import Jobs
from cdxsync.settings import Listen
from cdxsync.trust import pki, server_names
from cdxsync.trust.revocation import Revocations

_log = logging.getLogger("cdxsync.server")


def serve(fleet: Fleet, *, on_listening: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight finish. `on_listening` gets the URL once clients can connect.

    Raises `Failed` when the address cannot be bound or a certificate cannot be used.
    """
    settings = fleet.settings
    directory = settings.home / PKI_NAME
    context = None
    revocations = None
    if not settings.plain_http:
        if settings.tls_certificate is None:
            names = server_names.wanted(settings.public_url, settings.listen.host)
            if pki.ensure_server_certificate(directory, names):
                _log.info("made a new server certificate for %s", ", ".join(names))
        certificate = settings.tls_certificate or directory / "server.pem"
        key = settings.tls_key or directory / "server.key"
        context = tls.server_context(certificate, key, directory / "ca.pem")
        revocations = Revocations(directory / "crl.pem", directory / "ca.pem")
    server = httpd.Server(
        (settings.listen.host, settings.listen.port), app.build(fleet, revocations), context, threads=settings.threads
    )
    with server.stopping_on((signal.SIGTERM, signal.SIGINT)):
        try:
            host, port = httpd.listen(server)
        except OSError as error:
            raise Failed(f"cannot listen on {settings.listen}: {error.strerror or error}") from None
        jobs = Jobs(fleet)
        jobs.start()
        try:
            on_listening(f"{'http' if settings.plain_http else 'https'}://{Listen(host, port)}")
            httpd.serve_until_stopped(server)
        finally:
            # Cheroot has a thread that is no daemon: left alone it would keep a failed process alive.
            server.stop()
            jobs.stop()
