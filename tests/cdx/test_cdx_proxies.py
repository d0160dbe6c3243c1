"""The way to the server through a proxy that the environment names, and what is said of one that cannot be used."""

import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdxsync.wrapper.src.proxy import Proxy, ProxyTrouble, is_bypassed, proxy_for
from tests.support.codex_release import CodexRelease
from tests.support.documents import make_auth
from tests.support.fleet import Fleet
from tests.support.forward_proxies import ForwardProxy, forward_proxy
from tests.support.machines import Machine, everyday_programs, host, stub_cdx, write_program
from tests.support.stub_server import StubServer


@pytest.fixture
def machine(fleet: Fleet, tmp_path: Path) -> Machine:
    """A host that nothing keeps from a proxy."""
    fleet.upload(make_auth())
    made = host(fleet, tmp_path)
    del made.env["NO_PROXY"]
    return made


@pytest.fixture
def proxy() -> Iterator[ForwardProxy]:
    with forward_proxy("http") as started:
        yield started


def ran(machine: Machine, **env: str) -> None:
    """A run of Codex, before which auth.json was synced."""
    done = machine.run_cdx("exec", "hi", **env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran with: exec hi\n", "")


def test_a_proxy_is_taken(fleet: Fleet, machine: Machine, proxy: ForwardProxy) -> None:
    ran(machine, HTTPS_PROXY=proxy.url())
    assert len(proxy.log) >= 2
    assert set(proxy.log) == {f"CONNECT localhost:{fleet.port} HTTP/1.1"}
    assert proxy.logins == []
    refused = machine.run_cdx("--status", HTTPS_PROXY=proxy.url(), CODEX_SYNC_BASE_URL="https://other.invalid")
    assert f"the proxy answered 403 Forbidden (HTTPS_PROXY, {proxy.url()})" in refused.stdout


@pytest.mark.parametrize(
    ("name", "kind", "scheme", "asked"),
    [
        ("HTTPS_PROXY", "socks5", "socks5h", "localhost"),
        ("https_proxy", "socks5", "SOCKS5H", "localhost"),
        ("ALL_PROXY", "socks5", "socks", "localhost"),
        ("all_proxy", "socks5", "socks5", "(127.0.0.1|::1)"),
        ("ALL_PROXY", "socks4", "socks4a", "localhost"),
        ("all_proxy", "http", "http", "CONNECT localhost"),
    ],
)
def test_each_kind_by_each_variable(machine: Machine, kind: str, scheme: str, asked: str, name: str) -> None:
    with forward_proxy(kind) as proxy:
        ran(machine, **{name: proxy.url(scheme)})
        assert proxy.log
        assert all(re.match(asked, line) for line in proxy.log), proxy.log
        checked = machine.run_cdx("--doctor", **{name: proxy.url(scheme)})
        assert checked.returncode == 0, checked.stdout
        assert ("Codex itself does not speak SOCKS" in checked.stdout) == (kind != "http")


def test_socks_4_is_told_an_address() -> None:
    with forward_proxy("socks4") as proxy, socket.create_connection(proxy.listener.getsockname()) as raw:
        Proxy(proxy.url(), "ALL_PROXY").open_tunnel(raw, "localhost", 1, lambda name, port: "127.0.0.1")
        assert proxy.log == ["127.0.0.1:1"]
    with (
        forward_proxy("socks4") as proxy,
        socket.create_connection(proxy.listener.getsockname()) as raw,
        pytest.raises(ProxyTrouble, match="no IPv6"),
    ):
        Proxy(proxy.url(), "ALL_PROXY").open_tunnel(raw, "localhost", 1, lambda name, port: "::1")


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_a_proxy_that_wants_to_know_who_asks(machine: Machine, kind: str) -> None:
    with forward_proxy(kind) as proxy:
        proxy.user = "me:p@ss/w:rd"
        ran(machine, ALL_PROXY=proxy.url(login="me:p%40ss%2Fw:rd"))
        assert set(proxy.logins) == {"me:p@ss/w:rd"}
        for login in ("", "me:wrong-secret"):
            done = machine.run_cdx("--status", HTTPS_PROXY=proxy.url(login=login))
            assert done.returncode == 1
            assert re.search(r"the proxy (answered 407|wants a user's name|refuses the user's)", done.stdout)
            assert "wrong-secret" not in done.stdout + done.stderr
            assert f"(HTTPS_PROXY, {proxy.url()})" in done.stdout


def test_a_proxy_that_is_spoken_to_over_tls(fleet: Fleet, machine: Machine) -> None:
    """It is verified by the roots of the system; the server, within, by the fleet's CA."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(fleet.home / "pki" / "server.pem", fleet.home / "pki" / "server.key")
    with forward_proxy("http", tls=tls) as proxy:
        url = proxy.url(login="me:secret").replace("127.0.0.1", "localhost")
        ran(machine, HTTPS_PROXY=url, SSL_CERT_FILE=str(fleet.ca_file))
        assert set(proxy.log) == {f"CONNECT localhost:{fleet.port} HTTP/1.1"}
        assert set(proxy.logins) == {"me:secret"}
        large = "x" * 200_000
        fleet.admin_call("POST", "/admin/slash-commands/store", json={"filename": "large.md", "prompt": large})
        ran(machine, HTTPS_PROXY=url, SSL_CERT_FILE=str(fleet.ca_file))
        assert (machine.home / ".codex/prompts/large.md").read_text() == large
        assert machine.run_cdx("--doctor", HTTPS_PROXY=url, SSL_CERT_FILE=str(fleet.ca_file)).returncode == 0
        done = machine.run_cdx("--status", HTTPS_PROXY=url)
        assert "the proxy cannot be spoken to over TLS: " in done.stdout
        assert f"(HTTPS_PROXY, https://localhost:{url.rpartition(':')[2]})" in done.stdout
    with forward_proxy("http") as plain:
        done = machine.run_cdx("--status", HTTPS_PROXY=plain.url("https"))
        assert "the proxy " in done.stdout
        assert "HTTPS_PROXY, https://127" in done.stdout


def test_a_proxy_on_ipv6(machine: Machine) -> None:
    with forward_proxy("http", socket.AF_INET6) as proxy:
        ran(machine, HTTPS_PROXY=proxy.url())
        ran(machine, HTTPS_PROXY=proxy.place, https_proxy=" ")
        ran(machine, HTTPS_PROXY=f"//{proxy.place}")
        assert len(proxy.log) >= 2


def test_lower_case_comes_first_and_an_empty_one_is_none(machine: Machine, proxy: ForwardProxy) -> None:
    with forward_proxy("http") as other:
        ran(machine, https_proxy=proxy.url(), HTTPS_PROXY=other.url(), ALL_PROXY=other.url())
        assert proxy.log
        assert not other.log
    count = len(proxy.log)
    ran(machine, https_proxy="", HTTPS_PROXY=proxy.url())
    ran(machine, http_proxy=proxy.url(), HTTP_PROXY=proxy.url())
    assert len(proxy.log) == count


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_no_proxy_keeps_a_host_from_it(fleet: Fleet, machine: Machine, proxy: ForwardProxy, name: str) -> None:
    ran(machine, HTTPS_PROXY=proxy.url(), **{name: "example.net, localhost"})
    ran(machine, HTTPS_PROXY=proxy.url(), **{name: f".localhost:{fleet.port}"})
    assert not proxy.log
    ran(machine, HTTPS_PROXY=proxy.url(), **{name: f"localhost:{fleet.port + 1},10.0.0.0/8,nonsense/99,/,[,:"})
    assert proxy.log


def test_a_network_in_no_proxy_keeps_an_address_from_it(
    fleet: Fleet, machine: Machine, proxy: ForwardProxy, tmp_path: Path
) -> None:
    address = {"CODEX_SYNC_BASE_URL": f"https://127.0.0.1:{fleet.port}", "HTTPS_PROXY": proxy.url()}
    ran(machine, NO_PROXY="10.0.0.0/8,127.0.0.0/8", **address)
    assert not proxy.log
    ran(machine, NO_PROXY="10.0.0.0/8,128.0.0.0/8", **address)
    assert proxy.log


@pytest.mark.parametrize(
    ("listed", "name", "expected"),
    [
        ("*", "a.example.net", True),
        ("example.net", "a.example.net", True),
        (".example.net", "a.example.net", True),
        ("*.example.net", "a.example.net", True),
        ("EXAMPLE.net.", "a.example.NET.", True),
        ("ample.net", "a.example.net", False),
        ("a.example.net:8443", "a.example.net", True),
        ("a.example.net:443", "a.example.net", False),
        ("other  a.example.net", "a.example.net", True),
        ("", "a.example.net", False),
        (",,", "a.example.net", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.1/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("0.0.0.0/0", "11.1.2.3", True),
        ("10.1.2.3/32", "10.1.2.3", True),
        ("10.0.0.0/33", "10.1.2.3", False),
        ("10.0.0.0/8", "a.example.net", False),
        ("10.0.0.0/8", "fd00::1", False),
        ("fd00::/8", "fd00::1", True),
        ("[fd00::]/8", "fd00::1", True),
        ("fd00:0::1", "fd00::1", True),
        ("[fd00::1]:8443", "fd00::1", True),
        ("[fd00::1]:443", "fd00::1", False),
        ("10.1.2.3:8443", "10.1.2.3", True),
        ("1.2.3", "0.1.2.3", False),
        ("10.0.0.0/255.0.0.0", "10.1.2.3", False),
    ],
)
def test_entries_of_no_proxy(listed: str, name: str, expected: bool) -> None:
    assert is_bypassed(listed, name, 8443) is expected


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://proxy:abc", r"is not the URL of a proxy \(its port is no number"),
        ("http://proxy:99999", "its port is no number"),
        ("http://proxy:0", "its port is no number"),
        ("http://[::1", "is not the URL of a proxy; write http://HOST:PORT"),
        ("http://", "it names no host"),
        (":3128", "it names no host"),
        ("http://user:top-secret/x@proxy:3128", "write / . # and @ in the user's name or password as"),
        ("http://user:1#top-secret@proxy:3128", "write / . # and @"),
        ("ftp://proxy:3128", "names a proxy of the unknown kind ftp://"),
        ("http://pro xy:3128", "it names no host"),
    ],
)
def test_a_malformed_proxy_is_named(machine: Machine, url: str, says: str) -> None:
    """The run goes on with the credentials that are here; the doctor names the variable."""
    name = "HTTPS_PROXY" if len(url) % 2 else "all_proxy"
    ran(machine)
    done = machine.run_cdx("exec", "hi", **{name: url})
    assert (done.returncode, done.stdout) == (0, "ran with: exec hi\n")
    assert re.search(f"{name} .*{says}", done.stderr.splitlines()[0])
    assert "using the cached credentials" in done.stderr
    checked = machine.run_cdx("--doctor", **{name: url})
    assert checked.returncode == 1
    assert re.search(f"FAIL  {name} .*{says}", checked.stdout)
    assert "-> correct it, or go there without it: NO_PROXY=localhost" in checked.stdout
    status = machine.run_cdx("--status", **{name: url})
    text = done.stderr + checked.stdout + checked.stderr + status.stdout + status.stderr
    assert "Traceback" not in text
    assert "top-secret" not in text
    ran(machine, NO_PROXY="localhost", **{name: url})


def test_a_proxy_that_is_away_is_named(machine: Machine, proxy: ForwardProxy) -> None:
    ran(machine)
    proxy.stop()
    done = machine.run_cdx("exec", "hi", HTTPS_PROXY=proxy.url())
    assert "the proxy cannot be reached: Connection refused (HTTPS_PROXY, http://127" in done.stderr
    done = machine.run_cdx("--doctor", HTTPS_PROXY=proxy.url())
    assert "is reached through the proxy of HTTPS_PROXY, http://127" in done.stdout
    assert "cannot be reached: the proxy cannot be reached" in done.stdout


@pytest.mark.parametrize("kind", ["http", "socks5", "socks4"])
def test_what_speaks_something_else_is_named(machine: Machine, stub: StubServer, kind: str) -> None:
    """A web server in the place of a SOCKS proxy, and the other way round."""
    ran(machine)
    with forward_proxy("socks5") as other:
        url = other.place if kind == "http" else stub.url.removeprefix("http://")
        done = machine.run_cdx("exec", "hi", ALL_PROXY=f"{kind}://{url}")
    assert (done.returncode, done.stdout) == (0, "ran with: exec hi\n")
    assert re.search(r"the proxy (hung up|does not speak|does not answer in time)", done.stderr)
    assert "Traceback" not in done.stderr


def test_a_key_in_clear_goes_to_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain http is spoken with this machine alone."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert proxy_for("http", "localhost", 80) is None
    assert proxy_for("https", "localhost", 443) is not None


def test_releases_come_through_it_too(stub: StubServer, tmp_path: Path) -> None:
    """GitHub is asked as the server is; here it is unencrypted and on this machine, and so asked directly."""
    machine = Machine(tmp_path / "m", path=str(everyday_programs(tmp_path)))
    del machine.env["NO_PROXY"]
    write_program(machine.bin / "npm", "#!/bin/sh\nexit 1\n")
    CodexRelease(stub, "0.170.0")
    stub.valid(versions={"client_version": "0.170.0"})
    with forward_proxy("http") as proxy:
        for api, says in (
            (stub.url, ""),
            ("https://api.github.invalid", "the proxy answered 403 Forbidden (ALL_PROXY"),
        ):
            machine.put_cdx(stub_cdx(stub.url, github=api))
            command = ("--wrapper-install-codex", "0.170.0", str(machine.bin / "codex"))
            if says:
                (machine.bin / "codex").unlink()
            done = machine.run_cdx(*command, ALL_PROXY=proxy.url())
            assert done.returncode == bool(says)
            assert says in done.stderr
            assert "Traceback" not in done.stderr
        assert proxy.log == ["CONNECT api.github.invalid:443 HTTP/1.1"]
