"""Write `docs/openapi.json` and `docs/api.md` from the routes (`cdxsync.api.app`) and the Structs that they name.

python docs/generate_api.py           write both
python docs/generate_api.py --check   change nothing; fail when one is not as it would be written
"""

import argparse
import ast
import functools
import inspect
import json
import re
import sys
import textwrap
import types
import typing
from collections import Counter
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

import cdxsync
from cdxsync.api.app import ROUTES
from cdxsync.api.routes import JSON, Caller, Group, Parameter, Route
from cdxsync.api.schemas import Failure
from cdxsync.base.errors import declared
from cdxsync.base.schema import Digest

DOCS = Path(__file__).parent
DIGEST = msgspec.json.schema(Digest)
TEMPLATE = "#/components/schemas/{name}"
CALLERS: dict[Caller, tuple[str, list[dict[str, list[str]]]]] = {
    Caller.HOST: ("a host's key", [{"hostKey": []}, {"hostBearer": []}]),
    Caller.ADMIN: ("a client certificate, and the admin key where one is set", [{"certificate": []}]),
    Caller.METRICS: ("a client certificate, or an address in `metrics_allow`", [{"certificate": []}, {}]),
    Caller.ANYONE: ("nothing", [{}]),
}
ERRORS = {
    400: "The body is not JSON.",
    401: "The key is missing or wrong.",
    403: "No client certificate; or the host is disabled, not permitted, or calls from another address.",
    404: "Not there.",
    406: "Asked for by a browser or a link preview, which does not use the installer up.",
    409: "It contradicts what is there.",
    410: "The installer was used, has expired, or was replaced.",
    413: "The body is larger than `max_body_bytes`, or there would be more than a setting allows.",
    415: "The body is plainly not JSON.",
    422: "Fields are wrong; `errors` names all of them.",
    429: "Too many calls, too many that failed, or a day's bound is reached; `Retry-After` says when to come back.",
    503: "The database, or what was asked for, is away; `Retry-After` says when to come back.",
}


def path_of(route: Route) -> str:
    """A route's path as OpenAPI writes it."""
    return re.sub(r"<(\w+)[^>]*>", r"{\1}", route.path)


def members(kind: Any) -> tuple[Any, ...]:
    """The types of a union; else the one."""
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


@functools.cache
def texts(kind: type) -> dict[str, str]:
    """The text under each attribute of a class, where there is one, those of its bases included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not base.__module__.startswith("cdxsync."):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for before, after in zip(body.body, body.body[1:], strict=False):
            target = before.target if isinstance(before, ast.AnnAssign) else None
            if isinstance(before, ast.Assign):
                target = before.targets[0]  # type: ignore[assignment]
            if isinstance(target, ast.Name) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                found[target.id] = str(after.value.value)
    return found


def components(kinds: Iterable[Any]) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """The JSON Schemas of types, and of all classes that they refer to, by name."""
    wanted = list(kinds)
    schemas, found = msgspec.json.schema_components(wanted, ref_template=TEMPLATE)
    for kind in _classes(wanted):
        made = found[kind.__name__]
        made.pop("title", None)
        if issubclass(kind, Enum):
            words = texts(kind)
            described = [
                f"`{member.value}`: {words[name]}" for name, member in kind.__members__.items() if name in words
            ]
            made |= {"type": "string"} | ({"description": " ".join(described)} if described else {})
            continue
        names = zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
        encoded = dict(names)
        for name, text in texts(kind).items():
            made["properties"][encoded[name]]["description"] = text
        for described in made["properties"].values():
            described.pop("default", None)
        if inspect.getdoc(kind):
            made["description"] = inspect.getdoc(kind)
    return list(schemas), dict(sorted(found.items()))


def _classes(kinds: Iterable[Any]) -> Iterable[Any]:
    """All Structs and Enums that the types are made of."""
    seen: set[Any] = set()
    left = list(kinds)
    while left:
        kind = left.pop()
        if kind in seen:
            continue
        seen.add(kind)
        left += typing.get_args(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            left += [field.type for field in msgspec.structs.fields(kind)]
            yield kind
        elif isinstance(kind, type) and issubclass(kind, Enum):
            yield kind


BODIES = [member for route in ROUTES if route.body is not None for member in members(route.body)]
ANSWERS = [route.answer for route in ROUTES if route.answer is not None]
SCHEMAS = components(dict.fromkeys([*BODIES, *ANSWERS, Failure]))[1]


def reference_to(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type that stands in `SCHEMAS`, or of a union of them."""
    found = [{"$ref": TEMPLATE.format(name=member.__name__)} for member in members(kind)]
    return found[0] if len(found) == 1 else {"anyOf": found}


def _parameter(parameter: Parameter, place: str) -> dict[str, Any]:
    made = {"name": parameter.name, "in": place, "required": False, "schema": msgspec.json.schema(parameter.kind)}
    return made | ({"description": parameter.text} if parameter.text else {})


def _parameters(route: Route) -> list[dict[str, Any]]:
    parts = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer" if kind == "int" else "string"},
        }
        for name, kind in re.findall(r"<(\w+):?(\w*)>", route.path)
    ]
    return [
        *parts,
        *(_parameter(one, "query") for one in route.query),
        *(_parameter(one, "header") for one in route.headers),
    ]


def _operation(route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {route.content: {"schema": {"type": "string"}}}
    if route.bare:
        content = {JSON: {"schema": reference_to(route.answer)}}
    elif route.content == JSON:
        envelope = {"status": {"const": "ok"}, "data": reference_to(route.answer)}
        content = {JSON: {"schema": {"type": "object", "properties": envelope, "required": ["status", "data"]}}}
    responses: dict[str, Any] = {"200": {"description": "Done.", "content": content}}
    for status in route.statuses:
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    made: dict[str, Any] = {
        "operationId": "_".join([route.method.lower(), *re.findall(r"\w+", path_of(route))]),
        "tags": [route.group],
        "summary": route.summary,
        "security": CALLERS[route.caller][1],
        "responses": responses,
    }
    if parameters := _parameters(route):
        made["parameters"] = parameters
    if route.body is not None:
        made["requestBody"] = {"required": True, "content": {JSON: {"schema": reference_to(route.body)}}}
    return made


def openapi() -> dict[str, Any]:
    """The OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(path_of(route), {})[route.method.lower()] = _operation(route)
    schemas = json.loads(json.dumps(SCHEMAS))
    schemas["Failure"]["properties"]["code"]["enum"] = sorted(row.code for row in declared() if row.http_status)
    answer = {JSON: {"schema": {"$ref": TEMPLATE.format(name="Failure")}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "cdxsync", "version": cdxsync.__version__, "license": {"name": "MIT", "identifier": "MIT"}},
        "servers": [{"url": "https://cdx.example.net:8443"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
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


def words(schema: dict[str, Any]) -> str:
    """A type for people."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(words(member) for member in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"] if value is not None) + (
            " or null" if None in schema["enum"] else ""
        )
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "any value")
    if kind == "array":
        return f"list of {words(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {words(schema['additionalProperties'])}"
    if schema.get("format") == "date-time":
        return "time"
    return "digest" if schema.get("pattern") == DIGEST["pattern"] else str(kind)


def _text(schema: dict[str, Any]) -> str:
    """What a field's type does not say by itself."""
    text = str(schema.get("description", ""))
    return "" if text == DIGEST["description"] else text


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _rows(schema: dict[str, Any]) -> list[str]:
    rows = ["| field | | |", "|---|---|---|"]
    for name, described in schema["properties"].items():
        optional = "" if name in schema.get("required", ()) else " (optional)"
        rows.append(f"| `{name}`{optional} | {words(described)} | {_cell(_text(described))} |")
    return [*rows, ""]


def _parameter_rows(title: str, parameters: Iterable[Parameter]) -> list[str]:
    rows = [
        f"| `{one.name}` (optional) | {words(msgspec.json.schema(one.kind))} | {_cell(one.text)} |"
        for one in parameters
    ]
    return [f"{title}:", "", "| field | | |", "|---|---|---|", *rows, ""] if rows else []


INTRODUCTION = """# The API

Made from the routes and types of the program; [openapi.json](openapi.json) says the same to programs.

Hosts send their key as `X-API-Key` or as a Bearer token. Admins show a client certificate; where `dashboard_admin_key`
is set, they send that key as `X-Admin-Key` or as a Bearer token as well. Bodies are JSON.

```console
$ curl --cacert pki/ca.pem --cert pki/admin.pem --key pki/admin.key https://cdx.example.net:8443/admin/api/state
{"status":"ok","data":{"disabled":false}}
$ curl --cacert pki/ca.pem -X POST https://cdx.example.net:8443/usage -H @key -d '{}'
{"status":"error","code":"validation_failed","message":"Validation failed","errors":{"line":["…"]},"request_id":"0f6d…"}
```

`key` is a file of mode 0600 with the line `X-API-Key: cdx_…`: arguments show in the list of processes.

An answer has `status` `ok` and `data`, or `status` `error`, `code`, `message` and `request_id`, and with 422 `errors`
with all fields that are wrong. Programs decide by `code`: [errors](errors.md) has all. The id is in the header
`X-Request-ID` and in the logs as well. `HEAD` works where `GET` does, and changes nothing. Paths may end with a slash.
Answers that hold a secret say `Cache-Control: no-store`.
"""


def _used_once() -> set[str]:
    """The types that one route alone has, and no other type: they stand with that route."""
    within = json.dumps(SCHEMAS)
    alone = Counter(kind.__name__ for kind in (*(route.body for route in ROUTES), *ANSWERS) if isinstance(kind, type))
    return {name for name, count in alone.items() if count == 1 and f'"{TEMPLATE.format(name=name)}"' not in within}


def _part(title: str, kind: Any) -> list[str]:
    name = getattr(kind, "__name__", "")
    if name not in USED_ONCE:
        return [f"{title}: {words(reference_to(kind))}.", ""]
    text = SCHEMAS[name].get("description", "").partition("\n\n")[0]
    return [f"{title}: {text}", "", *_rows(SCHEMAS[name])]


def _section(route: Route) -> list[str]:
    lines = [f"### {route.method} {path_of(route)}", "", f"{route.summary}."]
    lines += [f"Needs {CALLERS[route.caller][0]}. Errors: {', '.join(map(str, route.statuses))}.", ""]
    lines += _parameter_rows("Query", route.query) + _parameter_rows("Headers", route.headers)
    lines += _part("Body", route.body) if route.body is not None else []
    return [
        *lines,
        *(
            _part("Answer" if route.bare else "`data`", route.answer)
            if route.content == JSON
            else [f"Answer: {route.content}.", ""]
        ),
    ]


USED_ONCE = _used_once()


def reference() -> str:
    """The page for people."""
    lines = [INTRODUCTION, "| status | |", "|---|---|", *(f"| {code} | {text} |" for code, text in ERRORS.items()), ""]
    for group in Group:
        lines += [f"## {group}", ""]
        lines += [line for route in ROUTES if route.group is group for line in _section(route)]
    lines += ["## Types", "", "A time is a text of RFC 3339; a digest a SHA-256, 64 hexadecimal digits.", ""]
    for name, schema in SCHEMAS.items():
        if name in USED_ONCE:
            continue
        lines += [f"### {name}", ""]
        if text := schema.get("description"):
            lines += [text, ""]
        lines += _rows(schema) if "properties" in schema else [words(schema), ""]
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
