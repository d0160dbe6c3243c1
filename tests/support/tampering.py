"""A balancer that ends TLS, as one that was taken over: it has the fleet's certificate and answers what it likes."""

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.support.fleet import Fleet
from tests.support.quiet_http import QuietHandler, QuietServer


@dataclass
class Told:
    """An answer of the server, which may be changed on its way."""

    path: str
    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def data(self) -> dict[str, Any]:
        """`data` of the envelope."""
        found: dict[str, Any] = json.loads(self.body)["data"]
        return found

    def put(self, **more: Any) -> None:
        """Change members of `data`."""
        self.body = json.dumps({"status": "ok", "data": self.data | more}).encode()


class Tampering:
    """A fleet's server behind such a balancer, under whose address its hosts know it."""

    def __init__(self, home: Path) -> None:
        self.change: Callable[[Told], None] = lambda told: None
        self.fleet = Fleet(home)
        self.fleet.cli("init", "--public-url", self.fleet.url)
        outer = self

        class Handler(QuietHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                told = outer.ask(self.command, self.path, dict(self.headers.items()), body)
                outer.change(told)
                self.send_response(told.status)
                for name, value in told.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(told.body)))
                self.end_headers()
                self.wfile.write(told.body)

            do_GET = do_POST = do_DELETE = answer

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(home / "pki" / "server.pem", home / "pki" / "server.key")
        self.server = QuietServer(("127.0.0.1", self.fleet.port), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = 0

    def start(self, port: int) -> None:
        """Start the server behind it, on a port of its own."""
        self.port = port
        self.fleet.start(port)
        self.fleet.url = f"https://localhost:{port}"  # for admins, who go past it
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop both."""
        self.server.shutdown()
        self.server.server_close()
        self.fleet.stop()

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Told:
        """What the server answers."""
        kept = {name: value for name, value in headers.items() if name.lower() not in ("host", "content-length")}
        answer = requests.request(
            method,
            f"https://localhost:{self.port}{path}",
            data=body or None,
            headers=kept,
            verify=str(self.fleet.ca_file),
            allow_redirects=False,
            timeout=60,
            proxies={"no_proxy": "*"},
        )
        passed = {"content-type", "etag", "x-cdxsync-signature", "x-sha256"}
        return Told(
            path, answer.status_code, {k: v for k, v in answer.headers.items() if k.lower() in passed}, answer.content
        )
