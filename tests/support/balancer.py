"""A TCP balancer before several servers, as admins put one there: round robin, past those that take no connection."""

import contextlib
import itertools
import selectors
import socket
import threading
from types import TracebackType

_CHUNK = 65536


class Balancer:
    """Hands each connection to the next of `ports` that takes it; bytes go as they are."""

    def __init__(self, ports: list[int], source: str = "127.0.0.1") -> None:
        self.source = source
        """The address from which servers see its clients come."""
        self.taken = dict.fromkeys(ports, 0)
        """How many connections each has got."""
        self._turns = itertools.cycle(range(len(ports)))
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listening.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, name="balancer", daemon=True)

    def __enter__(self) -> "Balancer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # which ends the wait in accept
        self._listening.close()
        self._thread.join(30)

    def _accept(self) -> None:
        while True:
            try:
                client = self._listening.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            server = self._connect()
            if server is None:
                return  # nobody is there: the client sees its connection end
            with server, contextlib.suppress(OSError):
                _pass_on(client, server)

    def _connect(self) -> socket.socket | None:
        ports = list(self.taken)
        with self._lock:
            first = next(self._turns)
        for port in ports[first:] + ports[:first]:
            with contextlib.suppress(OSError):
                server = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(self.source, 0))
                with self._lock:
                    self.taken[port] += 1
                return server
        return None


def _pass_on(client: socket.socket, server: socket.socket) -> None:
    """Until one side has closed, as the requests and answers of HTTP need."""
    for one in (client, server):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ, server)
        selector.register(server, selectors.EVENT_READ, client)
        while True:
            for key, _ in selector.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                data = source.recv(_CHUNK)
                if not data:
                    return
                key.data.sendall(data)
