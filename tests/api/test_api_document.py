"""`docs/openapi.json` and `docs/api.md` have the routes of the server, and its answers have the documented shapes."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import generate_api
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from cdxsync.api import app
from cdxsync.base.settings import Settings
from cdxsync.store.fleet import Fleet as DomainFleet
from tests.support.documents import make_auth
from tests.support.fleet import Client, Fleet

DOCUMENT = json.loads((generate_api.DOCS / "openapi.json").read_text())
OPERATIONS = {
    (method.upper(), path): operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def test_the_files_are_fresh() -> None:
    stale = [path.name for path, text in generate_api.files().items() if path.read_text() != text]
    assert stale == [], "run: python docs/generate_api.py"


def test_it_is_openapi() -> None:
    validate(DOCUMENT)


def test_it_has_the_routes_of_the_server_and_no_others(tmp_path: Path) -> None:
    fleet = DomainFleet(settings=Settings(home=tmp_path), keyring=None, database=None, host_ca_pem="", signing=None)  # type: ignore[arg-type]
    routes = {
        (route.method, re.sub(r"<(\w+)(?::\w+)?>", r"{\1}", route.rule)) for route in app.assemble(fleet, None).routes
    }
    assert routes == OPERATIONS.keys()


def closed(schema: Any) -> Any:
    """The same schema, in which objects have no fields but those that are named."""
    if isinstance(schema, dict):
        schema = {name: closed(value) for name, value in schema.items()}
        if isinstance(schema.get("properties"), dict) and "type" in schema:
            schema.setdefault("additionalProperties", False)
    elif isinstance(schema, list):
        schema = [closed(value) for value in schema]
    return schema


COMPONENTS = closed(DOCUMENT["components"])


class Walk:
    """Calls, and whether what goes out and comes in is as it is documented."""

    def __init__(self, host: Client, admin: Client, anyone: Client) -> None:
        self.clients = {"host": host, "admin": admin, "anyone": anyone}
        self.seen: set[tuple[str, str]] = set()

    def __call__(
        self, method: str, path: str, body: Any = None, status: int = 200, /, *, caller: str = "", **names: Any
    ) -> Any:
        operation = OPERATIONS[method, path]
        caller = caller or ("admin" if path.startswith(("/admin", "/metrics")) else "host")
        target = path.format(**names) + names.pop("trailing", "")
        if body is not None:
            (content,) = operation["requestBody"]["content"].values()
            if status != 422:
                conform(content["schema"], body)
        query = names.pop("query", {})
        assert query.keys() <= {found["name"] for found in operation.get("parameters", ()) if found["in"] == "query"}
        response = self.clients[caller].call(method, target, json=body, params=query)
        assert response.status_code == status, response.text
        self.seen.add((method, path))
        described = operation["responses"][str(status)]
        if "$ref" in described:
            described = COMPONENTS["responses"][str(status)]
        ((content_type, content),) = described["content"].items()
        assert response.headers["Content-Type"].startswith(content_type)
        if content_type != "application/json":
            return response.text
        answer = response.json()
        conform(content["schema"], answer)
        return answer.get("data", answer)


def conform(schema: Any, value: Any) -> None:
    """Fail when `value` is not as `schema` says, or has more fields."""
    whole = closed(copy.deepcopy(schema)) | {"components": COMPONENTS}
    problems = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(whole).iter_errors(value)]
    assert "\n".join(problems) == ""


def test_answers_have_the_documented_shapes(connected: Fleet) -> None:
    """Every operation, and the errors that a client meets most."""
    connected.upload(make_auth("2026-01-05T00:00:00Z", "newer"))
    key, other = connected.register("api.example.net"), connected.register("other.example.net")
    with (
        connected.client(key["host"]["api_key"]) as host,
        connected.client(certificate="admin") as admin,
        connected.client() as anyone,
    ):
        call = Walk(host, admin, anyone)
        retrieve = {"command": "retrieve", "last_refresh": "2025-01-01T00:00:00Z", "digest": "a" * 64}
        canonical = call("POST", "/auth", retrieve)
        assert canonical["status"] == "outdated"
        fresh = retrieve | {"last_refresh": "2026-02-01T00:00:00Z"}
        assert call("POST", "/auth", fresh)["action"] == "store"
        call("POST", "/auth", {"command": "store", "auth": make_auth("2026-02-01T00:00:00Z", "two")})
        call("POST", "/auth", {"command": "store", "auth": make_auth("2026-02-01T00:00:00Z", "two")})
        told = call("POST", "/auth", retrieve | {"accepts": ["grant"]})["login"]
        assert told == {"state": "ok", "refresh": "hosts", "keep": True, "file_store": False}
        refresh = {"client_id": "app_x", "grant_type": "refresh_token", "refresh_token": "cdxr_" + "a" * 64}
        call("POST", "/oauth/token", refresh, 401, caller="anyone")
        call("POST", "/oauth/revoke", {"token": "rt-1", "token_type_hint": "refresh_token"}, caller="anyone")
        call("POST", "/auth", {"command": "retrieve"}, 422)
        call("POST", "/auth", retrieve, 401, caller="anyone")
        call("POST", "/usage", {"total": 3, "model": "gpt-5.1", "line": "Token usage: total=3 input=1 output=2"})
        call("POST", "/usage", {"usages": [{"total": 1}, {"line": "x"}]})
        call("POST", "/usage", {}, 422)
        call("GET", "/wrapper")
        call("GET", "/wrapper/download")
        call("GET", "/versions", caller="anyone")
        prompt = {"filename": "review.md", "prompt": "---\ndescription: Review\n---\nReview it"}
        digest = call("POST", "/slash-commands/store", prompt)["sha256"]
        call("GET", "/slash-commands")
        call("POST", "/slash-commands/retrieve", {"filename": "review.md"})
        call("POST", "/slash-commands/retrieve", {"filename": "review.md", "sha256": digest})
        call("POST", "/slash-commands/retrieve", {"filename": "none.md"})
        call("GET", "/install/{token}/begin", token=key["installer"]["token"], caller="anyone")
        call("GET", "/install/{token}", token=key["installer"]["token"], caller="anyone")
        call("GET", "/healthz", caller="anyone")
        call("GET", "/readyz", caller="anyone")
        call("GET", "/metrics")

        host_id, other_id = key["host"]["id"], other["host"]["id"]
        call("GET", "/admin/overview")
        call("GET", "/admin/overview", None, 403, caller="anyone")
        call("GET", "/admin/hosts")
        call("POST", "/admin/hosts/register", {"fqdn": "registered.example.net"})
        call("POST", "/admin/hosts/register", {"fqdn": "no host name"}, 422)
        call("GET", "/admin/hosts/{host_id}", host_id=host_id)
        call("GET", "/admin/hosts/{host_id}", None, 404, host_id=999_999)
        call("GET", "/admin/hosts/{host_id}/auth", host_id=host_id, query={"include_body": "1"})
        call("GET", "/admin/hosts/{host_id}/auth", host_id=other_id)
        call("POST", "/admin/hosts/{host_id}/roaming", {"allow": True}, host_id=host_id)
        call("POST", "/admin/hosts/{host_id}/permit", {"store_auth": False}, host_id=other_id)
        call("POST", "/admin/hosts/{host_id}/auth/accept", {"rule": "always"}, host_id=other_id)
        for change in ("disable", "enable", "unbind", "clear"):
            call("POST", f"/admin/hosts/{{host_id}}/{change}", host_id=other_id)
        call("POST", "/admin/hosts/{host_id}/purge", {"prompts": True, "usage": True}, host_id=other_id)
        call("DELETE", "/admin/hosts/{host_id}", host_id=other_id)

        call("GET", "/admin/auth", query={"include_body": "1"})
        call("GET", "/admin/auth/history", query={"limit": 1})
        call("GET", "/admin/auth/diff")
        call("POST", "/admin/auth/upload", {"auth": make_auth("2026-02-02T00:00:00Z", "three"), "force": True})
        call("POST", "/admin/auth/rollback", {"id": "previous"})
        call("POST", "/admin/auth/revoke", None, 503)
        call("POST", "/admin/api/state", {"disabled": False})
        call("GET", "/admin/api/state")
        call("GET", "/admin/logs", query={"limit": 500})
        call("GET", "/admin/usage", query={"host_id": host_id})
        call("GET", "/admin/usage/month")
        call("GET", "/admin/usage/summary")
        call("GET", "/admin/tokens")
        call("GET", "/admin", trailing="/")
        script = re.search(r'src="static/([^"]+)"', call("GET", "/admin", trailing="/"))
        assert script
        call("GET", "/admin/static/{path}", path=script[1])
        call("GET", "/admin/doctor")
        call("GET", "/admin/certificates")
        call("GET", "/admin/jobs")
        call("POST", "/admin/jobs/{name}/run", name="retention")
        call("POST", "/admin/jobs/{name}/run", None, 404, name="nonsense")
        call("POST", "/admin/versions/check")
        call("GET", "/admin/chatgpt/usage")
        call("POST", "/admin/chatgpt/usage/refresh")
        call("POST", "/admin/runner/run")
        call("GET", "/admin/runner")
        call("GET", "/admin/slash-commands")
        call("GET", "/admin/slash-commands/{filename}", filename="review.md")
        call("POST", "/admin/slash-commands/store", {"filename": "a.md", "prompt": "A"})
        call("POST", "/admin/slash-commands/store", {"filename": "a.md", "prompt": "B"})
        (version,) = call("GET", "/admin/slash-commands/{filename}/history", filename="a.md")["history"]
        former = "/admin/slash-commands/{filename}/history/{version_id}"
        assert call("GET", former, filename="a.md", version_id=version["id"])["prompt"] == "A"
        call("DELETE", "/admin/slash-commands/{filename}", filename="a.md")
        assert connected.cli("hosts", "delete", "registered.example.net", "--yes").returncode == 0
        call("DELETE", "/auth")
    assert OPERATIONS.keys() == call.seen


def test_the_page_has_every_operation() -> None:
    page = (generate_api.DOCS / "api.md").read_text()
    assert set(re.findall(r"^### ([A-Z]+) (\S+)$", page, re.MULTILINE)) == OPERATIONS.keys()
    anchors = {heading.lower() for heading in re.findall(r"^#+ (\S+)$", page, re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", page)) <= anchors


@pytest.mark.parametrize(
    "wrong", [{"filename": 1, "prompt": "x"}, {"prompt": "x"}, {"filename": "a.md", "prompt": "x", "more": 1}]
)
def test_what_is_not_documented_does_not_conform(wrong: dict[str, Any]) -> None:
    """The checks of this module can fail."""
    with pytest.raises(AssertionError):
        conform({"$ref": "#/components/schemas/PromptBody"}, wrong)
