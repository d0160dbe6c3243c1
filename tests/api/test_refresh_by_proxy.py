"""A server that reaches the provider by a proxy alone, which its environment names."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.fleet import running_fleet
from tests.support.provider import Provider
from tests.support.quiet_http import QuietHandler
from tests.support.together import until


class _Proxy(QuietHandler):
    """Passes requests for whole URLs on, and notes them."""

    passed: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.passed.append(self.path)
        with requests.Session() as direct:
            direct.trust_env = False
            answer = direct.post(self.path, data=body, headers={"Content-Type": "application/json"}, timeout=30)
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """The URL of a proxy, and the URLs that it was asked for."""
    passed: list[str] = []
    handler = type("Handler", (_Proxy,), {"passed": passed})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", passed
        server.shutdown()
        thread.join()


def test_refreshing_and_revoking_go_by_the_proxy(
    tmp_path: Path, provider: Provider, proxy: tuple[str, list[str]]
) -> None:
    url, passed = proxy
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy"), url) | dict.fromkeys(("NO_PROXY", "no_proxy"), "")
    with running_fleet(tmp_path / "home", env=provider.environment() | proxies) as fleet:
        fleet.upload(provider.login(life=2))
        until(lambda: provider.refreshes == 1)
        until(lambda: provider.is_alive((fleet.canonical() or {})["tokens"]["refresh_token"]))
        assert passed == [provider.token_url]
        fleet.cli("auth", "revoke", "--yes")
    assert passed == [provider.token_url, f"{provider.url}/oauth/revoke"]
    assert len(provider.revoked) == 1
