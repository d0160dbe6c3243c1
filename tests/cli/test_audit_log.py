"""The audit log of running servers and of the command line is one chain, and each row says from where it came."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.calls import from_address, retrieve, store
from tests.support.documents import make_auth
from tests.support.engines import Engine
from tests.support.fleet import Fleet, run_cli
from tests.support.several import site
from tests.support.together import at_once


def verified(fleet: Fleet, *more: str) -> tuple[int, dict[str, Any]]:
    done = fleet.cli("logs", "verify", "--json", *more, check=False)
    data: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, data


@pytest.mark.every_engine
def test_rows_of_requests_have_address_and_request_id(fresh_fleet: Fleet) -> None:
    key = fresh_fleet.key("roams.example.net")
    fresh_fleet.admin_call("POST", "/admin/hosts/1/roaming", json={"allow": True})
    with fresh_fleet.client(key) as client:
        store(client, make_auth())
        retrieve(client)
        client.call("POST", "/usage", json={"total": 1})
        client.call("POST", "/slash-commands/store", json={"filename": "a.md", "prompt": "text"})
        client.call("GET", "/slash-commands")
    assert from_address(fresh_fleet, "127.0.0.7", key, "GET", "/slash-commands")[0] == 200
    assert from_address(fresh_fleet, "127.0.0.8", "wrong")[0] == 401
    before = fresh_fleet.rows("SELECT action, ip, request_id FROM logs ORDER BY id")
    actions = {action for action, _, _ in before}
    assert {"register", "auth.store", "auth.retrieve", "token.usage", "access.refused", "slash.store"} <= actions
    assert [row for row in before if not row[1] or not row[2]] == []
    assert {ip for _, ip, _ in before} == {"127.0.0.1", "127.0.0.7", "127.0.0.8"}
    fresh_fleet.cli("hosts", "disable", "roams.example.net")
    assert fresh_fleet.rows("SELECT ip, request_id FROM logs ORDER BY id DESC LIMIT 1") == [(None, None)]
    page = fresh_fleet.admin_call("GET", "/admin/logs?action=access.refused")["logs"]
    assert [row["ip"] for row in page] == ["127.0.0.8"]
    assert "127.0.0.8" in fresh_fleet.cli("logs", "--action", "access.").stdout


@pytest.mark.every_engine
def test_servers_and_commands_write_one_chain(engine: Engine, tmp_path: Path) -> None:
    shared = {"CDXSYNC_DATABASE_URL": f"sqlite:///{tmp_path / 'shared.db'}"} | engine.environment()
    with site(tmp_path, shared) as pair:
        pair.start()
        first, second = pair.servers
        keys = [pair.first.key(f"h{number}.example.net") for number in range(3)]

        def report(key: str) -> None:
            for _ in range(10):
                with first.client(key) as client:
                    assert client.call("POST", "/usage", json={"total": 1}).status_code == 200

        def command() -> None:
            for _ in range(2):
                second.cli("state", "disable")

        at_once([*(lambda key=key: report(key) for key in keys), command])
        for server in (first, second):
            code, data = verified(server)
            assert (code, data["ok"], data["problems"]) == (0, True, [])
            assert data["checked"] == server.rows("SELECT COUNT(*) FROM logs")[0][0]
        # What one has committed is missed by the other's home, too, once that has written.
        first.execute("DELETE FROM logs WHERE action = 'admin.api.state'")
        assert verified(first)[0] == verified(second)[0] == 1


def test_all_checks_tell_of_a_row_that_was_changed(fresh_fleet: Fleet) -> None:
    fresh_fleet.key("web.example.net")
    for _ in range(3):
        fresh_fleet.cli("state", "disable")
    fresh_fleet.execute("UPDATE logs SET actor = 'os-user:else' WHERE id = 4")
    fresh_fleet.execute("DELETE FROM logs WHERE id = 2")
    code, data = verified(fresh_fleet)
    assert (code, data["ok"]) == (1, False)
    assert [(row["kind"], row["id"]) for row in data["problems"]] == [("removed", 3), ("changed", 4)]
    done = fresh_fleet.cli("logs", "verify", check=False)
    assert (done.returncode, done.stdout) == (1, "a row was removed before row 3\nrow 4 was changed\n")
    checked = json.loads(fresh_fleet.cli("--json", "db", "check", check=False).stdout)
    assert [row["check"] for row in checked["findings"]] == ["audit", "audit"]
    report = fresh_fleet.admin_call("GET", "/admin/doctor")
    assert [row["level"] for row in report["checks"] if row["check"] == "audit-log"] == ["fail"]
    # Once an admin has looked, it goes on from there.
    assert fresh_fleet.cli("logs", "verify", "--accept", check=False).returncode != 0
    code, data = verified(fresh_fleet, "--accept", "--yes")
    assert (code, data["ok"], data["checked"], data["before"]) == (0, True, 1, 4)
    fresh_fleet.key("other.example.net")
    assert verified(fresh_fleet)[0] == 0


def test_the_log_stays_whole_through_backup_restore_export_and_import(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run_cli("--home", str(home), "init", "--public-url", "https://localhost:1")
    run_cli("--home", str(home), "hosts", "register", "web.example.net")
    run_cli("--home", str(home), "db", "backup", str(tmp_path / "backup.zip"))
    run_cli("--home", str(home), "hosts", "disable", "web.example.net")
    run_cli("--home", str(home), "db", "export", str(tmp_path / "with"), "--with-keyring")
    # Rows after the backup are gone with a restore; that is no finding.
    run_cli("--home", str(home), "db", "restore", str(tmp_path / "backup.zip"), "--force", "--yes")
    run_cli("--home", str(home), "logs", "verify")
    run_cli("--home", str(home), "hosts", "disable", "web.example.net")
    run_cli("--home", str(home), "logs", "verify")
    run_cli("--home", str(tmp_path / "imported"), "db", "import", str(tmp_path / "with"))
    run_cli("--home", str(tmp_path / "imported"), "logs", "verify")
    # A database that was put back by other means is one.
    shutil.copy(home / "cdxsync.db", tmp_path / "older.db")
    run_cli("--home", str(home), "hosts", "enable", "web.example.net")
    shutil.copy(tmp_path / "older.db", home / "cdxsync.db")
    done = run_cli("--home", str(home), "logs", "verify", check=False)
    assert (done.returncode, done.stdout) == (1, "a row was removed at the end of the log\n")


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("UPDATE logs SET seq = 'garbage' WHERE id = (SELECT max(id) FROM logs)", "logs"),
        ("UPDATE logs SET seq = 1.5 WHERE id = (SELECT max(id) FROM logs)", "logs"),
        ("UPDATE logs SET details = 'garbage'", "logs"),
        ("UPDATE versions SET version = '9.9.9' WHERE name = 'canonical_payload_id'", "versions"),
        ("UPDATE versions SET version = '²' WHERE name = 'canonical_payload_id'", "versions"),
        ("UPDATE hosts SET other_account = 'garbage'", "hosts"),
        ("UPDATE hosts SET last_refresh = 'garbage'", "hosts"),
    ],
)
def test_values_that_nothing_of_ours_writes_end_no_command(fresh_fleet: Fleet, statement: str, table: str) -> None:
    """An admin looks, accepts what there is, and can put all right."""
    fresh_fleet.upload(make_auth())
    with fresh_fleet.client(fresh_fleet.key("web.example.net")) as client:
        assert client.auth(last_refresh="2000-01-01T00:00:00Z", digest="0" * 64).status_code == 200
    fresh_fleet.tamper(statement)
    looks = (["logs"], ["overview"], ["hosts", "show", "web.example.net"], ["auth", "show"], ["db", "check"])
    accept = ["logs", "verify", "--accept", "--yes"] if table == "logs" else ["db", "accept", "--yes"]
    for words in (["logs", "verify"], *looks, accept, *looks):
        done = fresh_fleet.cli(*words, check=False)
        assert "Traceback" not in done.stderr
    upload = ["auth", "upload", "--force", "-"]
    fresh_fleet.cli(*upload, input=json.dumps(make_auth("2026-06-01T00:00:00Z", "new")))
    assert fresh_fleet.cli("auth", "show").returncode == 0
    assert fresh_fleet.cli("logs", "verify", check=False).returncode == 0
