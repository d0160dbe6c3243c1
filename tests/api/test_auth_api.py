"""POST /auth over real TLS: docs/protocol.md 2 to 4."""

import http.client
import json
import socket
import ssl
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from tests.support.calls import MIDDLE, NEW, OLD, ZERO, logs, retrieve, store
from tests.support.documents import make_auth, plain_digest, with_auths
from tests.support.fleet import Fleet

pytestmark = pytest.mark.every_engine

names = (f"host{number}.example.net" for number in count())


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
