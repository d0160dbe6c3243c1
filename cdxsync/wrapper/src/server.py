"""Where the server is, how it is trusted, and connections to it."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import ssl
import sys
import threading
import urllib.parse

from cdxsync.wrapper.src.errors import SyncError

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 6.0
# Shortly after the server could not be reached, a run does not wait as long again.
IMPATIENT_TIMEOUT = 0.7
IMPATIENT_READ_TIMEOUT = 2.0


class Server:
    """Where the server is and how it is trusted; makes the calls to it."""

    def __init__(self, base_url: str, api_key: str, ca_pem: str, ca_file: str, impatient: bool = False) -> None:
        again = "correct CODEX_SYNC_BASE_URL" if os.environ.get("CODEX_SYNC_BASE_URL") else "install cdx again"
        try:
            parts = urllib.parse.urlsplit(base_url)
            port = parts.port
        except ValueError:
            raise SyncError("the server's address %r is not a URL; %s" % (base_url, again)) from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SyncError("the server's address %r is not a URL; %s" % (base_url, again))
        if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise SyncError(
                "%s is not encrypted; plain http is allowed only for a server on this machine; %s" % (base_url, again)
            )
        self.base_url = base_url.rstrip("/")
        self.scheme, self.host, self.netloc = parts.scheme, parts.hostname, parts.netloc
        self.port = port or (443 if parts.scheme == "https" else 80)
        self.path = parts.path.rstrip("/")
        self.api_key = api_key
        self.ca_pem = ca_pem
        self.ca_file = ca_file
        self.connect_timeout = IMPATIENT_TIMEOUT if impatient else CONNECT_TIMEOUT
        self.read_timeout = IMPATIENT_READ_TIMEOUT if impatient else READ_TIMEOUT
        self._context: ssl.SSLContext | None = None
        self._context_lock = threading.Lock()

    def context(self) -> ssl.SSLContext:
        """How TLS is verified: by the CA that was installed, and only else by the system's."""
        with self._context_lock:
            if self._context is None:
                try:
                    if self.ca_file:
                        self._context = ssl.create_default_context(cafile=self.ca_file)
                    else:
                        self._context = ssl.create_default_context(cadata=self.ca_pem or None)
                except (OSError, ValueError) as error:
                    again = "correct CODEX_SYNC_CA_FILE" if self.ca_file else "install cdx again"
                    raise SyncError(
                        "the CA certificate for the server cannot be used: %s; %s" % (error, again)
                    ) from None
            return self._context

    def ca_certificates(self) -> bytes:
        """The CA certificates, as PEM, by which the server is verified; empty for the system's. Raises OSError."""
        if not self.ca_file:
            return self.ca_pem.encode("utf-8", "surrogatepass")
        with open(self.ca_file, "rb") as file:
            return file.read()

    def proxy(self) -> urllib.parse.SplitResult | None:
        """The proxy to take as a split URL, or None."""
        # What reads all the ways to name a proxy takes a while to load.
        if sys.platform != "darwin" and not any(name.lower() == self.scheme + "_proxy" for name in os.environ):
            return None
        from urllib.request import getproxies, proxy_bypass

        proxy = getproxies().get(self.scheme)
        if not proxy or proxy_bypass(self.host):
            return None
        return urllib.parse.urlsplit(proxy if "//" in proxy else "//" + proxy)

    def connect(self) -> http.client.HTTPConnection:
        """A new connection, made within the time-out."""
        proxy = self.proxy()
        if proxy:
            raw = dial(proxy.hostname or "", proxy.port or 3128, self.connect_timeout)
        else:
            raw = dial(self.host, self.port, self.connect_timeout)
        # http.client gets a socket that is there already, so that it never resolves or waits by itself.
        connection: http.client.HTTPConnection
        if self.scheme == "https":
            connection = http.client.HTTPSConnection(self.host, self.port, context=self.context())
        else:
            connection = http.client.HTTPConnection(self.host, self.port)
        try:
            if proxy:
                open_tunnel(raw, self.host, self.port, proxy)
            if self.scheme == "https":
                raw = self.context().wrap_socket(raw, server_hostname=wire_name(self.host))
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.settimeout(self.read_timeout)
        except BaseException:
            raw.close()
            raise
        connection.sock = raw
        return connection


def wire_name(host: str) -> str | bytes:
    """A host's name as bytes when it is ASCII, so that Python need not load its tables of international names."""
    return host.encode("ascii") if host.isascii() else host


def dial(host: str, port: int, timeout: float) -> socket.socket:
    """A TCP socket to the first address that answers; the look-up of the name counts within `timeout` seconds too."""
    outcome: list[socket.socket | OSError] = []
    late = threading.Event()

    def work() -> None:
        try:
            addresses = socket.getaddrinfo(wire_name(host), port, type=socket.SOCK_STREAM)
        except OSError as error:
            outcome.append(error)
            return
        for family, kind, protocol, _, address in addresses:
            try:
                candidate = socket.socket(family, kind, protocol)
                try:
                    candidate.settimeout(max(timeout / len(addresses), 0.3))
                    candidate.connect(address)
                    candidate.settimeout(timeout)
                except BaseException:
                    candidate.close()
                    raise
                outcome.append(candidate)
                break
            except OSError as error:
                outcome.append(error)
        last = outcome[-1]
        if late.is_set() and isinstance(last, socket.socket):
            last.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout + 0.2)
    if thread.is_alive() or not outcome:
        late.set()
        raise socket.timeout("timed out")
    last = outcome[-1]
    if isinstance(last, OSError):
        raise last
    return last


def open_tunnel(raw: socket.socket, host: str, port: int, proxy: urllib.parse.SplitResult) -> None:
    """CONNECT through a proxy. The answer is read byte by byte: what follows it belongs to TLS."""
    place = "%s:%d" % ("[%s]" % host if ":" in host else host, port)
    lines = ["CONNECT %s HTTP/1.1" % place, "Host: %s" % place]
    if proxy.username is not None:
        user, password = (urllib.parse.unquote(text or "") for text in (proxy.username, proxy.password))
        lines.append("Proxy-Authorization: Basic %s" % base64.b64encode(("%s:%s" % (user, password)).encode()).decode())
    raw.sendall("".join(line + "\r\n" for line in [*lines, ""]).encode("utf-8", "replace"))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        byte = raw.recv(1)
        if not byte or len(answer) > 16384:
            raise OSError("the proxy hung up")
        answer += byte
    status = answer.split(b"\r\n")[0].split(b" ")
    if len(status) < 2 or status[1] != b"200":
        raise OSError("the proxy answered %s" % b" ".join(status[1:]).decode("latin-1"))
