"""Answers with errors have their codes."""

import pytest

from tests.support.fleet import Fleet


@pytest.mark.parametrize(
    ("method", "path", "key", "status", "code"),
    [
        ("POST", "/auth", None, 401, "key_missing"),
        ("POST", "/auth", "cdx_wrong", 401, "key_invalid"),
        ("GET", "/nothing", None, 404, "route_not_found"),
        ("PATCH", "/auth", None, 405, "method_not_allowed"),
        ("GET", "/admin/overview", None, 403, "certificate_required"),
    ],
)
def test_answers_have_codes(fleet: Fleet, method: str, path: str, key: str | None, status: int, code: str) -> None:
    with fleet.client() as client:
        answer = client.call(method, path, headers={"X-API-Key": key} if key else {})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
