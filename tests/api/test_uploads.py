"""POST /admin/auth/upload by form."""

import json
from typing import Any

import pytest

from tests.support.documents import make_auth, with_auths
from tests.support.fleet import Fleet

pytestmark = pytest.mark.every_engine


def test_uploads_by_form(fresh_fleet: Fleet) -> None:
    host_id = fresh_fleet.register("up.example.net")["host"]["id"]
    document = make_auth("2026-02-01T00:00:00Z")

    def upload(content: bytes, **fields: str) -> Any:
        with fresh_fleet.client(certificate="admin") as client:
            files = {"file": ("auth.json", content, "application/json")}
            return client.call("POST", "/admin/auth/upload", files=files, data=fields)

    stored = upload(json.dumps(document, indent=2).encode(), host_id=str(host_id))
    assert stored.status_code == 200, stored.text
    assert stored.json()["data"]["status"] == "updated"
    assert stored.json()["data"]["host"]["fqdn"] == "up.example.net"
    assert fresh_fleet.canonical() == with_auths(document)
    older = make_auth("2026-01-01T00:00:00Z", "ünïcode")
    refused = upload(json.dumps(older).encode())
    assert refused.json()["data"]["status"] == "outdated"
    assert fresh_fleet.canonical() == with_auths(document)
    forced = upload(json.dumps(older, ensure_ascii=False).encode(), force="1", host_id="system")
    assert forced.json()["data"]["status"] == "updated"
    # It has the present as its date: hosts that hold the later one pull it, and do not send theirs back.
    after = fresh_fleet.canonical()
    assert after is not None
    assert after["last_refresh"] > "2026-02-01"
    assert after | {"last_refresh": ""} == with_auths(older) | {"last_refresh": ""}
    for content, fields, status, field in (
        (b"{", {}, 422, "auth"),
        (b"\xff\xfe", {}, 422, "auth"),
        (b"[1]", {}, 422, "auth"),
        (json.dumps(document).encode(), {"host_id": "web"}, 422, "host_id"),
        (json.dumps(document).encode(), {"host_id": "999"}, 404, None),
        (json.dumps(document).encode(), {"force": "perhaps"}, 422, "force"),
        (b"x" * (2 << 20), {}, 413, None),
    ):
        answer = upload(content, **fields)
        assert answer.status_code == status, answer.text
        if field:
            assert set(answer.json()["errors"]) == {field}
    with fresh_fleet.client(certificate="admin") as client:
        answer = client.call("POST", "/admin/auth/upload", files={"other": b"{}"})
        assert answer.status_code == 422
        headers = {"Content-Type": "multipart/form-data"}
        answer = client.call("POST", "/admin/auth/upload", data=b"no form at all", headers=headers)
        assert answer.status_code == 400
        assert answer.json()["message"] == (
            "The body is not a multipart form; send JSON, or a form with the document in the field file"
        )
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = client.call("POST", "/admin/auth/upload", data=b"--x\r\nno form at all", headers=headers)
        assert answer.status_code == 400
    assert fresh_fleet.canonical() == after
