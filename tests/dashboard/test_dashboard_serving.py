"""The dashboard's page and files over TLS, and what pages of other origins may not do."""

import ipaddress
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.api import same_origin
from cdxsync.security import server_names
from tests.support.fleet import Client, Fleet, running_fleet

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FOREIGN = "https://evil.example.com"


@pytest.fixture(scope="module")
def admin(fleet: Fleet) -> Iterator[Client]:
    with fleet.client(certificate="admin") as client:
        yield client


def files(folder: Any, prefix: str = "") -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from files(entry, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name


FILES = sorted(files(resources.files("cdxsync.dashboard") / "static"))


def test_the_page_has_its_headers(admin: Client) -> None:
    answer = admin.call("GET", "/admin/", headers=HTML)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.content == (resources.files("cdxsync.dashboard") / "static" / "index.html").read_bytes()
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "font-src": "'self'",
        "form-action": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    expected = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Frame-Options": "DENY",
        "Cache-Control": "no-cache",
    }
    assert {name: answer.headers[name] for name in expected} == expected
    assert "camera=()" in answer.headers["Permissions-Policy"]
    head = admin.call("HEAD", "/admin/")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["ETag"] == answer.headers["ETag"]


def test_the_page_refers_to_files_that_are_there(admin: Client) -> None:
    page = admin.call("GET", "/admin/").text
    named = re.findall(r'(?:src|href)="(static/[^"]+)"', page)
    assert named
    for path in named:
        assert admin.call("GET", f"/admin/{path}").status_code == 200, path
    assert "<style" not in page
    assert not re.search(r"<script(?![^>]*\ssrc=)", page)


def test_every_file_is_sent_with_its_type(admin: Client) -> None:
    types = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
    for path in FILES:
        answer = admin.call("GET", f"/admin/static/{path}")
        kind = types.get(path.rpartition(".")[2])
        if kind is None and not path.endswith((".html", ".png")):
            assert answer.status_code == 404, path
            continue
        assert answer.status_code == 200, path
        if kind is not None:
            assert answer.headers["Content-Type"] == kind
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_what_has_not_changed_is_not_sent_again(admin: Client) -> None:
    tag = admin.call("GET", "/admin/").headers["ETag"]
    for held in (tag, f"W/{tag}", f'"x", {tag}'):
        again = admin.call("GET", "/admin/", headers={"If-None-Match": held})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    assert admin.call("GET", "/admin/", headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_path_without_its_slash_leads_to_the_page(admin: Client) -> None:
    answer = admin.call("GET", "/admin")
    assert (answer.status_code, answer.headers["Location"]) == (308, "admin/")


@pytest.mark.parametrize(
    "path",
    [
        "/admin/static/../certificate.html",
        "/admin/static/..%2fcertificate.html",
        "/admin/static/%2e%2e/certificate.html",
        "/admin/static//etc/passwd",
        "/admin/static/js/main.js/",
        "/admin/static/js",
        "/admin/static/",
        "/admin/static/nothing.js",
        "/admin/static/js/main.js%00.css",
    ],
)
def test_nothing_else_has_an_address(fleet: Fleet, admin: Client, path: str) -> None:
    request = requests.Request("GET", fleet.url).prepare()
    request.url = fleet.url + path  # as it is, without being tidied
    answer = admin.session.send(request, timeout=30, cert=admin.session.cert, verify=admin.session.verify)
    assert answer.status_code == 404
    assert answer.json()["status"] == "error"


def test_without_a_certificate_a_browser_is_told_how_to_get_one(fleet: Fleet) -> None:
    with fleet.client() as client:
        answer = client.call("GET", "/admin/", headers=HTML)
        assert answer.status_code == 403
        assert answer.headers["Content-Type"].startswith("text/html")
        for text in ("cdxsync pki issue alice", "cdxsync pki export alice --out alice.p12", "certificate is required"):
            assert text in answer.text
        assert "$" not in answer.text
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        for headers in ({}, {"Accept": "application/json"}):
            assert client.call("GET", "/admin/", headers=headers).json()["status"] == "error"
        for path in ("/admin/static/js/main.js", "/admin/hosts"):
            refused = client.call("GET", path, headers=HTML)
            assert (refused.status_code, refused.json()["status"]) == (403, "error")


def test_the_commands_of_that_page_work(fleet: Fleet, tmp_path: Path) -> None:
    out = tmp_path / "alice.p12"
    fleet.cli("pki", "issue", "alice")
    fleet.cli("pki", "export", "alice", "--out", str(out), "--password-file", "-", input="open sesame, wide\n")
    assert out.stat().st_mode & 0o777 == 0o600
    with fleet.client(certificate="alice") as client:
        assert client.call("GET", "/admin/").status_code == 200
        fleet.cli("pki", "revoke", "alice", "--yes")
        answer = client.call("GET", "/admin/", headers=HTML)
    assert answer.status_code == 403
    assert "has been revoked" in answer.text


def change(admin: Client, headers: dict[str, str]) -> requests.Response:
    return admin.call("POST", "/admin/api/state", json={"disabled": False}, headers=headers)


def test_programs_go_on_as_before(admin: Client) -> None:
    assert change(admin, {}).status_code == 200
    assert admin.call("GET", "/admin/hosts").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Origin": "OWN"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": "OWN"},
    ],
)
def test_the_dashboard_may_change_things(fleet: Fleet, admin: Client, headers: dict[str, str]) -> None:
    headers = {name: fleet.url if value == "OWN" else value for name, value in headers.items()}
    refused = change(admin, headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "header_missing")
    assert "X-Cdxsync-Request" in refused.json()["message"]
    assert change(admin, headers | {"X-Cdxsync-Request": "dashboard"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": FOREIGN},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "OWN.evil.example.com"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "anything"},
        {"Sec-Fetch-Site": "same-origin", "Origin": FOREIGN},
        {"Sec-Fetch-Site": "cross-site", "Origin": "OWN"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
)
def test_other_pages_change_and_start_nothing(fleet: Fleet, admin: Client, headers: dict[str, str]) -> None:
    sent = {name: value.replace("OWN", fleet.url) for name, value in headers.items()}
    calls = [
        ("POST", "/admin/api/state", {"disabled": True}),
        ("POST", "/admin/hosts/register", {"fqdn": "csrf.example.net"}),
        ("DELETE", "/admin/hosts/1", None),
        ("GET", "/admin/hosts", None),
        ("GET", "/admin/chatgpt/usage?force=1", None),
        ("GET", "/admin/auth?include_body=1", None),
        ("OPTIONS", "/admin/api/state", None),
    ]
    for method, path, body in calls:
        for header in ({}, {"X-Cdxsync-Request": "dashboard"}):
            answer = admin.call(method, path, json=body, headers=sent | header)
            assert (answer.status_code, answer.json()["code"]) == (403, "cross_origin"), (method, path)
            assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
    assert admin.call("GET", "/admin/api/state").json()["data"]["disabled"] is False
    assert "csrf.example.net" not in admin.call("GET", "/admin/hosts").text


def test_other_pages_may_only_link_to_the_dashboard(admin: Client) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert admin.call("GET", "/admin/", headers=link).status_code == 200
    assert admin.call("GET", "/admin/", headers=link | {"Sec-Fetch-Dest": "iframe"}).status_code == 403
    assert admin.call("POST", "/admin/", headers=link).status_code == 403
    script = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}
    assert admin.call("GET", "/admin/static/js/main.js", headers=script).status_code == 403


def test_a_preflight_gets_no_permission(fleet: Fleet, admin: Client) -> None:
    asked = {
        "Origin": FOREIGN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-cdxsync-request",
    }
    with fleet.client() as nobody:
        for client in (nobody, admin):  # browsers send no certificate with it
            for path in ("/admin/api/state", "/auth", "/admin/"):
                answer = client.call("OPTIONS", path, headers=asked)
                assert answer.status_code in (403, 405)
                assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


def test_refused_pages_are_in_the_audit_log_and_cannot_throttle_the_admin(fresh_fleet: Fleet) -> None:
    fresh_fleet.stop()
    fresh_fleet.env["DASHBOARD_ADMIN_KEY"] = "open sesame, wide"
    fresh_fleet.start()
    with fresh_fleet.client(certificate="admin") as client:
        for _ in range(30):
            wrong = {"Origin": FOREIGN, "X-Admin-Key": "guess"}
            assert client.call("GET", "/admin/hosts", headers=wrong).status_code == 403
        assert client.call("GET", "/admin/", headers=HTML).status_code == 200  # the page asks for the key
        assert client.call("GET", "/admin/static/js/main.js").status_code == 200
        assert client.call("GET", "/admin/hosts").status_code == 401
        own = {"Origin": fresh_fleet.url, "X-Admin-Key": "open sesame, wide", "X-Cdxsync-Request": "dashboard"}
        assert client.call("POST", "/admin/api/state", json={"disabled": False}, headers=own).status_code == 200
        rows = client.call("GET", "/admin/logs", headers=own).json()["data"]["logs"]
    refused = [json.loads(row["details"])["reason"] for row in rows if row["action"] == "access.refused"]
    assert "Requests of pages of other origins are refused" in refused


def test_behind_a_proxy_only_public_url_and_what_the_settings_name_are_own_origins(tmp_path: Path) -> None:
    proxied = ("--plain-http", "--trusted-proxy", "127.0.0.1/32")
    env = {"CDXSYNC_DASHBOARD_ORIGINS": "https://admin.example.net, https://a.example.net:8443"}
    with running_fleet(tmp_path / "home", serve_args=proxied, env=env) as fleet, fleet.client() as client:
        proxy = {"X-mTLS-Present": "1", "X-mTLS-Subject": "CN=alice", "X-Forwarded-For": "192.0.2.9"}
        for sent, origin, passes in (
            ({}, fleet.url, True),
            ({"Host": "backend"}, fleet.url, True),
            ({}, "https://admin.example.net", True),
            ({}, "https://a.example.net:8443", True),
            ({}, "https://a.example.net", False),
            ({}, "https://cdx.example.net", False),
            ({"X-Forwarded-Proto": "https", "Host": "cdx.example.net"}, "https://cdx.example.net", False),
            ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "c.example.net"}, "https://c.example.net", False),
        ):
            headers = proxy | sent | {"Origin": origin, "X-Cdxsync-Request": "dashboard"}
            assert change(client, headers).status_code == (200 if passes else 403), (sent, origin)
        assert client.call("GET", "/admin/", headers=proxy | HTML).status_code == 200
        assert client.call("GET", "/admin/", headers=HTML).status_code == 403


def test_a_name_that_leads_to_the_server_is_no_origin_of_its_own(fleet: Fleet, admin: Client) -> None:
    """DNS rebinding: to the browser the page and the server are of one origin, and `Host` says the same."""
    own = {"X-Cdxsync-Request": "dashboard", "Sec-Fetch-Site": "same-origin"}
    for host in (
        f"evil.example.com:{fleet.port}",
        f"localhost.:{fleet.port}x",
        "localhost",
        f"localhost:{fleet.port + 1}",
    ):
        page = own | {"Host": host}
        assert change(admin, page | {"Origin": f"https://{host}"}).status_code == 403
        for path in ("/admin/hosts", "/admin/auth?include_body=1"):  # browsers send no Origin with these
            answer = admin.call("GET", path, headers=page)
            assert (answer.status_code, answer.json()["code"]) == (403, "cross_origin"), host


def test_the_names_of_the_certificate_are_own_origins(fleet: Fleet, admin: Client) -> None:
    own = {"X-Cdxsync-Request": "dashboard", "Sec-Fetch-Site": "same-origin"}
    for host in ("localhost", "LOCALHOST", "127.0.0.1", "[::1]"):
        at = f"{host}:{fleet.port}"
        assert change(admin, own | {"Host": at, "Origin": f"https://{at}"}).status_code == 200, host
        assert change(admin, own | {"Host": at, "Origin": f"http://{at}"}).status_code == 403, host


def test_tls_of_our_own_is_kept_by_browsers(fleet: Fleet, admin: Client, tmp_path: Path) -> None:
    name = "Strict-Transport-Security"
    by_address = {"Host": f"127.0.0.1:{fleet.port}"}
    for path in ("/admin/", "/admin/hosts", "/versions", "/nothing", "/ad%FFmin"):
        assert admin.call("GET", path, headers=by_address).headers[name] == "max-age=31536000", path
        assert name not in admin.call("GET", path).headers, "programs of the admin's own machine are at localhost too"
    with running_fleet(tmp_path / "home", serve_args=("--plain-http",)) as plain, plain.client() as client:
        for sent in ({}, {"X-Forwarded-Proto": "https", "Host": "cdx.example.net"}):
            assert name not in client.call("GET", "/versions", headers=sent).headers


def test_a_wildcard_in_a_certificate_is_no_name_of_the_server() -> None:
    pem = make_certificate(
        x509.DNSName("*.example.net"),
        x509.DNSName("Cdx.example.net"),
        x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
    )
    found = server_names.of_certificate(pem)
    assert found == ("cdx.example.net", "2001:db8::1")
    assert same_origin.own("https://www.example.net/cdx", [], found, "8443") == {
        "https://www.example.net",
        "https://cdx.example.net",
        "https://cdx.example.net:8443",
        "https://[2001:db8::1]",
        "https://[2001:db8::1]:8443",
    }
    assert server_names.of_certificate(make_certificate()) == ()


def make_certificate(*names: x509.GeneralName) -> bytes:
    key, at = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    nameless = x509.Name([])
    made = x509.CertificateBuilder().subject_name(nameless).issuer_name(nameless).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(at).not_valid_after(at + timedelta(days=1))
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=True)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


names = st.from_regex(r"[a-z][a-z0-9-]{0,10}(\.[a-z][a-z0-9]{0,5}){0,2}", fullmatch=True)
origins = st.builds(
    lambda scheme, host, port: f"{scheme}://{host}{port}",
    st.sampled_from(["http", "https"]),
    names,
    st.sampled_from(["", ":8443", ":8080"]),
)


@given(origins, origins, st.sampled_from(["GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS"]), st.booleans())
def test_only_the_own_origin_passes(own: str, origin: str, method: str, with_header: bool) -> None:
    headers = {"Origin": origin} | ({same_origin.HEADER: "dashboard"} if with_header else {})
    found = same_origin.refusal(method, headers, {own})
    assert (found is None) == (own == origin and (with_header or method in ("GET", "HEAD")))
    assert same_origin.refusal(method, {}, {own}) is None


@given(origins)
def test_an_origin_is_the_same_however_it_is_written(origin: str) -> None:
    scheme, _, rest = origin.partition("://")
    port = "" if ":" in rest else {"http": ":80", "https": ":443"}[scheme]
    assert same_origin.origin_of(f"{scheme.upper()}://{rest.upper()}{port}/a/path?x=1") == origin


@given(st.text())
def test_no_text_breaks_the_reading_of_an_origin(text: str) -> None:
    found = same_origin.origin_of(text)
    assert found is None or same_origin.origin_of(found) == found
