"""Whose login a host uses: the first sync, private logins, kinds of login, and what uninstalling puts back."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.calls import logs
from tests.support.documents import ACCESS_TOKEN, AGENT, API_KEY, BEDROCK, make_auth, with_auths
from tests.support.fleet import Fleet
from tests.support.machines import Machine, host
from tests.support.stub_server import StubServer

OLD, NEW, NEWEST = "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"
PRIVATE = make_auth(NEW, "private", account="acc-2", user="u2")
FLEETS = with_auths(make_auth(OLD))


@pytest.fixture(scope="module")
def synced(fleet: Fleet) -> Fleet:
    """A fleet that has a login."""
    fleet.upload(make_auth(OLD))
    return fleet


def kept(machine: Machine, name: str = "auth.json.before-cdx") -> Path:
    return machine.auth_file.with_name(name)


@pytest.mark.parametrize(
    "private",
    [
        PRIVATE,
        make_auth(NEW, "newer"),
        make_auth("2025-01-01T00:00:00Z", "older"),
        API_KEY,
        ACCESS_TOKEN,
        BEDROCK,
        AGENT,
    ],
    ids=["another account", "newer", "older", "key", "access token", "bedrock", "agent"],
)
def test_at_the_first_sync_the_fleets_login_wins(synced: Fleet, tmp_path: Path, private: dict[str, Any]) -> None:
    machine = host(synced, tmp_path)
    machine.put_auth(private)
    before = machine.auth_file.read_bytes()
    stores = len(logs(synced, "auth.store"))
    done = machine.run_cdx("exec")
    assert (done.returncode, done.stdout) == (0, "ran with: exec\n")
    path = machine.auth_file
    assert done.stderr == f"cdx: {path} has the fleet's login now; what stood there is in {kept(machine)}\n"
    assert machine.auth() == FLEETS
    assert kept(machine).read_bytes() == before
    assert kept(machine).stat().st_mode & 0o777 == 0o600
    assert synced.canonical() == FLEETS
    assert len(logs(synced, "auth.store")) == stores
    assert machine.run_cdx("exec").stderr == ""
    # It comes back when cdx goes, and nothing is sent.
    done = machine.run_cdx("--uninstall", "--yes")
    assert done.returncode == 0
    assert f"is put back as {path}" in done.stderr
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o600
    assert [name.name for name in path.parent.iterdir()] == ["auth.json"]
    assert synced.canonical() == FLEETS


def test_without_a_login_of_the_fleet_the_hosts_is_taken(fresh_fleet: Fleet, tmp_path: Path) -> None:
    machine = host(fresh_fleet, tmp_path)
    machine.put_auth(PRIVATE)
    assert machine.run_cdx("exec").stderr == ""
    assert fresh_fleet.canonical() == with_auths(PRIVATE)
    assert not kept(machine).exists()


def test_the_fleets_own_login_is_not_kept_twice(synced: Fleet, tmp_path: Path) -> None:
    """What was copied here by hand, or refreshed from it, is no private login: its token may be spent by now."""
    machine = host(synced, tmp_path)
    machine.put_auth({**make_auth(OLD), "last_refresh": "2025-06-01T00:00:00Z"})
    assert machine.run_cdx("exec").stderr == ""
    assert machine.auth() == FLEETS
    assert not kept(machine).exists()


def test_an_earlier_copy_is_not_replaced(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    machine.put_auth(PRIVATE)
    kept(machine).write_text("the first")
    assert machine.run_cdx("exec").returncode == 0
    assert kept(machine).read_text() == "the first"
    assert json.loads(kept(machine, "auth.json.before-cdx.2").read_text()) == PRIVATE


def test_a_home_of_an_older_cdx_was_synced(fresh_fleet: Fleet, tmp_path: Path) -> None:
    """It has no note of logins. A login that it refreshed is newer than the server's."""
    fresh_fleet.upload(make_auth(OLD))
    machine = host(fresh_fleet, tmp_path)
    notes = machine.auth_file.parent / ".cdx"
    notes.mkdir(parents=True)
    (notes / "contact.json").write_text('{"synced_at": 1.0}')
    fresh = make_auth(NEW, "refreshed")
    machine.put_auth(fresh)
    assert machine.run_cdx("exec").stderr == ""
    assert fresh_fleet.canonical() == with_auths(fresh)


def test_status_alone_is_no_first_sync(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    machine.put_auth(PRIVATE)
    assert "not compared with the fleet's yet" in machine.run_cdx("--status").stdout
    assert machine.auth() == PRIVATE
    assert "what stood there" in machine.run_cdx("exec").stderr


@pytest.mark.parametrize(
    "private", [PRIVATE, API_KEY, ACCESS_TOKEN, BEDROCK, AGENT], ids=lambda value: "-".join(value)[:20]
)
def test_a_private_login_is_never_overwritten(fresh_fleet: Fleet, tmp_path: Path, private: dict[str, Any]) -> None:
    """One that plain `codex login` has made here later. It is told once, and shown always."""
    fresh_fleet.upload(make_auth(OLD))
    machine = host(fresh_fleet, tmp_path)
    assert machine.run_cdx("exec").returncode == 0
    machine.put_auth(private)
    before = machine.auth_file.read_bytes()
    done = machine.run_cdx("exec")
    assert (done.returncode, done.stdout) == (0, "ran with: exec\n")
    assert done.stderr.count("\n") == 1
    assert "this login stays on this host" in done.stderr
    assert machine.auth_file.read_bytes() == before
    for _ in range(2):
        assert machine.run_cdx("exec").stderr == ""
    fresh_fleet.upload(make_auth(NEWEST, "later"))
    assert machine.run_cdx("exec").stderr == ""
    assert machine.auth_file.read_bytes() == before
    assert not kept(machine).exists()
    assert "of this host alone" in machine.run_cdx("--status").stdout
    doctor = machine.run_cdx("--doctor")
    assert doctor.returncode == 0
    assert "cdx logout, then cdx --wrapper-sync" in doctor.stdout
    assert "this login stays on this host" in machine.run_cdx("--wrapper-sync").stderr
    # Uninstalling leaves it alone, and sends nothing.
    done = machine.run_cdx("--uninstall", "--yes")
    assert "stays: it is a login of this host" in done.stderr
    assert machine.auth_file.read_bytes() == before
    assert [path.name for path in machine.auth_file.parent.iterdir()] == ["auth.json"]
    assert fresh_fleet.canonical() == with_auths(make_auth(NEWEST, "later"))


def test_an_admin_takes_a_private_login(fresh_fleet: Fleet, tmp_path: Path) -> None:
    fresh_fleet.upload(make_auth(OLD))
    one, two = host(fresh_fleet, tmp_path), host(fresh_fleet, tmp_path)
    for machine in (one, two):
        assert machine.run_cdx("exec").returncode == 0
    one.put_auth(PRIVATE)
    name = one.env["NAME"]
    assert f"cdxsync auth accept {name}" in one.run_cdx("exec").stderr
    fresh_fleet.cli("auth", "accept", name)
    assert one.run_cdx("exec").stderr == ""
    canonical = fresh_fleet.canonical() or {}
    assert canonical["tokens"] == PRIVATE["tokens"]
    assert "the fleet's; " in one.run_cdx("--status").stdout
    # What the fleet itself had given is no private login.
    assert two.run_cdx("exec").stderr == ""
    assert two.auth() == canonical
    assert not kept(two).exists()


def test_a_private_login_gives_way_when_it_is_the_fleets_account_again(fresh_fleet: Fleet, tmp_path: Path) -> None:
    fresh_fleet.upload(make_auth(OLD))
    machine = host(fresh_fleet, tmp_path)
    assert machine.run_cdx("exec").returncode == 0
    machine.put_auth(PRIVATE)
    assert machine.run_cdx("exec").returncode == 0
    repaired = make_auth(NEWEST, "by plain codex login")
    machine.put_auth(repaired)
    assert machine.run_cdx("exec").stderr == ""
    assert fresh_fleet.canonical() == with_auths(repaired)
    assert "own" not in machine.note("login.json")


def test_an_old_copy_of_a_key_does_not_become_everybodys(synced: Fleet, tmp_path: Path) -> None:
    """As from a repository of dotfiles, whose file is always new."""
    machine = host(synced, tmp_path)
    assert machine.run_cdx("exec").returncode == 0
    machine.put_auth({**API_KEY, "last_refresh": None})
    assert machine.run_cdx("exec").returncode == 0
    assert synced.canonical() == FLEETS


@pytest.mark.parametrize("kind", [API_KEY, ACCESS_TOKEN, BEDROCK], ids=["key", "access token", "bedrock"])
def test_keys_and_access_tokens_are_shared(fresh_fleet: Fleet, tmp_path: Path, kind: dict[str, Any]) -> None:
    one, two = host(fresh_fleet, tmp_path), host(fresh_fleet, tmp_path)
    one.put_auth(kind)
    assert one.run_cdx("exec").stderr == ""
    assert one.auth() == kind
    assert two.run_cdx("exec").stderr == ""
    assert two.auth().items() >= kind.items()
    for machine in (one, two):
        done = machine.run_cdx("exec", CODEX_DEBUG="1")
        assert "the server says valid" in done.stderr
        assert "a key or token that is not refreshed" in machine.run_cdx("--status").stdout


def test_an_older_server_leaves_an_access_token_alone(synced: Fleet, tmp_path: Path, stub: StubServer) -> None:
    """It knows no such login: it gives another one, or finds no token in this one."""
    machine = host(synced, tmp_path)
    machine.put_auth(ACCESS_TOKEN)
    body = {"message": "Validation failed", "errors": {"auth.auths": ["has no token"]}}

    def answer(text: bytes) -> tuple[int, bytes]:
        if json.loads(text)["command"] == "store":
            return 422, json.dumps(body).encode()
        return 200, b'{"status":"ok","data":{"status":"missing","action":"store","api_calls":1}}'

    stub.valid()
    stub.answers["POST", "/auth"] = answer
    done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=stub.url)
    assert done.returncode == 0
    assert "auth.auths has no token; this login stays on this host" in done.stderr
    stub.answer("POST", "/auth", {"status": "outdated", "auth": FLEETS, "api_calls": 1})
    done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=stub.url)
    assert done.returncode == 0
    assert machine.auth() == ACCESS_TOKEN
