"""Whatever a caller puts into a field, a query or a path, the answer is no failure of the server."""

import json
import re
import socket
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from cdxsync.api import access_log, app
from cdxsync.api.routes import Caller, Route
from cdxsync.auth import documents
from cdxsync.base import clock, jsontext
from cdxsync.security import addresses
from cdxsync.server import framing, streams
from tests.support.documents import make_auth
from tests.support.fleet import Fleet

ROOT = Path(__file__).parents[2]
VALUES = (
    *("9" * 400, "-" + "9" * 400, "9" * 5000, "1e400", "9223372036854775808", "-9223372036854775809"),
    *(f'"{"9" * 400}"', f'"{"9" * 5000}"', r'"\u0000"', "true", "[[]]", "{}"),
)
"""As JSON texts."""
TEXTS = ("9" * 5000, "-1", "%FF", "%00", "9223372036854775808", "%D9%A3")
"""In a query or a path."""


def fields_of(kind: typing.Any) -> Iterator[str]:
    """The names of all fields of a body, which may be one of several Structs."""
    for one in typing.get_args(kind) or (kind,):
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            yield from (field.encode_name for field in structs.fields(one))


def bodies_of(route: Route) -> Iterator[str]:
    for name in fields_of(route.body):
        for value in VALUES:
            yield f'{{"{name}": {value}}}'
            if route.path == "/usage":
                yield f'{{"usages": [{{"line": "x", "{name}": {value}}}]}}'
            if route.path == "/auth":
                yield f'{{"command": "store", "auth": {json.dumps(make_auth())}, "{name}": {value}}}'


def targets_of(route: Route) -> Iterator[str]:
    """The paths and queries to try."""
    parts = re.compile(r"<\w+(?::\w+)?>")
    yield from {text.join(parts.split(route.path)) for text in TEXTS}
    path = parts.sub("1", route.path)
    yield from (f"{path}?{parameter.name}={text}" for parameter in route.query for text in TEXTS)


def test_no_value_makes_the_server_fail(fresh_fleet: Fleet) -> None:
    failed: list[tuple[str, str, str, int]] = []
    with (
        fresh_fleet.client(fresh_fleet.key("a.example.net")) as host,
        fresh_fleet.client(certificate="admin") as admin,
    ):
        for route in app.ROUTES:
            client = admin if route.caller is Caller.ADMIN else host
            if route.method == "DELETE":
                continue
            for target in targets_of(route):
                status = client.call(route.method, target).status_code
                if status >= 500 and status != 503:  # what is not configured here
                    failed.append((route.method, target[:80], "", status))
            path = re.sub(r"<\w+(?::\w+)?>", "1", route.path)
            for body in bodies_of(route):
                status = client.call(route.method, path, data=body.encode()).status_code
                if status >= 500 and status != 503:
                    failed.append((route.method, path, body[:80], status))
    assert failed == []
    assert not [line for line in fresh_fleet.output if "Traceback" in line]


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('{"0":', "}"), ('{"a":[', "]}")])
def test_a_document_may_be_as_deep_as_a_body(fleet: Fleet, opening: str, closing: str) -> None:
    """Whatever walks through a document gets to its end."""
    levels = (jsontext.MAX_DEPTH - 2) // len(closing)
    nested = opening * levels + "1" + closing * levels
    document = json.dumps(make_auth(f"2026-01-0{1 + len(opening)}T00:00:00Z") | {"deep": 0})
    document = document.replace(": 0}", f": {nested}}}")
    with fleet.client(fleet.key("deep.example.net")) as client:
        stored = client.call("POST", "/auth", data=f'{{"command": "store", "auth": {document}}}')
        assert stored.status_code == 200, stored.text


HOSTILE = {
    "strings that are not closed": '"' + '\\"[' * 300_000,
    "one that ends within an escape": '"' + "[" * 600 + '\\"' * 300_000 + "\\",
    "brackets in strings": '{"x": "' + "[" * 900_000 + '"}',
    "quotes": "[" * 600 + '"' * 900_000,
    "many strings": "[" * 600 + '"",' * 300_000,
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_body_costs_no_more_than_its_length(body: str) -> None:
    """A process may take 20 s of processor time for what takes well under one, or hours in quadratic time."""
    program = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (20, 20))\n"
        "from cdxsync.base import errors, jsontext\n"
        "try:\n    jsontext.decode(sys.stdin.buffer.read())\n"
        "except errors.Malformed:\n    pass\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=body.encode(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_hostile_inputs_cost_no_more_than_their_length() -> None:
    """All cases of the benchmark, larger than that has them; in quadratic time one alone would take minutes."""
    program = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (120, 120))\n"
        "from benchmarks import _hostile\n"
        "for name, case in _hostile.CASES.items():\n    case.seconds(case.size * 8)\n    print(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) > 40


def test_what_a_connection_has_looked_at_it_does_not_look_at_again() -> None:
    """A head that comes byte by byte."""
    looked: list[int] = []

    class Counting:
        def search(self, buffer: bytes, start: int) -> re.Match[bytes] | None:
            looked.append(len(buffer) - start)
            return framing.END_OF_HEAD.search(buffer, start)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader = streams.Reader(ours, 8192)
        pattern: typing.Any = Counting()
        for head in (b"GET / HTTP/1.1\r\nA: " + b"b" * 2000 + b"\r\n\r\n", b"GET / HTTP/1.1\r\nA: b\n"):
            found = []
            for place in range(len(head)):
                reader.feed(head[place : place + 1])
                found.append(reader.holds(pattern))
            assert found == [False] * (len(head) - 1) + [True]
            assert reader.unread() == head
            reader.skip(len(head))
        reader.feed(b"a" * 4000 + b"\r\n\r")
        assert not reader.holds(pattern)
        reader.feed(b"\n")
        assert reader.holds(pattern)
    assert max(looked) == 4003, "once, what came in one piece"
    assert sorted(looked)[-2] == 4


def test_a_document_has_no_more_values_than_a_login_may_have(fleet: Fleet) -> None:
    most = documents.MAX_VALUES
    with fleet.client(fleet.key("large.example.net")) as client:
        for count, status in ((most - 100, 200), (most + 1, 422)):
            document = make_auth("2026-02-01T00:00:00Z") | {"x": [0] * count}
            answer = client.auth(command="store", auth=document)
            assert answer.status_code == status, answer.text
        assert "10000 values" in answer.text
        refused = {"last_refresh": "2026-02-01T00:00:00Z", "auths": {str(number): 0 for number in range(most - 100)}}
        answer = client.auth(command="store", auth=refused)
        assert (answer.status_code, len(answer.content) < 1000) == (422, True), "what is wrong is said once"


def test_a_date_is_no_place_to_store_a_megabyte(fleet: Fleet) -> None:
    with fleet.client(fleet.key("long.example.net")) as client:
        for digits, status in ((100, 200), (110, 422), (900_000, 422)):
            date = f"2026-02-01T00:00:00.{'1' * digits}Z"
            assert client.auth(last_refresh=date, digest="0" * 64).status_code == status
            stored = client.auth(command="store", auth=make_auth(date))
            assert stored.status_code == status
    assert {len(row[0]) for row in fleet.rows("SELECT last_refresh FROM hosts WHERE last_refresh IS NOT NULL")} <= set(
        range(129)
    )


def test_who_has_not_shown_who_it_is_sends_little(fleet: Fleet) -> None:
    with fleet.client() as client:
        for path, field in (("/oauth/token", "refresh_token"), ("/oauth/revoke", "token")):
            for size, status in ((60_000, (200, 401)), (70_000, (413,))):
                answer = client.call("POST", path, json={field: "x" * size})
                assert answer.status_code in status, (path, size, answer.text)


def test_nothing_that_strangers_send_is_remembered_by_its_length() -> None:
    for text in ("[::1]" + "x" * 200, "192.0.2.1:" + "9" * 200):
        with pytest.raises(ValueError, match="too long"):
            addresses.parse(text)
    before = clock._parse_rfc3339.cache_info().misses
    with pytest.raises(ValueError, match="too long"):
        clock.parse_rfc3339("2026-02-01T00:00:00." + "0" * 200 + "Z")
    assert clock._parse_rfc3339.cache_info().misses == before
    assert len(access_log.public_path("/" + "x" * 9000)) <= 200


def test_a_path_that_is_no_utf_8_is_no_path(fleet: Fleet) -> None:
    """Bottle leaves out bytes that it cannot decode, and would find the route of what remains."""
    with fleet.client(certificate="admin") as admin:
        for path in ("/ad%FFmin/overview", "/admin/hosts%C3", "/%80", "/wrapper%F0%9F"):
            answer = admin.call("GET", path)
            assert (answer.status_code, answer.json()["code"]) == (400, "malformed"), path
        assert admin.call("GET", "/admin/h%C3%B6sts").status_code == 404
