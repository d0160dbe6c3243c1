"""How Codex reads the variables of proxies, which `cdx` reads by itself for its own calls."""

import socket
import threading

import pytest

from tests.support.codex_home import HI, CodexHome
from tests.support.provider import Provider


def test_networks_in_no_proxy_are_understood(home: CodexHome, provider: Provider) -> None:
    home.put_auth(provider.login())
    assert home.exec(ALL_PROXY="http://127.0.0.1:1", NO_PROXY="10.0.0.0/8,127.0.0.0/8").stdout == f"{HI}\n"


def test_a_malformed_proxy_is_passed_over(home: CodexHome, provider: Provider) -> None:
    home.put_auth(provider.login())
    assert home.exec(ALL_PROXY="http://[::1", NO_PROXY="").stdout == f"{HI}\n"


@pytest.mark.parametrize("kind", ["socks5", "socks5h"])
def test_a_socks_proxy_is_taken_for_one_of_http(home: CodexHome, provider: Provider, kind: str) -> None:
    home.put_auth(provider.login())
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    heads.append(client.recv(1024))
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        assert home.exec(ALL_PROXY=f"{kind}://127.0.0.1:{port}", NO_PROXY="").returncode != 0
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(30)
    assert heads
    assert all(b" HTTP/1.1\r\n" in head for head in heads)
