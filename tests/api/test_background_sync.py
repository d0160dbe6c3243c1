"""What a host says of its background sync, and what admins see of it: docs/protocol.md 4.10."""

from itertools import count
from typing import Any

import pytest

from tests.support.calls import MIDDLE, OLD, logs, retrieve, store
from tests.support.documents import make_auth, plain_digest
from tests.support.fleet import Fleet

pytestmark = pytest.mark.every_engine

names = (f"background{number}.example.net" for number in count())


def test_a_background_sync_is_kept_and_shown(fleet: Fleet) -> None:
    fleet.upload(make_auth(MIDDLE))
    name = next(names)
    with fleet.client(fleet.key(name)) as client:
        retrieve(client, OLD)
        assert fleet.host(name)["background_sync"] is None
        retrieve(client, OLD, background="systemd")
        shown = fleet.host(name)
        assert shown["background_sync"] == {"by": "systemd", "at": shown["last_seen_at"]}
        # A run of cdx says nothing of it, and neither does an older one.
        retrieve(client, OLD)
        assert fleet.host(name)["background_sync"]["by"] == "systemd"
        store(client, make_auth(OLD), background="cron")
        assert fleet.host(name)["background_sync"]["by"] == "cron"
        listed: list[dict[str, Any]] = fleet.admin_call("GET", "/admin/hosts")["hosts"]
        assert next(row for row in listed if row["fqdn"] == name)["background_sync"]["by"] == "cron"
        assert [row.split()[-1] for row in fleet.cli("hosts", "list").stdout.splitlines() if name in row] == ["cron"]
        assert "by cron, last at 20" in fleet.cli("hosts", "show", name).stdout
        retrieve(client, OLD, background="none")
    assert fleet.host(name)["background_sync"] is None
    assert "Background sync\tnone" in fleet.cli("hosts", "show", name).stdout


@pytest.mark.parametrize("value", ["", "SYSTEMD", "a later scheduler", 1, None, ["systemd"], {"by": "cron"}])
def test_what_is_not_known_is_not_refused(fleet: Fleet, value: object) -> None:
    name = next(names)
    with fleet.client(fleet.key(name)) as client:
        answer = retrieve(client, OLD, background=value)
    assert "prompts_etag" not in answer
    assert fleet.host(name)["background_sync"] is None


def test_one_that_does_not_call_is_late(fleet: Fleet) -> None:
    name = next(names)
    with fleet.client(fleet.key(name)) as client:
        retrieve(client, OLD, background="launchd")
    fleet.execute("UPDATE hosts SET background_at = ? WHERE fqdn = ?", "2026-01-01T00:00:00+00:00", name)
    row = next(row for row in fleet.cli("hosts", "list").stdout.splitlines() if name in row)
    assert row.split("\t")[-1] == "late"
    assert "cdx --watch status" in fleet.cli("hosts", "show", name).stdout


def test_it_is_told_whether_prompts_have_changed(fleet: Fleet) -> None:
    """So that one call is enough when nothing has."""
    with fleet.client(fleet.key(next(names))) as client:
        client.call("GET", "/slash-commands")  # the first look at a list gives it its number
        before = retrieve(client, OLD, background="systemd")["prompts_etag"]
        assert client.call("GET", "/slash-commands").headers["ETag"] == before
        prompt = {"filename": "watched.md", "prompt": "one", "sha256": None}
        assert client.call("POST", "/slash-commands/store", json=prompt).status_code == 200
        after = retrieve(client, OLD, background="systemd")["prompts_etag"]
        assert after != before
        assert client.call("GET", "/slash-commands").headers["ETag"] == after


def test_the_audit_log_is_not_filled_with_what_changes_nothing(fleet: Fleet) -> None:
    document = make_auth(MIDDLE, "watched")
    fleet.upload(document)
    name = next(names)
    canonical = fleet.admin_call("GET", "/admin/auth")["canonical_digest"]
    before = len(logs(fleet, "auth.retrieve"))
    with fleet.client(fleet.key(name)) as client:
        assert retrieve(client, OLD, canonical, background="systemd")["status"] == "valid"
        assert len(logs(fleet, "auth.retrieve")) == before
        assert retrieve(client, OLD, plain_digest({}), background="systemd")["status"] == "outdated"
        assert retrieve(client, OLD, canonical)["status"] == "valid"
    assert [row["status"] for row in logs(fleet, "auth.retrieve")[before:]] == ["outdated", "valid"]
    assert fleet.host(name)["api_calls"] == 3
