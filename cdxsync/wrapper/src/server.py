"""Where the server is, how it is trusted, and connections to it."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import threading
import urllib.parse
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.proxy import Proxy, proxy_for
from cdxsync.wrapper.src.threads import started

if TYPE_CHECKING:
    from typing import Any, Callable, TypeVar

    T = TypeVar("T")

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
                    elif self.ca_pem:
                        self._context = ssl.create_default_context(cadata=self.ca_pem)
                    else:
                        self._context = system_trust()
                except (OSError, ValueError) as error:
                    again = "correct CODEX_SYNC_CA_FILE" if self.ca_file else "install cdx again"
                    raise SyncError(
                        "the CA certificate for the server cannot be used: %s; %s" % (error, again)
                    ) from None
            return self._context

    def trust_anyone(self) -> None:
        """Verify nothing: for a look at a server that gets nothing of us."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    def ca_certificates(self) -> bytes:
        """The CA certificates, as PEM, by which the server is verified; empty for the system's. Raises OSError."""
        if not self.ca_file:
            return self.ca_pem.encode("utf-8", "surrogatepass")
        with open(self.ca_file, "rb") as file:
            return file.read()

    def proxy(self) -> Proxy | None:
        """The proxy to take, or None. Raises ProxyTrouble."""
        return proxy_for(self.scheme, self.host, self.port)

    def connect(self) -> http.client.HTTPConnection:
        """A new connection, made within the time-out. Raises OSError."""
        raw = reach(self.scheme, self.host, self.port, self.connect_timeout)
        # http.client gets a socket that is there already, so that it never resolves or waits by itself.
        connection: http.client.HTTPConnection
        if self.scheme == "https":
            connection = http.client.HTTPSConnection(self.host, self.port, context=self.context())
        else:
            connection = http.client.HTTPConnection(self.host, self.port)
        try:
            if self.scheme == "https":
                raw = self.context().wrap_socket(raw, server_hostname=wire_name(self.host))
            if raw.family != socket.AF_UNIX:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.settimeout(self.read_timeout)
        except BaseException:
            raw.close()
            raise
        connection.sock = raw
        return connection


def system_trust() -> ssl.SSLContext:
    """TLS verified by the roots of the system, also where a variable leads to none. Raises OSError."""
    context = ssl.create_default_context()
    named = [os.environ.get(name, "") for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")]
    if any(named) and not context.cert_store_stats()["x509_ca"] and not os.path.isdir(named[1]):
        usual = ssl.get_default_verify_paths()
        for kind, path in (("cafile", usual.openssl_cafile), ("capath", usual.openssl_capath)):
            if os.path.exists(path):
                context.load_verify_locations(**{kind: path})
    return context


def wire_name(host: str) -> str | bytes:
    """A host's name as bytes when it is ASCII, so that Python need not load its tables of international names."""
    return host.encode("ascii") if host.isascii() else host


def reach(scheme: str, host: str, port: int, timeout: float) -> socket.socket:
    """A TCP socket that leads to a host, through a proxy where one is named. Raises OSError."""
    proxy = proxy_for(scheme, host, port)
    if proxy is None:
        return dial(host, port, timeout)
    try:
        raw = dial(proxy.host, proxy.port, timeout)
    except socket.timeout:
        raise proxy.trouble("does not answer in time") from None
    except OSError as error:
        raise proxy.trouble("cannot be reached: %s" % (error.strerror or error)) from None
    try:
        if proxy.kind == "https":
            raw = system_trust().wrap_socket(raw, server_hostname=wire_name(proxy.host))
        proxy.open_tunnel(raw, host, port, lambda name, at: address_of(name, at, timeout))
        return through(raw, proxy) if isinstance(raw, ssl.SSLSocket) else raw
    except socket.timeout:
        raw.close()
        raise proxy.trouble("does not answer in time") from None
    except ssl.SSLError as error:
        raw.close()
        # It is not to be taken for trouble with the server's certificate.
        reason = getattr(error, "verify_message", "") or error.reason or error
        raise proxy.trouble("cannot be spoken to over TLS: %s" % reason) from None
    except BaseException:
        raw.close()
        raise


def through(outer: ssl.SSLSocket, proxy: Proxy) -> socket.socket:
    """A plain socket for what goes through a TLS connection: Python's TLS cannot lie in another one. Raises OSError."""
    import select

    ours, theirs = socket.socketpair()
    ours.settimeout(outer.gettimeout())
    outer.settimeout(None)

    def pass_on() -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                ready = [outer] if outer.pending() else select.select([outer, theirs], [], [])[0]
                for source in ready:
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    (theirs if source is outer else outer).sendall(data)

    def work() -> None:
        pass_on()
        theirs.close()
        outer.close()

    if not started(threading.Thread(target=work, daemon=True)):
        ours.close()
        theirs.close()
        raise proxy.trouble("is spoken to over TLS, for which cdx needs a thread, and there is none")
    return ours


def addresses_of(host: str, port: int) -> list[tuple[Any, ...]]:
    """What the system knows of a host's addresses. Raises OSError."""
    try:
        return socket.getaddrinfo(wire_name(host), port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("%r is no name of a host" % host) from None


def address_of(host: str, port: int, timeout: float) -> str:
    """The first address of a host, looked up within `timeout` seconds. Raises OSError."""
    return within(timeout, lambda late: str(addresses_of(host, port)[0][4][0]))


def dial(host: str, port: int, timeout: float) -> socket.socket:
    """A TCP socket to the first address that answers; the look-up of the name counts within `timeout` seconds too."""

    def work(late: threading.Event) -> socket.socket:
        addresses = addresses_of(host, port)
        last: OSError = socket.timeout("timed out")
        for family, kind, protocol, _, address in addresses:
            if late.is_set():
                break
            try:
                candidate = socket.socket(family, kind, protocol)
            except OSError as error:
                last = error
                continue
            try:
                candidate.settimeout(max(timeout / len(addresses), 0.3))
                candidate.connect(address)
                candidate.settimeout(timeout)
                return candidate
            except OSError as error:
                candidate.close()
                last = error
        raise last

    return within(timeout, work)


def within(timeout: float, work: Callable[[threading.Event], T]) -> T:
    """The result of `work`, which has `timeout` seconds; what it is given is set when they are over. Raises OSError.

    The system's look-up of names cannot be told a limit, so it runs in a thread; where there are none it has its time.
    """
    outcome: list[T | OSError] = []
    late = threading.Event()

    def guarded() -> None:
        try:
            outcome.append(work(late))
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    if started(thread):
        thread.join(timeout + 0.2)
    else:
        guarded()
    if not outcome:
        late.set()
        raise socket.timeout("timed out")
    result = outcome[0]
    if isinstance(result, OSError):
        raise result
    return result
