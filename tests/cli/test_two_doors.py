"""The command line and the admin API are two doors to the same functions."""

import contextlib
import functools
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cdxsync.cli import main
from tests.support.commands import commands
from tests.support.documents import make_auth, plain_digest, with_auths
from tests.support.engines import Engine
from tests.support.fleet import Fleet, run_cli, running_fleet

pytestmark = pytest.mark.every_engine

COMMAND_OF = {
    "GET /admin/overview": "overview",
    "GET /admin/hosts": "hosts list",
    "POST /admin/hosts/register": "hosts register",
    "GET /admin/hosts/<id>": "hosts show",
    "DELETE /admin/hosts/<id>": "hosts delete",
    "GET /admin/hosts/<id>/auth": "hosts auth",
    "POST /admin/hosts/<id>/roaming": "hosts roaming",
    "POST /admin/hosts/<id>/permit": "hosts permit",
    "POST /admin/hosts/<id>/auth/accept": "auth accept",
    "POST /admin/hosts/<id>/clear": "hosts clear",
    "POST /admin/hosts/<id>/purge": "hosts purge",
    "POST /admin/hosts/<id>/unbind": "hosts unbind",
    "POST /admin/hosts/<id>/disable": "hosts disable",
    "POST /admin/hosts/<id>/enable": "hosts enable",
    "POST /admin/auth/upload": "auth upload",
    "GET /admin/auth": "auth show",
    "GET /admin/auth/history": "auth history",
    "GET /admin/auth/diff": "auth diff",
    "POST /admin/auth/rollback": "auth rollback",
    "POST /admin/auth/revoke": "auth revoke",
    "GET /admin/api/state": "state show",
    "POST /admin/api/state": "state disable",
    "GET /admin/logs": "logs",
    "GET /admin/usage": "usage list",
    "GET /admin/usage/month": "usage month",
    "GET /admin/usage/summary": "usage summary",
    "GET /admin/tokens": "usage tokens",
    "GET /admin/doctor": "doctor",
    "GET /admin/certificates": "pki list",
    "GET /admin/jobs": "jobs list",
    "POST /admin/jobs/<name>/run": "jobs run",
    "POST /admin/versions/check": "versions check",
    "GET /admin/runner": "runner status",
    "POST /admin/runner/run": "runner run",
    "GET /admin/chatgpt/usage": "usage quota",
    "POST /admin/chatgpt/usage/refresh": "usage quota",
    "GET /admin/slash-commands": "prompts list",
    "GET /admin/slash-commands/<filename>": "prompts show",
    "GET /admin/slash-commands/<filename>/history": "prompts history",
    "GET /admin/slash-commands/<filename>/history/<id>": "prompts history",
    "POST /admin/slash-commands/store": "prompts store",
    "DELETE /admin/slash-commands/<filename>": "prompts delete",
}

DASHBOARD = {"GET /admin", "GET /admin/static/<path>"}


def test_every_admin_endpoint_has_its_command(tmp_path: Path) -> None:
    from cdxsync.api import app
    from cdxsync.base.settings import Settings
    from cdxsync.store.fleet import Fleet as Opened
    from cdxsync.store.sealing import Keyring

    keyring: Any = Keyring("a", {"a": bytes(32)})
    database: Any = None
    signing: Any = None
    assembled = app.assemble(Opened(Settings(home=tmp_path), keyring, database, "", signing), None)
    parameter = re.compile("<(?:[a-z]+_)?([a-z]+)(?::int|:path)?>")
    admin = [route for route in assembled.routes if route.rule.startswith("/admin")]
    routes = {route.method + " " + parameter.sub(r"<\1>", route.rule) for route in admin}
    assert routes - DASHBOARD == set(COMMAND_OF)
    assert set(COMMAND_OF.values()) <= set(commands(get_command(main.app)))


def test_every_command_prints_json() -> None:
    root = get_command(main.app)
    without = {path for path in commands(root) if "--json" not in options(root, path)}
    # One goes on until it is stopped, the other prints a script.
    assert without == {"serve", "wrapper cat"}
    assert "--json" in [option for parameter in root.params for option in parameter.opts]


def options(root: Any, path: str) -> list[str]:
    command = root
    for name in path.split():
        command = command.commands[name]
    return [option for parameter in command.params for option in parameter.opts]


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[Fleet]:
    with running_fleet(tmp_path_factory.mktemp("doors") / "home", env=engine.environment()) as fleet:
        document = make_auth()
        fleet.upload(make_auth("2025-01-01T00:00:00Z", "older"))
        fleet.upload(document)
        for number in range(3):
            with fleet.client(fleet.key(f"h{number}.example.net")) as host:
                host.auth(last_refresh=document["last_refresh"], digest=plain_digest(with_auths(document)))
                entries = [{"total": number, "model": "gpt-5.1"}, {"line": f"line {number}", "total": 2}]
                host.call("POST", "/usage", json={"usages": entries})
        for text in ("a", "ä"):
            fleet.admin_call("POST", "/admin/slash-commands/store", json={"filename": "a.md", "prompt": text})
        yield fleet


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("/admin/hosts", ["hosts", "list"]),
        ("/admin/hosts/2", ["hosts", "show", "2"]),
        ("/admin/hosts/2/auth", ["hosts", "auth", "h1.example.net"]),
        ("/admin/hosts/2/auth?include_body=1", ["hosts", "auth", "h1.example.net", "--include-body"]),
        ("/admin/auth", ["auth", "show"]),
        ("/admin/auth/history", ["auth", "history"]),
        ("/admin/auth/diff?from=1", ["auth", "diff", "1"]),
        ("/admin/api/state", ["state", "show"]),
        ("/admin/logs", ["logs"]),
        ("/admin/logs?limit=3&host_id=1&before=12", ["logs", "--limit", "3", "--host", "1", "--before", "12"]),
        ("/admin/usage", ["usage", "list"]),
        ("/admin/usage?limit=1&host_id=3", ["usage", "list", "--limit", "1", "--host", "h2.example.net"]),
        ("/admin/usage/month", ["usage", "month"]),
        ("/admin/usage/month?month=2020-01&host_id=1", ["usage", "month", "2020-01", "--host", "1"]),
        ("/admin/usage/summary", ["usage", "summary"]),
        ("/admin/usage/summary?host_id=2", ["usage", "summary", "--host", "2"]),
        ("/admin/logs?after=4", ["logs", "--after", "4"]),
        ("/admin/logs?action=auth.&q=h1.ex", ["logs", "--action", "auth.", "--search", "h1.ex"]),
        ("/admin/logs?actor=h2.", ["logs", "--actor", "h2."]),
        ("/admin/certificates", ["pki", "list"]),
        ("/admin/tokens", ["usage", "tokens"]),
        ("/admin/tokens?limit=2", ["usage", "tokens", "--limit", "2"]),
        ("/admin/jobs", ["jobs", "list"]),
        ("/admin/runner", ["runner", "status"]),
        ("/admin/slash-commands", ["prompts", "list"]),
        ("/admin/slash-commands/a.md", ["prompts", "show", "a.md"]),
        ("/admin/slash-commands/A.md/history", ["prompts", "history", "a.md"]),
        ("/admin/slash-commands/a.md/history/1", ["prompts", "history", "A.md", "--id", "1"]),
        ("/versions", ["versions", "show"]),
    ],
)
def test_json_is_the_data_of_the_api(seeded: Fleet, path: str, arguments: list[str]) -> None:
    over_http = seeded.admin_call("GET", path)
    assert json.loads(seeded.cli("--json", *arguments).stdout) == over_http
    assert over_http


def test_the_overview_is_the_same_but_for_the_caller(seeded: Fleet) -> None:
    over_http = seeded.admin_call("GET", "/admin/overview")
    shown = json.loads(seeded.cli("--json", "overview").stdout)
    age = shown.pop("avg_refresh_age_days")
    assert age == pytest.approx(over_http.pop("avg_refresh_age_days"), abs=0.01)
    assert over_http.pop("mtls")
    assert shown.pop("mtls") is None
    assert shown == over_http


@pytest.mark.parametrize(
    ("path", "body", "arguments"),
    [
        ("/admin/hosts/1/roaming", {"allow": True}, ["hosts", "roaming", "1", "on"]),
        ("/admin/hosts/1/disable", {}, ["hosts", "disable", "1"]),
        ("/admin/hosts/1/enable", {}, ["hosts", "enable", "1"]),
        ("/admin/hosts/1/unbind", {}, ["hosts", "unbind", "1"]),
        ("/admin/hosts/1/permit", {"store_auth": False}, ["hosts", "permit", "1", "--store-auth", "off"]),
        ("/admin/hosts/1/permit", {"keep_auth": False}, ["hosts", "permit", "1", "--keep-auth", "off"]),
        ("/admin/hosts/1/auth/accept", {"rule": "always"}, ["auth", "accept", "1", "--always"]),
        ("/admin/hosts/1/auth/accept", {"rule": "never"}, ["auth", "accept", "1", "--never"]),
        ("/admin/hosts/1/auth/accept", {"rule": "ask"}, ["auth", "accept", "1", "--ask"]),
        ("/admin/api/state", {"disabled": False}, ["state", "enable"]),
    ],
)
def test_changes_answer_the_same(seeded: Fleet, path: str, body: Any, arguments: list[str]) -> None:
    over_http = seeded.admin_call("POST", path, json=body)
    assert json.loads(seeded.cli("--json", *arguments).stdout) == over_http


def test_clearing_answers_the_same(seeded: Fleet) -> None:
    seeded.admin_call("POST", "/admin/hosts/3/clear")
    over_http = seeded.admin_call("POST", "/admin/hosts/3/clear")
    assert json.loads(seeded.cli("--json", "hosts", "clear", "3", "--yes").stdout) == over_http


def test_queries_do_not_grow_with_hosts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The list of hosts and the overview ask the database as often for 40 hosts as for 2."""
    from cdxsync.base import settings
    from cdxsync.hosts import admission, registry
    from cdxsync.ops import homes
    from cdxsync.security import addresses
    from cdxsync.store.database import write
    from cdxsync.store.tables import Host
    from cdxsync.usage import recording
    from cdxsync.views import hosts, overview

    home = tmp_path / "home"
    run_cli("--home", str(home), "init")
    opened = homes.open_fleet(settings.load(home))

    def asked(number: int) -> tuple[int, int]:
        for index in range(number):
            fqdn = f"h{number}-{index}.example.net"
            host = write(functools.partial(registry.mint_key, fqdn, "test")).host
            admission.admit_address(host, addresses.parse("192.0.2.1"))
            entry = {"total": index + 1, "line": fqdn}
            caller = admission.Caller(host.id, fqdn, "", host.api_key_sha256, "192.0.2.1")
            recording.record(opened.settings, caller, entry, b"", None)
            write(functools.partial(registry.note_digest, host, "0" * 64, refresh=False))
        counts = []
        for report in (hosts.list_all, lambda: overview.build(opened, None)):
            report()  # the first asks for a newer quota, once
            caplog.clear()
            with caplog.at_level(logging.DEBUG, logger="peewee"):
                report()
            counts.append(len([record for record in caplog.records if record.name == "peewee"]))
        return counts[0], counts[1]

    with contextlib.closing(opened.database), opened.database.scope():
        few = asked(2)
        assert asked(40) == few
        assert Host.select().count() == 42
        assert few[0] == 2
        assert few[1] <= 40
