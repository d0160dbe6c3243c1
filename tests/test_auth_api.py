"""POST and DELETE /auth, and who may call, over real TLS: contract.md 1 to 4."""

import http.client
import json
import socket
import ssl
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from conftest import Client, Fleet, running_fleet
from documents import make_auth, plain_digest, with_auths

pytestmark = pytest.mark.every_engine

OLD, MIDDLE, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00.5Z"
ZERO = "0" * 64
names = (f"host{number}.example.net" for number in count())


def retrieve(client: Client, last_refresh: str = OLD, digest: str = ZERO, **more: Any) -> dict[str, Any]:
    response = client.auth(command="retrieve", last_refresh=last_refresh, digest=digest, **more)
    assert response.status_code == 200, response.text
    data: dict[str, Any] = response.json()["data"]
    return data


def store(client: Client, document: dict[str, Any], **more: Any) -> dict[str, Any]:
    response = client.auth(command="store", auth=document, **more)
    assert response.status_code == 200, response.text
    data: dict[str, Any] = response.json()["data"]
    return data


def logs(fleet: Fleet, action: str) -> list[dict[str, Any]]:
    rows = fleet.rows("SELECT actor, details FROM logs WHERE action = ? ORDER BY id", action)
    return [{"actor": actor, **json.loads(details or "{}")} for actor, details in rows]


ALWAYS = {"status", "canonical_last_refresh", "canonical_digest", "api_calls", "token_usage_month", "versions"}


def test_the_life_of_a_document(fresh_fleet: Fleet) -> None:
    with fresh_fleet.client(fresh_fleet.key(next(names))) as one, fresh_fleet.client(fresh_fleet.key("b")) as two:
        answer = retrieve(one)
        assert answer["status"] == "missing"
        assert answer["action"] == "store"
        assert answer["canonical_digest"] is answer["canonical_last_refresh"] is None
        assert set(answer) == ALWAYS | {"action"}

        middle = make_auth(MIDDLE)
        answer = store(one, middle)
        assert answer["status"] == "updated"
        assert answer["auth"] == with_auths(middle)
        assert answer["canonical_digest"] == plain_digest(with_auths(middle))
        assert answer["canonical_last_refresh"] == MIDDLE
        assert set(answer) == ALWAYS | {"auth", "host", "runner_applied"}
        assert answer["runner_applied"] is False
        assert answer["host"]["fqdn"].startswith("host")
        assert set(answer["host"]) == {
            "fqdn",
            "status",
            "last_refresh",
            "updated_at",
            "client_version",
            "wrapper_version",
            "api_calls",
            "allow_roaming_ips",
        }
        assert answer["token_usage_month"] == dict.fromkeys(
            ["total", "input", "output", "cached", "reasoning", "events"], 0
        )

        assert store(one, middle)["status"] == "unchanged"
        assert "auth" not in store(one, with_auths(middle))
        for digest in (plain_digest(middle), plain_digest(with_auths(middle)).upper() + " "):
            answer = retrieve(two, OLD, digest)
            assert answer["status"] == "valid"
            assert set(answer) == ALWAYS
        answer = retrieve(two, OLD)
        assert answer["status"] == "outdated"
        assert answer["auth"] == with_auths(middle)
        assert retrieve(two, MIDDLE)["status"] == "outdated"
        answer = retrieve(two, NEW)
        assert answer["status"] == "upload_required"
        assert set(answer) == ALWAYS | {"action"}

        answer = store(two, make_auth(OLD, "older"))
        assert answer["status"] == "outdated"
        assert answer["auth"] == with_auths(middle)
        assert store(two, make_auth(MIDDLE, "same date"))["status"] == "outdated"
        assert store(two, make_auth(NEW, "newer"))["status"] == "updated"
        assert fresh_fleet.canonical() == with_auths(make_auth(NEW, "newer"))
        assert retrieve(one, MIDDLE, plain_digest(middle))["status"] == "outdated"


def test_a_host_counts_as_in_sync_only_when_it_holds_the_document(fresh_fleet: Fleet) -> None:
    document = make_auth(MIDDLE)
    fresh_fleet.upload(document)
    canonical = plain_digest(with_auths(document))
    name = next(names)

    def shown() -> dict[str, Any]:
        data: dict[str, Any] = fresh_fleet.host(name)
        return data

    with fresh_fleet.client(fresh_fleet.key(name)) as client:
        assert retrieve(client, OLD, ZERO)["status"] == "outdated"
        assert shown()["canonical_digest"] == ZERO
        assert shown()["last_refresh"] == OLD
        assert retrieve(client, OLD, canonical)["status"] == "valid"
        assert shown()["canonical_digest"] == canonical
        assert shown()["last_refresh"] == MIDDLE


def test_recent_digests_are_the_newest_three(fresh_fleet: Fleet) -> None:
    name = next(names)
    with fresh_fleet.client(fresh_fleet.key(name)) as client:
        documents = [make_auth(f"2026-01-0{day}T00:00:00Z", str(day)) for day in range(1, 6)]
        for document in documents:
            store(client, document)
        store(client, documents[0])
    listed = fresh_fleet.host(name)["recent_digests"]
    assert len(listed) == 3
    assert plain_digest(with_auths(documents[0])) in listed


def test_counts_and_versions(fleet: Fleet) -> None:
    with fleet.client(fleet.key(next(names))) as client:
        first = retrieve(client, client_version="0.170.0", wrapper_version=" 0.1.0 ")
        assert first["api_calls"] == 1
        assert first["versions"]["reported_client_version"] == "0.170.0"
        assert client.auth(command="retrieve").status_code == 422
        assert client.auth(command="dance").status_code == 422
        second = retrieve(client, client_version="0.9.0")
        assert second["api_calls"] == 3
        assert second["versions"]["reported_client_version"] == "0.9.0"
        third = client.call("POST", "/auth?cdx_version=0.171.0", json={"last_refresh": OLD, "digest": ZERO}).json()[
            "data"
        ]
        assert third["versions"]["reported_client_version"] == "0.171.0"
        assert retrieve(client)["versions"]["reported_client_version"] is None
        versions = retrieve(client)["versions"]
        assert versions["wrapper_sha256"] == client.call("GET", "/wrapper").json()["data"]["sha256"]
        assert versions["client_version_source"] == "unknown"


def test_wrapper_metadata_is_of_the_bytes_that_are_downloaded(fleet: Fleet) -> None:
    import hashlib

    with fleet.client(fleet.key(next(names))) as client:
        metadata = client.call("GET", "/wrapper").json()["data"]
        download = client.call("GET", "/wrapper/download")
        assert set(metadata) == {"version", "sha256", "size_bytes", "updated_at", "url"}
        assert metadata["size_bytes"] == len(download.content)
        assert metadata["sha256"] == hashlib.sha256(download.content).hexdigest() == download.headers["X-SHA256"]
        assert metadata["url"] == "/wrapper/download"
        assert download.headers["ETag"] == f'"{metadata["sha256"]}"'
        assert download.headers["Cache-Control"] == "no-store"
        assert download.headers["Content-Type"].startswith("text/x-shellscript")


FUTURE = (datetime.now(UTC) + timedelta(hours=1)).isoformat()


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"digest", "last_refresh"}),
        ([], {"digest", "last_refresh"}),
        (None, {"digest", "last_refresh"}),
        ({"command": "dance"}, {"command"}),
        ({"command": 5}, {"command"}),
        ({"command": "retrieve", "digest": "xyz", "last_refresh": OLD}, {"digest"}),
        ({"digest": "g" * 64, "last_refresh": OLD}, {"digest"}),
        ({"digest": 64, "last_refresh": OLD}, {"digest"}),
        ({"digest": ZERO, "last_refresh": FUTURE}, {"last_refresh"}),
        ({"digest": ZERO, "last_refresh": "1999-12-31T23:59:59Z"}, {"last_refresh"}),
        ({"digest": ZERO, "last_refresh": 2026}, {"last_refresh"}),
        ({"digest": ZERO, "last_refresh": "tomorrow"}, {"last_refresh"}),
        ({"command": "store"}, {"auth"}),
        ({"command": "store", "auth": "text"}, {"auth"}),
        ({"command": "store", "auth": {}}, {"auth.last_refresh", "auth.auths"}),
        ({"command": "store", "last_refresh": OLD, "tokens": {"access_token": "x" * 30}}, {"auth"}),
        ({"command": "STORE ", "auth": make_auth(FUTURE)}, {"auth.last_refresh"}),
        (
            {"command": "store", "auth": {"last_refresh": OLD, "OPENAI_API_KEY": "short"}},
            {"auth.auths.api.openai.com.token"},
        ),
        ({"command": "store", "auth": {"last_refresh": OLD, "auths": {"a": {"token": 5}}}}, {"auth.auths.a.token"}),
    ],
)
def test_wrong_fields_are_422_and_named(fleet: Fleet, body: Any, fields: set[str]) -> None:
    with fleet.client(fleet.key("wrong.example.net")) as client:
        response = client.call("POST", "/auth", json=body)
    assert response.status_code == 422
    answer = response.json()
    assert answer["status"] == "error"
    assert answer["message"] == "Validation failed"
    assert set(answer["errors"]) == fields
    assert all(isinstance(text, str) for texts in answer["errors"].values() for text in texts)
    assert len(answer["request_id"]) == 16


def test_digest_aliases(fleet: Fleet) -> None:
    with fleet.client(fleet.key(next(names))) as client:
        for alias in ("auth_digest", "auth_sha"):
            assert client.auth(**{alias: ZERO}, last_refresh=f" {OLD} ").status_code == 200


@pytest.mark.parametrize("body", [b"{", b'{"command":"retrieve",}', b"\xff", b'{"a":"\\ud800"}', b"[" * 5000, b"NaN"])
def test_a_body_that_is_not_json_is_400(fleet: Fleet, body: bytes) -> None:
    with fleet.client(fleet.key("malformed.example.net")) as client:
        response = client.call("POST", "/auth", data=body)
    assert response.status_code == 400
    assert response.json()["status"] == "error"
    assert "not valid JSON" in response.json()["message"]


@pytest.mark.parametrize(
    "headers", [{"Content-Type": "text/html"}, {"Content-Type": "image/png"}, {"Content-Encoding": "gzip"}]
)
def test_a_body_that_is_plainly_not_json_is_415(fleet: Fleet, headers: dict[str, str]) -> None:
    with fleet.client(fleet.key("media.example.net")) as client:
        response = client.call("POST", "/auth", data=b"{}", headers=headers)
    assert response.status_code == 415


def test_a_large_body_is_refused_before_it_is_read(fleet: Fleet) -> None:
    key = fleet.key(next(names))
    context = ssl.create_default_context(cafile=str(fleet.ca_file))
    raw = socket.create_connection(("localhost", fleet.port), 30)
    with context.wrap_socket(raw, server_hostname="localhost") as connection:
        head = f"POST /auth HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\nContent-Length: {5 << 20}\r\n\r\n"
        connection.sendall(head.encode())
        # Not one byte of the body was sent: the announcement is enough.
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 413
        assert "max_body_bytes" in json.loads(answer.read())["message"]


def test_a_large_body_sent_in_chunks_is_refused_too(fleet: Fleet) -> None:
    def chunks() -> Any:
        for _ in range(40):
            yield b" " * 65536

    with fleet.client(fleet.key(next(names))) as client:
        assert client.call("POST", "/auth", data=chunks()).status_code == 413


def test_keys(fleet: Fleet) -> None:
    key = fleet.key(next(names))
    body = {"last_refresh": OLD, "digest": ZERO}
    cases: list[tuple[dict[str, str], int, str | None]] = [
        ({}, 401, "API key missing"),
        ({"X-API-Key": "cdx_" + "0" * 64}, 401, "Invalid API key"),
        ({"X-API-Key": "x" * 5000}, 401, "Invalid API key"),
        ({"Authorization": f"Basic {key}"}, 401, "API key missing"),
        ({"Authorization": f"Bearer {key}"}, 200, None),
        ({"X-API-Key": key, "Authorization": f"Bearer {key}"}, 200, None),
        ({"X-API-Key": key, "Authorization": "Bearer other"}, 401, "X-API-Key and Authorization carry different keys"),
        # An underscore would read as the same header behind WSGI.
        ({"X_API_Key": key}, 401, "API key missing"),
    ]
    with fleet.client() as client:
        for headers, status, message in cases:
            response = client.call("POST", "/auth", json=body, headers=headers)
            assert response.status_code == status, headers
            assert response.json().get("message") == message
            if status == 401:
                assert response.headers["WWW-Authenticate"].startswith("Bearer")


def from_address(fleet: Fleet, address: str, key: str, method: str = "GET", path: str = "/wrapper") -> tuple[int, str]:
    context = ssl.create_default_context(cafile=str(fleet.ca_file))
    connection = http.client.HTTPSConnection("localhost", fleet.port, context=context, source_address=(address, 0))
    connection.request(method, path, headers={"X-API-Key": key})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def test_the_first_caller_binds_the_address(fleet: Fleet) -> None:
    name = next(names)
    key = fleet.key(name)
    # HEAD has no side effect, so it binds nothing.
    assert from_address(fleet, "127.0.0.9", key, "HEAD")[0] == 200
    assert from_address(fleet, "127.0.0.2", key)[0] == 200
    status, text = from_address(fleet, "127.0.0.3", key)
    assert status == 403
    assert json.loads(text)["message"] == "API key not allowed from this IP"
    assert from_address(fleet, "127.0.0.3", key, "HEAD")[0] == 403
    fleet.execute("UPDATE hosts SET allow_roaming_ips = ? WHERE fqdn = ?", True, name)
    assert from_address(fleet, "127.0.0.3", key)[0] == 200
    assert from_address(fleet, "127.0.0.2", key)[0] == 200
    actor = f"host:{name}"
    assert {"actor": actor, "ip": "127.0.0.2"} in logs(fleet, "auth.bind_ip")
    assert {"actor": actor, "previous_ip": "127.0.0.2", "ip": "127.0.0.3"} in logs(fleet, "auth.roaming_ip")


def test_a_forged_forwarded_address_does_not_count(fleet: Fleet) -> None:
    name = next(names)
    with fleet.client(fleet.key(name)) as client:
        for forged in ("10.1.1.1", ", 10.1.1.1", ""):
            assert client.call("GET", "/wrapper", headers={"X-Forwarded-For": forged}).status_code == 200
    assert fleet.host(name)["ip"] == "127.0.0.1"


def test_a_disabled_host_is_refused(fleet: Fleet) -> None:
    name = next(names)
    key = fleet.key(name)
    fleet.execute("UPDATE hosts SET status = 'disabled' WHERE fqdn = ?", name)
    with fleet.client(key) as client:
        response = client.auth(last_refresh=OLD, digest=ZERO)
    assert response.status_code == 403
    assert response.json()["message"] == "Host is disabled"


def test_keys_of_the_reference_implementation_work(fleet: Fleet) -> None:
    import hashlib

    name, key = next(names), "5e" * 32
    fleet.key(name)
    digest = hashlib.sha256(key.encode()).hexdigest()
    fleet.execute("UPDATE hosts SET api_key_sha256 = ? WHERE fqdn = ?", digest, name)
    with fleet.client(key) as client:
        assert retrieve(client)["status"]
    with fleet.client(digest) as client:
        assert client.call("GET", "/wrapper").status_code == 401


def test_deregistering(fleet: Fleet) -> None:
    name = next(names)
    key = fleet.key(name)
    assert from_address(fleet, "127.0.0.2", key)[0] == 200
    assert from_address(fleet, "127.0.0.3", key, "DELETE", "/auth")[0] == 403
    assert from_address(fleet, "127.0.0.3", key, "DELETE", "/auth?force=0")[0] == 403
    status, text = from_address(fleet, "127.0.0.3", key, "DELETE", "/auth?force=1")
    assert (status, json.loads(text)) == (200, {"status": "ok", "data": {"deleted": name}})
    assert from_address(fleet, "127.0.0.2", key)[0] == 401
    assert fleet.cli("hosts", "show", name, check=False).returncode == 3
    deleted = [row for row in logs(fleet, "host.delete") if row["fqdn"] == name]
    assert deleted[0]["initiator"] == "host_api"
    overridden = [row for row in logs(fleet, "auth.force_ip_override") if row["actor"] == f"host:{name}"]
    assert overridden[0]["previous_ip"] == "127.0.0.2"


def test_the_audit_log_tells_what_was_decided(fresh_fleet: Fleet) -> None:
    document = make_auth(MIDDLE)
    with fresh_fleet.client(fresh_fleet.key("audit.example.net")) as client:
        store(client, document, client_version="0.169.0")
        retrieve(client, NEW)
    digest = plain_digest(with_auths(document))
    row = logs(fresh_fleet, "auth.store")[0]
    assert row == {
        "actor": "host:audit.example.net",
        "status": "updated",
        "incoming_last_refresh": MIDDLE,
        "incoming_digest": digest,
        "stored_last_refresh": MIDDLE,
        "stored_digest": digest,
        "client_version": "0.169.0",
    }
    assert logs(fresh_fleet, "auth.retrieve")[0] == {
        "actor": "host:audit.example.net",
        "status": "upload_required",
        "incoming_last_refresh": NEW,
        "incoming_digest": ZERO,
        "stored_last_refresh": MIDDLE,
        "stored_digest": digest,
    }
    assert logs(fresh_fleet, "register")[0]["actor"].startswith("cert:CN=admin#")


def test_unknown_routes_and_methods(fleet: Fleet) -> None:
    with fleet.client(fleet.key(next(names))) as client:
        response = client.call("GET", "/nothing/here")
        assert response.status_code == 404
        assert response.json()["message"] == "Route not found"
        response = client.call("PUT", "/auth")
        assert response.status_code == 405
        assert {method.strip() for method in response.headers["Allow"].split(",")} == {"POST", "DELETE"}
        assert response.json()["status"] == "error"
        assert client.call("GET", "/wrapper/").status_code == 200


def test_non_ascii_is_escaped_and_slashes_are_not(fresh_fleet: Fleet) -> None:
    document = make_auth() | {"note": "Zoë/😀"}
    with fresh_fleet.client(fresh_fleet.key("a")) as client:
        response = client.auth(command="store", auth=document)
    assert response.content.isascii()
    assert b"Zo\\u00eb/\\ud83d\\ude00" in response.content
    assert response.json()["data"]["auth"]["note"] == "Zoë/😀"
    assert response.headers["Cache-Control"] == "no-store"


def test_the_canonical_document_is_checked_again_under_tighter_rules(fresh_fleet: Fleet) -> None:
    short = {"last_refresh": MIDDLE, "OPENAI_API_KEY": "sk-abcdefghijklmnopqrstuvwxyz"}
    fresh_fleet.upload(short)
    fresh_fleet.stop()
    fresh_fleet.env["TOKEN_MIN_LENGTH"] = "60"
    fresh_fleet.start()
    with fresh_fleet.client(fresh_fleet.key("a")) as client:
        assert retrieve(client)["status"] == "missing"
        assert retrieve(client)["status"] == "missing"
        assert store(client, make_auth(OLD))["status"] == "updated"
    rows = logs(fresh_fleet, "auth.canonical_invalid")
    assert len(rows) == 1
    assert "too short" in rows[0]["reason"]


def test_an_altered_document_is_not_served(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth())
    fresh_fleet.stop()
    fresh_fleet.execute("UPDATE auth_payloads SET body = replace(body, substr(body, length(body) - 7), 'AAAAAAAA')")
    fresh_fleet.start()
    with fresh_fleet.client(fresh_fleet.key("a")) as client:
        assert retrieve(client)["status"] == "missing"
    assert "cannot be opened" in logs(fresh_fleet, "auth.canonical_invalid")[0]["reason"]


def test_old_documents_are_kept_up_to_the_limit(fresh_fleet: Fleet) -> None:
    with fresh_fleet.client(fresh_fleet.key("a")) as client:
        for minute in range(25):
            store(client, make_auth(f"2026-01-01T00:{minute:02}:00Z", str(minute)))
    dates = [row[0] for row in fresh_fleet.rows("SELECT last_refresh FROM auth_payloads ORDER BY id")]
    assert fresh_fleet.rows("SELECT count(*) FROM auth_entries") == [(20,)]
    assert dates == [f"2026-01-01T00:{minute:02}:00Z" for minute in range(5, 25)]


@pytest.mark.sqlite_only("reads the bytes of the database")
def test_no_secret_lies_in_the_database_or_the_log(fresh_fleet: Fleet) -> None:
    document = make_auth()
    data = fresh_fleet.register("secret.example.net")
    with fresh_fleet.client(data["host"]["api_key"]) as client:
        store(client, document)
        client.auth(command="store", auth=document | {"last_refresh": "never"})
        client.call("POST", "/auth", data=json.dumps(document)[:-1])
    fresh_fleet.cli("auth", "show")
    fresh_fleet.stop()
    secrets = [data["host"]["api_key"], data["installer"]["token"], *document["tokens"].values()]
    secrets.remove("acc-1")
    written = b"".join(path.read_bytes() for path in fresh_fleet.home.glob("cdxsync.db*"))
    for secret in secrets:
        assert secret.encode() not in written
        assert secret not in "".join(fresh_fleet.output)


def test_behind_a_trusted_proxy(tmp_path: Any) -> None:
    import requests

    with running_fleet(
        tmp_path / "home",
        serve_args=("--plain-http", "--trusted-proxy", "127.0.0.0/8", "--trusted-proxy", "10.0.0.0/8"),
    ) as fleet:
        done = fleet.cli("--json", "hosts", "register", "proxied.example.net")
        key = json.loads(done.stdout)["host"]["api_key"]

        def call(**headers: str) -> requests.Response:
            return requests.get(f"{fleet.url}/wrapper", headers={"X-API-Key": key, **headers}, timeout=30)

        # The rightmost hop that is no trusted proxy; IPv4 mapped into IPv6 is the same address.
        assert call(**{"X-Forwarded-For": "6.6.6.6, 192.0.2.7, 10.1.2.3"}).status_code == 200
        assert call(**{"X-Forwarded-For": "::ffff:192.0.2.7"}).status_code == 200
        assert call(**{"X-Forwarded-For": "192.0.2.7, 198.51.100.1"}).status_code == 403
        assert fleet.host("1")["ip"] == "192.0.2.7"

        def admin(**headers: str) -> int:
            return requests.get(f"{fleet.url}/admin/hosts", headers=headers, timeout=30).status_code

        assert admin() == 403
        for no in ("", "0", "NONE", "FAILED:expired"):
            assert admin(**{"X-mTLS-Present": no}) == 403
        assert admin(**{"X-mTLS-Present": "1", "X-mTLS-Subject": "CN=alice"}) == 200


def test_plain_http_without_a_trusted_proxy_has_no_admin(tmp_path: Any) -> None:
    import requests

    with running_fleet(tmp_path / "home", serve_args=("--plain-http",)) as fleet:
        headers = {"X-mTLS-Present": "1"}
        assert requests.get(f"{fleet.url}/admin/hosts", headers=headers, timeout=30).status_code == 403
