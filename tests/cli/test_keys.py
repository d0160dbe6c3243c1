"""Keys that seal credentials: changing them while servers run and hosts call, ending them, and lacking one."""

import contextlib
import functools
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from cdxsync.store import keyring_file
from cdxsync.store.sealing import key_id_of
from tests.support.documents import make_auth, with_auths
from tests.support.fleet import Fleet, free_port
from tests.support.together import at_once

COLUMNS = ("auth_payloads.body", "auth_entries.token", "install_tokens.api_key")


def sealed_with(fleet: Fleet) -> dict[str, set[str]]:
    """The key ids found in each column of the database."""
    return {
        name: {
            key_id_of(row[0])
            for row in fleet.rows("SELECT {1} FROM {0} WHERE {1} IS NOT NULL".format(*name.split(".")))
        }
        for name in COLUMNS
    }


def keys_of(fleet: Fleet) -> dict[str, dict[str, Any]]:
    return {key["id"]: key for key in json.loads(fleet.cli("--json", "keys", "list").stdout)["keys"]}


def test_rotation_and_retirement_while_hosts_call(fresh_fleet: Fleet) -> None:
    """Two servers seal and open all the time; no call fails, nothing that was stored is lost."""
    other = Fleet(fresh_fleet.home, env=fresh_fleet.env)
    other.start()
    ports = (fresh_fleet.port, other.port)
    done = threading.Event()
    stored: list[dict[str, Any]] = []
    installers: list[str] = []
    api_keys = [fresh_fleet.key(f"host{number}.example.net") for number in range(4)]

    def host(number: int) -> None:
        turn = 0
        with fresh_fleet.client(api_keys[number]) as client:
            while not done.is_set():
                client.url = f"https://localhost:{ports[turn % 2]}"
                turn += 1
                document = make_auth(f"2026-01-01T{turn // 3600:02}:{turn // 60 % 60:02}:{turn % 60:02}.{number}Z")
                response = client.auth(command="store", auth=document)
                assert response.status_code == 200, response.text
                if response.json()["data"]["status"] == "updated":
                    stored.append(document)
                asked = client.auth(last_refresh="2000-01-01T00:00:00Z", digest="0" * 64).json()["data"]
                assert asked["status"] == "outdated", asked

    def admin() -> None:
        number = 0
        while not done.is_set():
            number += 1
            installers.append(fresh_fleet.register(f"new{number}.example.net")["installer"]["url"])

    def rotate() -> None:
        try:
            for _ in range(3):
                old = json.loads(fresh_fleet.cli("--json", "keys", "list").stdout)["keys"][-1]["id"]
                data = json.loads(fresh_fleet.cli("--json", "keys", "rotate").stdout)
                assert (data["added"], data["unreadable"]) == (True, [])
                assert data["active"] != old
                fresh_fleet.cli("keys", "retire", old, "--yes")
        finally:
            done.set()

    try:
        at_once([*(functools.partial(host, number) for number in range(4)), admin, rotate])
    finally:
        other.stop()
    keys = keys_of(fresh_fleet)
    assert [key["state"] for key in keys.values()] == ["active"]
    assert {frozenset(found) for found in sealed_with(fresh_fleet).values()} == {frozenset(keys)}
    assert fresh_fleet.canonical() == with_auths(max(stored, key=lambda document: str(document["last_refresh"])))
    for url in installers:
        with fresh_fleet.client() as client:
            assert client.call("GET", url.removeprefix(fresh_fleet.url)).status_code == 200
    assert (fresh_fleet.home / "keyring.json").stat().st_mode & 0o777 == 0o600


def test_a_rotation_that_was_cut_off_goes_on(fresh_fleet: Fleet) -> None:
    fresh_fleet.stop()
    fresh_fleet.cli("auth", "upload", "-", input=json.dumps(make_auth()))
    with contextlib.closing(sqlite3.connect(fresh_fleet.home / "cdxsync.db")) as database, database:
        at = "2026-01-01T00:00:00+00:00"
        # Not sealed values: they keep the rotation busy, and cannot be opened.
        database.executemany(
            "INSERT INTO auth_payloads (last_refresh, last_refresh_us, sha256, source, body, created_at)"
            " VALUES ('2020-01-01T00:00:00Z', 1, '0', 'admin', ?, ?)",
            [(f"cdx1:gone:{number}", at) for number in range(20000)],
        )
    command = [sys.executable, "-m", "cdxsync", "--home", str(fresh_fleet.home), "keys", "rotate"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=fresh_fleet.env)
    ring = fresh_fleet.home / "keyring.json"
    while not keyring_file.read(ring).resealing:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    added = keyring_file.read(ring).active
    assert fresh_fleet.canonical() == with_auths(make_auth())
    assert "To finish it: cdxsync keys rotate" in fresh_fleet.cli("keys", "list").stderr
    with contextlib.closing(sqlite3.connect(fresh_fleet.home / "cdxsync.db")) as database, database:
        database.execute("DELETE FROM auth_payloads WHERE body LIKE 'cdx1:gone:%' AND id % 2000 > 0")
    done = fresh_fleet.cli("--json", "keys", "rotate", check=False)
    data = json.loads(done.stdout)
    assert (data["active"], data["added"], len(data["unreadable"])) == (added, False, 10)
    assert done.returncode == 1
    assert "auth_payloads.body:2000: sealed with key 'gone'" in done.stderr
    assert fresh_fleet.canonical() == with_auths(make_auth())
    assert keyring_file.read(ring).resealing is False
    assert keys_of(fresh_fleet)["gone"]["state"] == "missing"


def test_keys_that_may_not_be_retired(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth())
    active = keyring_file.read(fresh_fleet.home / "keyring.json").active
    for key, code, says in [("nokey", 3, "keys list"), (active, 4, "is the active one")]:
        done = fresh_fleet.cli("keys", "retire", key, "--yes", check=False)
        assert (done.returncode, says in done.stderr) == (code, True)
    content = keyring_file.read(fresh_fleet.home / "keyring.json")
    keyring_file.write(fresh_fleet.home / "keyring.json", content.with_new_key())
    done = fresh_fleet.cli("keys", "retire", active, "--yes", check=False)
    assert done.returncode == 4
    assert "1 auth_entries.token, 1 auth_payloads.body" in done.stderr
    assert fresh_fleet.cli("keys", "retire", active, check=False).returncode == 4
    assert active in keyring_file.read(fresh_fleet.home / "keyring.json").keys


def test_the_server_does_not_start_without_the_key_that_is_wanted(fresh_fleet: Fleet, tmp_path: Path) -> None:
    fresh_fleet.upload(make_auth())
    fresh_fleet.stop()
    ring = fresh_fleet.home / "keyring.json"
    good = ring.read_bytes()
    wanted = keyring_file.read(ring).active
    with contextlib.closing(sqlite3.connect(fresh_fleet.home / "cdxsync.db")) as database, database:
        # A migration that is missing would be made by a start that goes on.
        newest = database.execute("SELECT max(name), applied_at FROM schema_migrations").fetchone()
        database.execute("DELETE FROM schema_migrations WHERE name = ?", newest[:1])
        ledger = database.execute("SELECT name FROM schema_migrations").fetchall()
    start = ["serve", "--listen", f"127.0.0.1:{free_port()}"]

    keyring_file.create(ring)
    other = ring.read_bytes()
    done = fresh_fleet.cli(*start, check=False)
    assert done.returncode == 1
    assert f"Needed: key '{wanted}', for 1 auth_entries.token, 1 auth_payloads.body" in done.stderr
    assert ring.read_bytes() == other
    ring.write_bytes(other.replace(keyring_file.read(ring).active.encode(), wanted.encode()))
    done = fresh_fleet.cli(*start, check=False)
    assert done.returncode == 1
    assert f"key '{wanted}'" in done.stderr
    assert "the key is wrong" in done.stderr
    ring.unlink()
    for command in (start, ["init"]):
        done = fresh_fleet.cli(*command, check=False)
        assert done.returncode == 1
        assert f"keyring.json is missing, and the database holds values sealed with key {wanted}" in done.stderr
        assert not ring.exists()
    ring.write_text("{}")
    assert "not a keyring" in fresh_fleet.cli(*start, check=False).stderr
    with contextlib.closing(sqlite3.connect(fresh_fleet.home / "cdxsync.db")) as database, database:
        assert database.execute("SELECT name FROM schema_migrations").fetchall() == ledger
        database.execute("INSERT INTO schema_migrations (name, applied_at) VALUES (?, ?)", newest)
    ring.write_bytes(good)
    fresh_fleet.start()
    assert fresh_fleet.canonical() == with_auths(make_auth())


def test_a_running_server_survives_a_keyring_that_is_away(fresh_fleet: Fleet) -> None:
    ring = fresh_fleet.home / "keyring.json"
    good = ring.read_bytes()
    fresh_fleet.upload(make_auth())
    ring.unlink()
    assert fresh_fleet.upload(make_auth("2026-02-01T00:00:00Z"))["status"] == "updated"
    ring.write_bytes(b"half of a")
    assert fresh_fleet.upload(make_auth("2026-03-01T00:00:00Z"))["status"] == "updated"
    ring.write_bytes(good)
    assert fresh_fleet.canonical() == with_auths(make_auth("2026-03-01T00:00:00Z"))
