"""What a host may store for the fleet: said by an admin, kept by the server, taken well by cdx."""

import itertools
import json
from pathlib import Path

import pytest

from tests.support.documents import make_auth, plain_digest, with_auths
from tests.support.fleet import Fleet
from tests.support.machines import host

OLD, NEW = "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"
numbers = itertools.count()


def name() -> str:
    return f"p{next(numbers)}.example.net"


def last_log(fleet: Fleet, action: str) -> dict[str, object]:
    logs = json.loads(fleet.cli("--json", "logs", "--limit", "20").stdout)["logs"]
    details: dict[str, object] = json.loads(next(row for row in logs if row["action"] == action)["details"])
    return details


def test_a_host_that_may_not_store_auth_still_receives_it(fleet: Fleet) -> None:
    fleet.upload(make_auth(OLD))
    fqdn = name()
    key = fleet.key(fqdn)
    assert fleet.host(fqdn)["allow_store_auth"] is True
    assert "may store auth.json: no, prompts: yes" in fleet.cli("hosts", "permit", fqdn, "--store-auth", "off").stderr
    assert last_log(fleet, "admin.host.permit") == {"fqdn": fqdn, "allow_store_auth": False}
    newer = make_auth(NEW, fqdn)
    with fleet.client(key) as client:
        before = fleet.host(fqdn)["api_calls"]
        answer = client.auth(command="store", auth=newer)
        assert answer.status_code == 403
        assert answer.json()["message"] == (
            f"This host may not store auth.json; an admin allows it with: cdxsync hosts permit {fqdn} --store-auth on"
        )
        assert fleet.canonical() == with_auths(make_auth(OLD))
        logged = last_log(fleet, "auth.store")
        assert (logged["status"], logged["incoming_digest"]) == ("refused", plain_digest(with_auths(newer)))
        assert logged["reason"] == "not permitted"
        assert fleet.host(fqdn)["api_calls"] == before + 1
        assert client.auth(last_refresh="2000-01-01T00:00:00Z", digest="0" * 64).json()["data"]["status"] == "outdated"
        # Prompts are another matter.
        prompt = {"filename": f"{fqdn}.md", "prompt": "text"}
        assert client.call("POST", "/slash-commands/store", json=prompt).status_code == 200
        fleet.cli("hosts", "permit", fqdn, "--store-auth", "on", "--store-prompts", "off")
        shown = fleet.host(fqdn)
        assert (shown["allow_store_auth"], shown["allow_store_prompts"]) == (True, False)
        assert client.auth(command="store", auth=newer).json()["data"]["status"] == "updated"
        refused = client.call("POST", "/slash-commands/store", json=prompt | {"prompt": "other"})
        assert refused.status_code == 403
        assert f"cdxsync hosts permit {fqdn} --store-prompts on" in refused.json()["message"]
        assert last_log(fleet, "slash.store") == {"status": "refused"}
        unread = client.call("POST", "/slash-commands/store", data=b"{" * 1000)
        assert unread.status_code == 403, "who may not store has nothing looked at"
        assert client.call("POST", "/slash-commands/retrieve", json=prompt).json()["data"]["prompt"] == "text"
    listed = {item["fqdn"]: item for item in json.loads(fleet.cli("--json", "hosts", "list").stdout)["hosts"]}
    assert listed[fqdn]["allow_store_prompts"] is False
    assert "May store prompts\tno" in fleet.cli("hosts", "show", fqdn).stdout


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"store_auth", "store_prompts", "keep_auth"}),
        ({"store_auth": None}, {"store_auth", "store_prompts", "keep_auth"}),
        ({"keep_auth": "perhaps"}, {"keep_auth"}),
        ({"store_auth": "perhaps", "store_prompts": 2}, {"store_auth", "store_prompts"}),
        ({"store_auth": True, "store_prompts": [True]}, {"store_prompts"}),
    ],
)
def test_bad_permits_change_nothing(fleet: Fleet, body: dict[str, object], fields: set[str]) -> None:
    fqdn = name()
    host_id = fleet.register(fqdn)["host"]["id"]
    with fleet.client(certificate="admin") as client:
        answer = client.call("POST", f"/admin/hosts/{host_id}/permit", json=body)
        assert answer.status_code == 422
        assert set(answer.json()["errors"]) == fields
        assert client.call("POST", "/admin/hosts/999999/permit", json={"store_auth": 1}).status_code == 404
    assert fleet.host(fqdn)["allow_store_auth"] is True
    assert fleet.cli("hosts", "permit", fqdn, check=False).returncode == 2


def test_cdx_goes_on_with_its_own_login(fresh_fleet: Fleet, tmp_path: Path) -> None:
    """A login that may not be shared stays on the host, Codex starts, prompts stay, and usage is reported."""
    codex = """#!/bin/sh
case "$1" in --version) echo "codex-cli 0.169.0"; exit 0;; esac
mkdir -p "$HOME/.codex/prompts" && date +%N >"$HOME/.codex/prompts/mine.md"
echo "Token usage: total=12 input=7 output=5"
"""
    fresh_fleet.upload(make_auth(OLD))
    machine = host(fresh_fleet, tmp_path, codex=codex)
    assert machine.run_cdx("--wrapper-sync").returncode == 0
    fresh_fleet.cli("hosts", "permit", "1", "--store-auth", "off", "--store-prompts", "off")
    mine = make_auth(NEW, "mine")
    machine.put_auth(mine)
    done = machine.run_cdx("exec")
    assert done.returncode == 0
    assert "--store-auth on; this login stays on this host" in done.stderr
    assert "new and changed prompts stay on this host" in done.stderr
    assert "Token usage" in done.stdout
    assert machine.auth() == mine
    assert machine.spooled() == []
    assert fresh_fleet.host("1")["token_usage"]["total"] == 12
    assert fresh_fleet.canonical() == with_auths(make_auth(OLD))
    synced = machine.run_cdx("--wrapper-sync")
    assert synced.returncode == 0
    assert "this login stays on this host" in synced.stderr
    # What was refused is offered again once it is allowed.
    fresh_fleet.cli("hosts", "permit", "1", "--store-auth", "on", "--store-prompts", "on")
    assert machine.run_cdx("--wrapper-sync").stderr.count("in sync with the server") == 1
    assert fresh_fleet.canonical() == with_auths(mine)
    assert "mine.md" in fresh_fleet.cli("prompts", "list").stdout
