"""The HTTP client for the outside: redirects, proxies, retries and credentials."""

from pathlib import Path

import pytest

from cdxsync.base.errors import ServiceError
from cdxsync.services import client
from tests.support.fleet import free_port
from tests.support.upstream import PRICES, QUOTA, VERIFY, Upstream


def test_redirects_keep_credentials_on_their_server(upstream: Upstream) -> None:
    other = Upstream()
    try:
        upstream.fail(QUOTA, status=302, headers={"Location": other.url + QUOTA})
        with pytest.raises(ServiceError, match="another server") as caught:
            client.get(upstream.url + QUOTA, timeout=10, headers={"Authorization": "Bearer hidden"}, secret=True)
        assert "hidden" not in caught.value.message
        assert other.count(QUOTA) == 0
        assert client.get(upstream.url + QUOTA, timeout=10).status == 200
        upstream.fail(QUOTA, status=302, headers={"Location": PRICES})
        assert b"gpt-5.1" in client.get(upstream.url + QUOTA, timeout=10, secret=True).body
        upstream.fail(QUOTA, status=302, headers={"Location": "http://[::1"})
        with pytest.raises(ServiceError, match="an invalid address"):
            client.get(upstream.url + QUOTA, timeout=10)
        upstream.fail(QUOTA, status=302, headers={"Location": PRICES}, body=" " * 1000, repeat=3000)
        with pytest.raises(ServiceError, match="more than 2097152 bytes"):
            client.get(upstream.url + QUOTA, timeout=10)
        upstream.fail(QUOTA, status=302, headers={"Location": "file:///etc/passwd"})
        with pytest.raises(ServiceError, match="redirects to an address without TLS"):
            client.get(upstream.url + QUOTA, timeout=10)
    finally:
        other.stop()


def test_what_may_pass_is_tried_again(upstream: Upstream) -> None:
    upstream.fail(PRICES, status=502, times=2)
    assert client.get(upstream.url + PRICES, timeout=30).status == 200
    assert upstream.count(PRICES) == 3
    upstream.fail(PRICES, status=404)
    with pytest.raises(ServiceError, match="HTTP 404"):
        client.get(upstream.url + PRICES, timeout=30)
    assert upstream.count(PRICES) == 4


def test_a_proxy_of_the_environment_is_used(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:hidden@127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(ServiceError, match="proxy of the environment") as caught:
        client.get("http://prices.example.net/", timeout=5)
    assert "hidden" not in caught.value.message


def test_a_netrc_does_not_replace_the_credentials(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    answer = client.post_json(
        upstream.url + VERIFY,
        {"auth_json": {}},
        timeout=10,
        headers={"Authorization": "Bearer runner-secret"},
    )
    assert answer.status == 200
