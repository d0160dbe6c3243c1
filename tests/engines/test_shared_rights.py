"""Rows that give rights on every engine, and servers that share a database: when MACs are asked for."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import make_auth, plain_digest, with_auths
from tests.support.engines import Engine
from tests.support.fleet import Client, Fleet
from tests.support.several import Site, site

pytestmark = pytest.mark.every_engine
OLD = with_auths(make_auth("2020-01-01T00:00:00Z", "old"))


def retrieve(client: Client) -> Any:
    return client.auth(command="retrieve", last_refresh=OLD["last_refresh"], digest=plain_digest(OLD))


def findings(fleet: Fleet) -> list[str]:
    return [one["check"] for one in json.loads(fleet.cli("--json", "db", "check", check=False).stdout)["findings"]]


def test_rows_keep_their_macs_on_every_engine(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth())
    key, other = fresh_fleet.key("a.example.net"), fresh_fleet.key("b.example.net")
    fresh_fleet.admin_call("POST", "/admin/slash-commands/store", json={"filename": "x.md", "prompt": "Grüße.\n"})
    fresh_fleet.cli("hosts", "permit", "a.example.net", "--store-auth", "off", "--keep-auth", "off")
    with fresh_fleet.client(key) as client:
        assert retrieve(client).status_code == 200
        fresh_fleet.cli("hosts", "roaming", "a.example.net", "on")
        assert retrieve(client).status_code == 200
        assert findings(fresh_fleet) == []
        fresh_fleet.tamper("UPDATE hosts SET allow_store_auth = ? WHERE fqdn = 'a.example.net'", True)
        assert retrieve(client).status_code == 401
        assert findings(fresh_fleet) == ["rights"]
        fresh_fleet.cli("db", "accept", "--yes")
        fresh_fleet.cli("keys", "rotate")
        assert retrieve(client).status_code == 200
        assert findings(fresh_fleet) == []
    fresh_fleet.tamper("UPDATE hosts SET ip = '192.0.2.1' WHERE fqdn = 'b.example.net'")
    with fresh_fleet.client(other) as client:
        assert retrieve(client).status_code == 401


@pytest.fixture
def pair(engine: Engine, tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, engine.environment()) as started:
        started.start()
        yield started


def is_asked_for(fleet: Fleet) -> bool:
    return json.loads((fleet.home / "keyring.json").read_text()).get("rows_have_macs") is True


def of_before(pair: Site) -> None:
    """Make the homes and the database as a version before this one left them."""
    for server in pair.servers:
        server.stop()
        path = server.home / "keyring.json"
        content = json.loads(path.read_text())
        del content["rows_have_macs"]
        path.write_text(json.dumps(content))
    for table in ("hosts", "auth_payloads", "host_grants", "install_tokens", "versions"):
        pair.first.tamper(f"UPDATE {table} SET mac = NULL")
    pair.first.tamper("DELETE FROM versions WHERE name = 'rows_have_macs'")


@pytest.mark.servers_only
def test_older_servers_may_write_until_an_admin_says_that_none_is_left(pair: Site) -> None:
    first, second = pair.servers
    first.upload(make_auth())
    key = first.key("a.example.net")
    of_before(pair)
    pair.start()
    assert "are not checked yet" in pair.log()
    with pair.directly(first, key) as client:
        assert retrieve(client).status_code == 200  # this server gives the row a MAC, since it binds the address
        # The older server does not know the column.
        first.tamper("UPDATE hosts SET allow_roaming_ips = ? WHERE fqdn = 'a.example.net'", True)
        assert retrieve(client).status_code == 200
        assert not is_asked_for(first)
        found = json.loads(first.cli("--json", "doctor", check=False).stdout)["checks"]
        assert next(one["level"] for one in found if one["check"] == "rights") == "warn"
        first.cli("db", "accept", "--yes")
        assert (is_asked_for(first), is_asked_for(second)) == (True, False)
        assert retrieve(client).status_code == 200
        first.tamper("UPDATE hosts SET allow_roaming_ips = ? WHERE fqdn = 'a.example.net'", False)
        assert retrieve(client).status_code == 401
    second.stop()
    second.start()  # which hears of it, and believes nothing more
    assert is_asked_for(second)
    with pair.directly(second, key) as client:
        assert retrieve(client).status_code == 401
