"""Small proxies that hosts go through to servers on this machine: HTTP with CONNECT alone, SOCKS 4, and SOCKS 5."""

import base64
import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator


class ForwardProxy:
    """A proxy on loopback. `log` has, for each connection, where it was to lead; `logins` who asked."""

    def __init__(
        self, kind: str, family: socket.AddressFamily = socket.AF_INET, tls: ssl.SSLContext | None = None
    ) -> None:
        self.kind = kind
        self.tls = tls
        self.log: list[str] = []
        self.logins: list[str] = []
        self.user: str | None = None
        """`name:password` that must be given."""
        host = "127.0.0.1" if family == socket.AF_INET else "::1"
        self.listener = socket.create_server((host, 0), family=family)
        port = self.listener.getsockname()[1]
        self.place = f"{host}:{port}" if family == socket.AF_INET else f"[{host}]:{port}"
        threading.Thread(target=self._serve, daemon=True).start()

    def url(self, scheme: str | None = None, login: str = "") -> str:
        """Its URL, as it stands in a variable."""
        return f"{scheme or (self.kind if self.tls is None else 'https')}://{login}{'@' if login else ''}{self.place}"

    def stop(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError, struct.error), contextlib.ExitStack() as closing:
            closing.enter_context(client)
            if self.tls is not None:
                client = closing.enter_context(self.tls.wrap_socket(client, server_side=True))
            to = {"http": self._http, "socks4": self._socks4, "socks5": self._socks5}[self.kind](client)
            if to is not None:
                with socket.create_connection(to) as server:
                    pass_on(client, server)

    def _allows(self, host: str) -> bool:
        return host in ("localhost", "127.0.0.1", "::1")

    def _http(self, client: socket.socket) -> tuple[str, int] | None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += read(client, 1)
        lines = head.decode().split("\r\n")
        self.log.append(lines[0])
        basic = "Proxy-Authorization: Basic "
        given = [base64.b64decode(line[len(basic) :]).decode() for line in lines if line.startswith(basic)]
        self.logins += given
        host, _, port = lines[0].split()[1].rpartition(":")
        if self.user is not None and self.user not in given:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        elif self._allows(host.strip("[]")):
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            return host.strip("[]"), int(port)
        else:
            client.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        return None

    def _socks4(self, client: socket.socket) -> tuple[str, int] | None:
        _, _, port, address = struct.unpack(">BBH4s", read(client, 8))
        self.logins.append(text_of(client))
        named = address[:3] == b"\0\0\0" and address[3]
        host = text_of(client) if named else socket.inet_ntoa(address)
        self.log.append(f"{host}:{port}")
        client.sendall(b"\0" + bytes([0x5A if self._allows(host) else 0x5B]) + bytes(6))
        return (host, port) if self._allows(host) else None

    def _socks5(self, client: socket.socket) -> tuple[str, int] | None:
        methods = read(client, read(client, 2)[1])
        if self.user is not None:
            if 2 not in methods:
                client.sendall(b"\5\xff")
                return None
            client.sendall(b"\5\2")
            user = read(client, read(client, 2)[1])
            self.logins.append(f"{user.decode()}:{read(client, read(client, 1)[0]).decode()}")
            client.sendall(b"\1" + bytes([self.logins[-1] != self.user]))
            if self.logins[-1] != self.user:
                return None
        else:
            client.sendall(b"\5\0")
        kind = read(client, 4)[3]
        if kind == 3:
            host = read(client, read(client, 1)[0]).decode()
        else:
            family, length = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, read(client, length))
        (port,) = struct.unpack(">H", read(client, 2))
        self.log.append(f"{host}:{port}")
        # A bound address of each kind may come back; it says nothing.
        bound = b"\3\5proxy" if kind == 3 else b"\4" + bytes(16)
        client.sendall(b"\5" + bytes([0 if self._allows(host) else 2]) + b"\0" + bound + bytes(2))
        return (host, port) if self._allows(host) else None


def read(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = client.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def text_of(client: socket.socket) -> str:
    """What comes until a zero byte."""
    data = b""
    while not data.endswith(b"\0"):
        data += read(client, 1)
    return data[:-1].decode()


def pass_on(client: socket.socket, server: socket.socket) -> None:
    """Pass on what either says, until one ends."""
    while True:
        held = isinstance(client, ssl.SSLSocket) and client.pending()
        for source in [client] if held else select.select([client, server], [], [])[0]:
            data = source.recv(65536)
            if not data:
                return
            (server if source is client else client).sendall(data)


@contextlib.contextmanager
def forward_proxy(
    kind: str, family: socket.AddressFamily = socket.AF_INET, tls: ssl.SSLContext | None = None
) -> Iterator[ForwardProxy]:
    """One that runs."""
    started = ForwardProxy(kind, family, tls)
    try:
        yield started
    finally:
        started.stop()
