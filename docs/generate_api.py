"""Write `docs/openapi.json` and `docs/api.md` from `docs/api.yaml`.

python docs/generate_api.py           write both
python docs/generate_api.py --check   change nothing; fail when one is not as it would be written
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

import cdxsync
from cdxsync.base.errors import declared

DOCS = Path(__file__).parent
SOURCE = yaml.safe_load((DOCS / "api.yaml").read_text())
PLAIN: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "object": {},
    "time": {"type": "string", "format": "date-time"},
    "digest": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
}
CALLERS: dict[str, tuple[str, list[dict[str, list[str]]]]] = {
    "host": ("a host's key", [{"hostKey": []}, {"hostBearer": []}]),
    "admin": ("a client certificate, and the admin key where one is set", [{"certificate": []}]),
    "metrics": ("a client certificate, or an address in `metrics_allow`", [{"certificate": []}, {}]),
    "anyone": ("nothing", [{}]),
}
ERRORS = {
    400: "The body is not JSON.",
    401: "The key is missing or wrong.",
    403: "No client certificate; or the host is disabled, not permitted, or calls from another address.",
    404: "Not there.",
    406: "Asked for by a browser or a link preview, which does not use the installer up.",
    409: "It contradicts what is there.",
    410: "The installer was used, has expired, or was replaced.",
    413: "The body is larger than `max_body_bytes`.",
    415: "The body is plainly not JSON.",
    422: "Fields are wrong; `errors` names all of them.",
    429: "Too many calls, or too many that failed; `Retry-After` says when to come back.",
    503: "The database, or what was asked for, is away; `Retry-After` says when to come back.",
}


def schema(text: str) -> dict[str, Any]:
    """The JSON Schema of a type as `api.yaml` writes it."""
    kind, _, description = (part.strip() for part in text.partition("--"))
    nullable, kind = kind.endswith("?"), kind.rstrip("?")
    if kind.startswith("["):
        made: dict[str, Any] = {"type": "array", "items": schema(kind[1:-1])}
    elif kind.startswith("{"):
        made = {"type": "object", "additionalProperties": schema(kind[1:-1])}
    elif "|" in kind:
        made = {"type": "string", "enum": kind.split("|")}
    elif kind in PLAIN:
        made = dict(PLAIN[kind])
    else:
        made = {"$ref": f"#/components/schemas/{_shape(kind)}"}
    if nullable and "type" in made:
        made["type"] = [made["type"], "null"]
    elif nullable and made:
        made = {"anyOf": [made, {"type": "null"}]}
    return made | ({"description": description.strip('"')} if description else {})


def _shape(name: str) -> str:
    if name not in SOURCE["shapes"]:
        raise ValueError(f"api.yaml has no shape {name!r}")
    return name


def fields(given: Any) -> dict[str, Any]:
    """The JSON Schema of an object: a shape's name, or its fields."""
    if isinstance(given, str):
        return schema(given)
    return {
        "type": "object",
        "properties": {name.rstrip("?"): schema(kind) for name, kind in given.items()},
        "required": [name for name in given if not name.endswith("?")],
    }


def _parameters(operation: dict[str, Any]) -> list[dict[str, Any]]:
    named = re.findall(r"\{(\w+)\}", operation["path"])
    found = [
        {"name": name, "in": "path", "required": True, "schema": PLAIN["integer" if name.endswith("_id") else "string"]}
        for name in named
    ]
    for place, key in (("query", "query"), ("header", "headers")):
        for name, kind in operation.get(key, {}).items():
            described = schema(kind)
            text = described.pop("description", None)
            parameter = {"name": name.rstrip("?"), "in": place, "required": not name.endswith("?"), "schema": described}
            found.append(parameter | ({"description": text} if text else {}))
    return found


def statuses(operation: dict[str, Any]) -> list[int]:
    """With which errors a call may be answered."""
    found = {*operation.get("errors", []), 503}
    if operation["caller"] != "anyone":
        found |= {401, 403, 429}
    if "body" in operation:
        found |= {400, 413, 415}
    return sorted(found)


def openapi() -> dict[str, Any]:
    """The OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in SOURCE["operations"]:
        if "content" in operation:
            content: dict[str, Any] = {operation["content"]: {"schema": {"type": "string"}}}
        else:
            envelope = {"status": {"const": "ok"}, "data": fields(operation["data"])}
            content = {
                "application/json": {
                    "schema": {"type": "object", "properties": envelope, "required": ["status", "data"]}
                }
            }
        responses: dict[str, Any] = {"200": {"description": "Done.", "content": content}}
        for status in statuses(operation):
            responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
        words = re.findall(r"\w+", operation["path"])
        made: dict[str, Any] = {
            "operationId": "_".join([operation["method"], *words]),
            "tags": [operation["group"]],
            "summary": operation["summary"],
            "security": CALLERS[operation["caller"]][1],
            "responses": responses,
        }
        if parameters := _parameters(operation):
            made["parameters"] = parameters
        if "body" in operation:
            body = {"application/json": {"schema": fields(operation["body"])}}
            made["requestBody"] = {"required": True, "content": body}
        paths.setdefault(operation["path"], {})[operation["method"]] = made
    error = {
        "type": "object",
        "properties": {
            "status": {"const": "error"},
            "code": {"type": "string", "enum": sorted(row.code for row in declared() if row.http_status)},
            "message": {"type": "string"},
            "errors": {
                "type": "object",
                "additionalProperties": {"type": "array", "items": {"type": "string"}},
                "description": "What is wrong with each field; with 422 only.",
            },
            "request_id": {"type": "string"},
        },
        "required": ["status", "code", "message", "request_id"],
    }
    schemas = {name: fields(given) for name, given in SOURCE["shapes"].items()}
    answer = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "cdxsync", "version": cdxsync.__version__, "license": {"name": "MIT", "identifier": "MIT"}},
        "servers": [{"url": "https://cdx.example.net:8443"}],
        "paths": paths,
        "components": {
            "schemas": schemas | {"Error": error},
            "responses": {str(code): {"description": text, "content": answer} for code, text in ERRORS.items()},
            "securitySchemes": {
                "hostKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "hostBearer": {"type": "http", "scheme": "bearer"},
                "certificate": {
                    "type": "mutualTLS",
                    "description": "With `dashboard_admin_key` set, `X-Admin-Key` or a Bearer token is needed as well.",
                },
            },
        },
    }


def _shown(kind: str) -> tuple[str, str]:
    """A type for people, and its description."""
    name, _, text = (part.strip() for part in kind.partition("--"))
    nullable, name = name.endswith("?"), name.rstrip("?")
    words = re.sub(r"\b([A-Z]\w+)", lambda found: f"[{found[1]}](#{found[1].lower()})", name)
    words = re.sub(r"^\[(.*)\]$", r"list of \1", words) if name.startswith("[") else words
    words = re.sub(r"^\{(.*)\}$", r"object of \1", words)
    return words.replace("|", ", ") + (" or null" if nullable else ""), text.strip('"')


def _rows(given: dict[str, str]) -> list[str]:
    rows = ["| field | | |", "|---|---|---|"]
    for name, kind in given.items():
        words, text = _shown(kind)
        rows.append(f"| `{name.rstrip('?')}`{' (optional)' if name.endswith('?') else ''} | {words} | {text} |")
    return [*rows, ""]


def _part(title: str, given: Any) -> list[str]:
    if isinstance(given, str):
        return [f"{title}: {_shown(given)[0]}.", ""]
    return [f"{title}:", "", *_rows(given)]


INTRODUCTION = """# The API

Made from `docs/api.yaml`; [openapi.json](openapi.json) says the same to programs.

Hosts send their key as `X-API-Key` or as a Bearer token. Admins show a client certificate; where `dashboard_admin_key`
is set, they send that key as `X-Admin-Key` or as a Bearer token as well. Bodies are JSON.

```console
$ curl --cacert pki/ca.pem --cert pki/admin.pem --key pki/admin.key https://cdx.example.net:8443/admin/api/state
{"status":"ok","data":{"disabled":false}}
$ curl --cacert pki/ca.pem -X POST https://cdx.example.net:8443/usage -H "X-API-Key: $KEY" -d '{}'
{"status":"error","code":"validation_failed","message":"Validation failed","errors":{"line":["…"]},"request_id":"0f6d…"}
```

An answer has `status` `ok` and `data`, or `status` `error`, `code`, `message` and `request_id`, and with 422 `errors`
with all fields that are wrong. Programs decide by `code`: [errors](errors.md) has all. The id is in the header
`X-Request-ID` and in the logs as well. `HEAD` works where `GET` does, and changes nothing. Paths may end with a slash.
Answers that hold a secret say `Cache-Control: no-store`.
"""


def reference() -> str:
    """The page for people."""
    lines = [INTRODUCTION, "| status | |", "|---|---|", *(f"| {code} | {text} |" for code, text in ERRORS.items()), ""]
    for group in dict.fromkeys(operation["group"] for operation in SOURCE["operations"]):
        lines += [f"## {group}", ""]
        for operation in SOURCE["operations"]:
            if operation["group"] != group:
                continue
            caller = CALLERS[operation["caller"]][0]
            lines += [f"### {operation['method'].upper()} {operation['path']}", "", f"{operation['summary']}."]
            lines += [f"Needs {caller}. Errors: {', '.join(map(str, statuses(operation)))}.", ""]
            for title, key in (("Query", "query"), ("Headers", "headers"), ("Body", "body")):
                if key in operation:
                    lines += _part(title, operation[key])
            lines += (
                _part("`data`", operation["data"]) if "data" in operation else [f"Answer: {operation['content']}.", ""]
            )
    lines += ["## Shapes", ""]
    for name, given in SOURCE["shapes"].items():
        lines += [f"### {name}", "", *_rows(given)]
    return "\n".join(lines).rstrip() + "\n"


def files() -> dict[Path, str]:
    """What both files hold."""
    return {
        DOCS / "openapi.json": json.dumps(openapi(), indent=1, ensure_ascii=False) + "\n",
        DOCS / "api.md": reference(),
    }


def main() -> None:
    """Write or check the files."""
    parser = argparse.ArgumentParser(description="Write the description of the API.")
    parser.add_argument("--check", action="store_true", help="fail when a file is stale; change nothing")
    stale = {path: text for path, text in files().items() if not path.exists() or path.read_text() != text}
    if parser.parse_args().check and stale:
        sys.exit(f"stale: {', '.join(path.name for path in stale)}; run: python docs/generate_api.py")
    for path, text in stale.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
