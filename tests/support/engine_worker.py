"""A server without a network: reads calls of the API from standard input, a JSON line each, and writes the answers.

Run as `python engine_worker.py HOME`. Time and random texts are the same in each run, so that what differs between two
workers is their databases' doing. Calls have `method`, `path` and perhaps `body` and `host`, whose key is used;
`{name}` in a path stands for the id of that host. `pages` asks for all pages of a list. `reset` empties the database.
"""

import io
import itertools
import json
import re
import secrets
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

_FIRST = datetime(2026, 5, 1, tzinfo=UTC)
_TABLES = (
    *("logs", "idempotency_keys", "usage_days", "usage_fleet_days", "usage_lines", "token_usages", "slash_commands"),
    *("install_tokens", "host_auth_states", "host_auth_digests", "auth_entries", "auth_payloads", "versions", "jobs"),
    "hosts",
)
_NUMBERED = {"id", "host_id", "payload_id", "from", "to", "stored_as", "before", "next_before", "request_id", "deleted"}
"""Numbers that are another engine's own business, as it may leave gaps."""
_WITH_NUMBERS = {"message", "source"}
"""Texts that name such a number."""


def same_random_texts() -> None:
    """From now on keys and the like come from a counter."""
    numbers = itertools.count()
    secrets.token_hex = lambda nbytes=32: f"{next(numbers):0{2 * (nbytes or 32)}x}"
    # Only where cdxsync itself asks for one: Peewee names savepoints so, where an engine needs any.
    from cdxsync.security import apikeys

    vars(apikeys)["uuid"] = SimpleNamespace(uuid4=lambda: uuid.UUID(int=next(numbers), version=4))


def comparable(value: Any) -> Any:
    """An answer without what may differ between engines."""
    if isinstance(value, dict):
        return {
            name: "a number"
            if name in _NUMBERED and part is not None
            else re.sub(r"[0-9]+", "N", part)
            if name in _WITH_NUMBERS and isinstance(part, str)
            else comparable(part)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [comparable(part) for part in value]
    if isinstance(value, str) and value.startswith("{"):  # the details of audit rows
        try:
            return comparable(json.loads(value))
        except ValueError:
            return value
    return value


class Worker:
    """The application on a home that is made when needed."""

    def __init__(self, home: Path) -> None:
        from cdxsync.api import app
        from cdxsync.base import clock, settings
        from cdxsync.ops import homes
        from cdxsync.security import signing

        # What is baked has the home's signing keys in it.
        shared = home.parent / "signing.json"
        signing.first = lambda: signing.read(shared) or signing.Content()
        self.turn = 0
        clock.now = lambda: _FIRST + timedelta(minutes=self.turn)
        loaded = settings.load(home, flags={"public_url": "https://localhost:1", "plain_http": True})
        homes.initialise(loaded)
        self.fleet = homes.open_fleet(loaded)
        self.application = app.build(self.fleet, None, lambda: False)
        self.keys: dict[str, str] = {}
        self.ids: dict[str, int] = {}

    def reset(self) -> None:
        """Empty all tables."""
        from cdxsync.store import database
        from cdxsync.store.tables import proxy

        def work() -> None:
            for table in _TABLES:
                proxy.execute_sql(f"DELETE FROM {table}")
            database.outdate()

        with self.fleet.database.scope():
            database.write(work)
        self.keys.clear()
        self.ids.clear()
        self.turn = 0
        same_random_texts()

    def answer(self, call: dict[str, Any]) -> Any:
        """Do one call."""
        self.turn += 1
        path = re.sub(r"\{(.*?)\}", lambda name: str(self.ids.get(name[1], 999)), call["path"])
        if not call.get("pages"):
            return comparable(self.request(call, path))
        rows: list[Any] = []
        seen, cursor = 0, ""
        name = call["pages"]
        while seen < 50:
            status, body = self.request(call, path + cursor)
            if status != 200:
                return comparable([status, body])
            rows += body["data"][name]
            seen += 1
            if body["data"]["next_before"] is None:
                break
            cursor = f"&before={body['data']['next_before']}"
        return comparable([seen, rows])

    def request(self, call: dict[str, Any], path: str) -> list[Any]:
        """Status and body of a request."""
        path, _, query = path.partition("?")
        body = json.dumps(call.get("body", {})).encode()
        environ: dict[str, Any] = {
            "REQUEST_METHOD": call["method"],
            "PATH_INFO": quote(path),
            "QUERY_STRING": query,
            "REMOTE_ADDR": "127.0.0.1",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "1",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_X_FORWARDED_FOR": "192.0.2.1",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.url_scheme": "http",
        }
        if "host" in call:
            environ["HTTP_X_API_KEY"] = self.keys.get(call["host"], "cdx_none")
        else:
            environ |= {"HTTP_X_MTLS_PRESENT": "1", "HTTP_X_MTLS_SUBJECT": "CN=tests"}
        if "once" in call:
            environ["HTTP_IDEMPOTENCY_KEY"] = call["once"]
        statuses: list[str] = []
        parts = self.application(environ, lambda status, headers, error=None: statuses.append(status))
        text = b"".join(parts).decode()
        answer: Any = json.loads(text) if text.startswith("{") else text
        if path == "/admin/hosts/register" and statuses[0].startswith("200"):
            host = answer["data"]["host"]
            self.keys[host["fqdn"]], self.ids[host["fqdn"]] = host["api_key"], host["id"]
        if call["method"] == "DELETE":  # SQLite may give its id to another one
            self.ids = {name: number for name, number in self.ids.items() if path != f"/admin/hosts/{number}"}
        return [int(statuses[0].split()[0]), answer]


def main() -> None:
    """Answer until standard input ends."""
    same_random_texts()
    worker = Worker(Path(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        call = json.loads(line)
        if call == "reset":
            worker.reset()
        print(json.dumps(None if call == "reset" else worker.answer(call)), flush=True)


if __name__ == "__main__":
    main()
