"""Connections to a server that are kept open, over which single requests are made."""

import socket
import ssl

from tests.support.fleet import Fleet
from tests.support.running import answer


def trusting(fleet: Fleet) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(fleet.ca_file))


def speak(fleet: Fleet, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", fleet.port), 60)
    return context.wrap_socket(raw, server_hostname="localhost", session=session)


def health(connection: socket.socket) -> int:
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    return answer(connection)[0]
