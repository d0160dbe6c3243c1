"""The base of small HTTP servers of tests: what happens on them is no news on standard error."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class QuietHandler(BaseHTTPRequestHandler):
    """A handler that logs nothing."""

    def log_message(self, *args: object) -> None:
        """Nothing."""


class QuietServer(ThreadingHTTPServer):
    """A server whose clients may vanish or be killed."""

    daemon_threads = True

    def handle_error(self, *args: object) -> None:
        """Nothing."""
