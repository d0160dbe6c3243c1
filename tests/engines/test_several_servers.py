"""Several servers on one database, behind a balancer: no matter which of them, or the database, is killed when.

`FAULT_ROUNDS` says how often something is killed; a release is worth 50.
"""

import functools
import json
import os
import random
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from cdxsync.base.errors import DatabaseAway
from cdxsync.base.files import write_private
from cdxsync.store import keyring_file, migrations
from cdxsync.store.driver_errors import translated
from cdxsync.store.engines import engine_of, mysql_url, postgres
from cdxsync.store.sealing import key_id_of
from tests.support.database_servers import DatabaseServer, MariaDb, Postgres
from tests.support.documents import make_auth, with_auths
from tests.support.engines import connected, has_password, skipping
from tests.support.fleet import Fleet
from tests.support.several import LONG_AGO, Load, Site, site
from tests.support.together import at_once, until
from tests.support.upstream import PRICES, RELEASES, VERIFY, Upstream, job

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "6"))
HOSTS = 4
ALL_DOCUMENTS = {"CDXSYNC_PAYLOAD_HISTORY": "10000"}


@pytest.fixture(scope="module", params=[Postgres, MariaDb], ids=["postgres", "mariadb"])
def killable(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """A database server for these tests alone, which waits for the disk."""
    with skipping():
        server = request.param(durable=True)
    yield server
    server.stop()


@pytest.fixture
def pair(killable: DatabaseServer, tmp_path: Path) -> Iterator[Site]:
    """Two servers that run on a fresh database."""
    with site(tmp_path, {"CDXSYNC_DATABASE_URL": killable.fresh()} | ALL_DOCUMENTS) as started:
        started.start()
        yield started


def load_on(several: Site) -> Load:
    return Load(several, [several.first.key(f"load{number}.example.net") for number in range(HOSTS)])


def test_nothing_acknowledged_is_lost_whatever_is_killed(pair: Site, killable: DatabaseServer) -> None:
    load = load_on(pair)
    kinds = ["first", "second", "database", "both", "all"]
    with load.running():
        for turn in range(ROUNDS):
            load.wait_for(random.randint(10, 60))
            kind = kinds[turn % len(kinds)]
            dead: list[Fleet] = []
            if kind in ("first", "both", "all"):
                dead.append(pair.servers[0])
            if kind in ("second", "both", "all"):
                dead.append(pair.servers[1])
            for server in dead:
                load.kill(server)
            if kind in ("database", "all"):
                killable.kill()
                killable.start()
            elif kind in ("first", "second"):
                load.wait_for(10)  # the other one serves
            for server in dead:
                server.start()
        load.wait_for(40)
    load.check()
    assert load.server_kills > 0


def test_races_over_two_servers(pair: Site) -> None:
    """Without a failure nobody is refused; what one server acknowledges the other serves at once."""
    load = load_on(pair)
    with load.running():
        load.wait_for(400)
    load.check()
    assert (load.refused, load.cut_off) == (0, 0)
    assert all(pair.balancer.taken.values()), "one server got nothing"


def test_one_digest_at_once_is_stored_once(pair: Site) -> None:
    """Hosts that hold the same new document bring it to both servers at the same time."""
    keys = [pair.first.key(f"same{number}.example.net") for number in range(8)]
    for turn in range(5):
        document = make_auth(f"2026-01-01T00:00:{turn:02}Z", str(turn))
        barrier = threading.Barrier(len(keys), timeout=60)
        statuses: list[str] = []

        def store(number: int, what: Any = document, wait: Any = barrier, told: list[str] = statuses) -> None:
            with pair.directly(pair.servers[number % 2], keys[number]) as client:
                client.call("GET", "/wrapper")  # connected
                wait.wait()
                told.append(client.auth(command="store", auth=what).json()["data"]["status"])

        at_once(functools.partial(store, number) for number in range(len(keys)))
        assert sorted(statuses) == ["unchanged"] * 7 + ["updated"]
    assert pair.first.rows("SELECT count(*) FROM auth_payloads") == [(5,)]


def test_an_installer_is_used_once_across_servers(pair: Site) -> None:
    path = urlsplit(pair.first.register("new.example.net")["installer"]["url"]).path
    barrier = threading.Barrier(16, timeout=60)
    answers: list[requests.Response] = []

    def fetch(number: int) -> None:
        with pair.directly(pair.servers[number % 2]) as client:
            client.call("GET", "/healthz")
            barrier.wait()
            answers.append(client.call("GET", path))

    at_once(functools.partial(fetch, number) for number in range(16))
    assert sorted(answer.status_code for answer in answers) == [200] + [410] * 15


def test_a_database_that_is_away_and_comes_back(pair: Site, killable: DatabaseServer) -> None:
    key = pair.first.key("away.example.net")
    document = make_auth()
    before = [server.processes[-1].pid for server in pair.servers]
    with pair.directly(pair.servers[0], key) as one, pair.directly(pair.servers[1], key) as two:
        assert one.auth(command="store", auth=document).status_code == 200
        killable.kill()
        for client in (one, two):
            assert client.call("GET", "/healthz").status_code == 200
            for answer in (
                client.call("GET", "/readyz"),
                client.auth(**LONG_AGO),
                client.auth(command="store", auth=make_auth("2026-02-01T00:00:00Z", "two")),
                client.call("POST", "/usage", json={"total": 1}),
            ):
                assert answer.status_code == 503, answer.text
                assert int(answer.headers["Retry-After"]) >= 1
                assert not has_password(answer.text)
        done = pair.first.cli("hosts", "list", check=False)
        assert done.returncode == 5, done.stderr
        assert not has_password(done.stderr)
        killable.start()
        for client in (one, two):
            until(lambda client=client: client.call("GET", "/readyz").status_code == 200)  # type: ignore[misc]
            answer = client.auth(**LONG_AGO)
            assert answer.status_code == 200, answer.text
            assert answer.json()["data"]["auth"] == with_auths(document)
            assert client.call("POST", "/usage", json={"total": 1}).status_code == 200
    assert [server.processes[-1].pid for server in pair.servers] == before
    assert pair.first.rows("SELECT count(*) FROM token_usages") == [(2,)]
    assert "Traceback" not in pair.log()


def test_a_database_that_is_stopped(killable: DatabaseServer, tmp_path: Path) -> None:
    """Its machine acknowledges what it is sent, and nobody answers: calls end in 503, and the server can be ended."""
    env = {"CDXSYNC_DATABASE_URL": killable.fresh(), "CDXSYNC_DATABASE_POOL_SIZE": "3"}
    with site(tmp_path, env, count=1) as alone:
        alone.start()
        server, key = alone.first, alone.first.key("stopped.example.net")
        answers: list[requests.Response] = []

        def call(number: int) -> None:
            with alone.directly(server, key) as client:
                if number % 2:
                    answers.append(client.call("POST", "/usage", json={"total": 1}))
                else:
                    answers.append(client.call("GET", "/slash-commands"))

        at_once(functools.partial(call, number) for number in range(6))  # connections that are used again
        assert {answer.status_code for answer in answers} == {200}
        answers.clear()
        with killable.frozen():
            at_once(functools.partial(call, number) for number in range(10))
            assert {answer.status_code for answer in answers} == {503}, [answer.text for answer in answers]
            with alone.directly(server) as client:
                assert client.call("GET", "/healthz").status_code == 200
                assert client.call("GET", "/readyz").status_code == 503
            assert server.cli("hosts", "list", check=False).returncode == 5
        with alone.directly(server, key) as client:
            until(lambda: client.call("GET", "/readyz").status_code == 200)
            assert client.call("POST", "/usage", json={"total": 1}).status_code == 200
            process = server.processes[-1]
            with killable.frozen():
                process.terminate()
                process.wait(60)
        assert process.returncode == 0


def test_a_statement_may_take_long(killable: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is asked meanwhile whether it is there, and the statement goes on."""
    for module in (postgres, mysql_url):
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.1)
    database: Any = engine_of(killable.fresh(), Path("/nowhere")).database()
    asked: list[bool] = []
    ask = database.takes_connections

    def noted() -> bool:
        asked.append(ask())
        return asked[-1]

    monkeypatch.setattr(database, "takes_connections", noted)
    statement = "SELECT pg_sleep(1), 7" if killable.scheme == "postgresql" else "SELECT SLEEP(1), 7"
    assert database.execute_sql(statement).fetchone()[1] == 7
    database.close()
    database.close_idle()
    assert asked
    assert all(asked)


def test_a_table_that_others_lock_is_not_waited_for_without_end(
    killable: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_READER", postgres._READER.replace("15000", "200"))
    shorter = tuple(one.replace("lock_wait_timeout = 15", "lock_wait_timeout = 1") for one in mysql_url._SESSION)
    monkeypatch.setattr(mysql_url, "_SESSION", shorter)
    url = killable.fresh()
    database: Any = engine_of(url, Path("/nowhere")).database()
    database.execute_sql("CREATE TABLE taken (id INTEGER)")
    on_postgres = killable.scheme == "postgresql"
    with connected(url, Path("/nowhere")) as execute:
        execute("LOCK TABLE taken IN ACCESS EXCLUSIVE MODE" if on_postgres else "LOCK TABLES taken WRITE")
        with pytest.raises(DatabaseAway, match="others have it locked"), translated():
            database.execute_sql("SELECT id FROM taken")
    database.close()
    database.close_idle()


def test_jobs_run_once_across_servers(killable: DatabaseServer, tmp_path: Path, upstream: Upstream) -> None:
    """Those with an interval are due when both servers start; the other does not begin the one that takes long."""
    upstream.fail(RELEASES, hold=True)
    env = {"CDXSYNC_DATABASE_URL": killable.fresh(), "CDXSYNC_OUTSIDE_TIMEOUT": "120"} | upstream.environment()
    due = {"versions": RELEASES, "pricing": PRICES, "runner": VERIFY}
    with site(tmp_path, env) as pair:
        pair.first.cli("auth", "upload", "-", input=json.dumps(make_auth()))
        pair.start()
        until(lambda: all(job(pair.first, name)["runs"] for name in ("pricing", "runner", "retention")))
        assert {name: upstream.count(path) for name, path in due.items()} == dict.fromkeys(due, 1)
        row = job(pair.first, "versions")
        assert (row["runs"], row["state"]) == (0, "running")
        upstream.release()
        until(lambda: job(pair.first, "versions")["runs"])
        assert job(pair.first, "versions")["last_error"] is None
        assert upstream.count(RELEASES) == 1


def test_servers_that_start_at_the_same_moment_migrate_once(killable: DatabaseServer, tmp_path: Path) -> None:
    with site(tmp_path, {"CDXSYNC_DATABASE_URL": killable.fresh()}, count=4) as several:
        empty = killable.fresh()
        for server in several.servers:
            server.env = server.env | {"CDXSYNC_DATABASE_URL": empty}
        with ThreadPoolExecutor(len(several.servers)) as threads:
            list(threads.map(lambda server: server.cli("db", "migrate"), several.servers))
        several.start()
        names = [name for (name,) in several.first.rows("SELECT name FROM schema_migrations ORDER BY name")]
        assert names == migrations.known()
        several.first.upload(make_auth())
        for server in several.servers:
            with several.directly(server, certificate="admin") as client:
                assert client.call("GET", "/admin/auth").json()["data"]["canonical_last_refresh"]


def test_keys_change_while_both_serve(pair: Site) -> None:
    """A server that lacks the new key refuses, and never takes an older document for want of it."""
    load = load_on(pair)
    one, two = (server.home / "keyring.json" for server in pair.servers)
    old = keyring_file.read(one).active
    with load.running():
        load.wait_for(60)
        pair.first.cli("keys", "rotate")
        write_private(two, one.read_bytes())
        load.wait_for(60)
    refused = load.refused
    # Before the second had the new key, it could not go on with the chain of the audit log.
    pair.first.cli("logs", "verify", "--accept", "--yes")
    load.check()
    with load.running():
        load.wait_for(40)
    assert load.refused == refused, "all is well with the same keyring on both"
    pair.first.cli("keys", "retire", old, "--yes")
    write_private(two, one.read_bytes())
    load.check()
    (key,) = json.loads(pair.first.cli("--json", "keys", "list").stdout)["keys"]
    assert (key["state"], key["id"] != old) == ("active", True)


def test_a_server_that_lacks_a_key(pair: Site) -> None:
    one, two = (server.home / "keyring.json" for server in pair.servers)
    key = pair.first.key("lacks.example.net")
    with pair.directly(pair.servers[0], key) as client:
        assert client.auth(command="store", auth=make_auth("2026-03-01T00:00:00Z", "new")).status_code == 200
    pair.first.cli("keys", "rotate")
    lacking = keyring_file.read(one).active
    with pair.directly(pair.servers[1], key) as client:
        for answer in (client.auth(**LONG_AGO), client.auth(command="store", auth=make_auth())):
            assert answer.status_code == 503, answer.text
            assert lacking in answer.json()["message"]
        write_private(two, one.read_bytes())
        assert client.auth(**LONG_AGO).json()["data"]["auth"] == with_auths(make_auth("2026-03-01T00:00:00Z", "new"))
    assert pair.first.rows("SELECT count(*) FROM auth_payloads") == [(1,)]


def test_a_keyring_from_outside_is_changed_server_by_server(killable: DatabaseServer, tmp_path: Path) -> None:
    """Nobody is refused: all seal with the old key until the rotation, when all have the new one."""
    with site(tmp_path, {"CDXSYNC_DATABASE_URL": killable.fresh()} | ALL_DOCUMENTS) as pair:
        give_keyring(pair.servers, pair.first.cli("keys", "export", "-").stdout)
        for server in pair.servers:
            (server.home / "keyring.json").unlink()
        pair.start()
        load = load_on(pair)
        with load.running():
            load.wait_for(40)
            new = pair.first.cli("keys", "export", "-", "--new-key").stdout
            for server in pair.servers:
                load.kill(server)
                give_keyring([server], new)
                server.start()
                load.wait_for(40)
            pair.first.cli("keys", "rotate")
            load.wait_for(40)
        load.check()
        assert load.refused == 0
        states = {
            key["id"]: key["state"] for key in json.loads(pair.first.cli("--json", "keys", "list").stdout)["keys"]
        }
        assert states[json.loads(new)["active"]] == "active"
        sealed = {key_id_of(body) for (body,) in pair.first.rows("SELECT body FROM auth_payloads")}
        assert sealed == {json.loads(new)["active"]}


def test_keyring_files_are_changed_server_by_server(pair: Site) -> None:
    """Nobody is refused when all have the new key before the rotation; one that lacks the fleet's key cannot rotate."""
    old = (pair.first.home / "keyring.json").read_text()
    new = pair.first.cli("keys", "export", "-", "--new-key").stdout
    load = load_on(pair)
    with load.running():
        load.wait_for(40)
        for server in pair.servers:
            write_private(server.home / "keyring.json", new.encode())
            load.wait_for(40)
        done = pair.first.cli("--json", "keys", "rotate")
        load.wait_for(40)
    load.check()
    assert load.refused == 0
    key = json.loads(new)["active"]
    assert json.loads(done.stdout)["active"] == key
    assert not json.loads(done.stdout)["added"]
    assert {key_id_of(body) for (body,) in pair.first.rows("SELECT body FROM auth_payloads")} == {key}
    write_private(pair.first.home / "keyring.json", old.encode())
    refused = pair.first.cli("keys", "rotate", check=False)
    assert refused.returncode == 4
    assert f"seals with key {key}" in refused.stderr
    assert (pair.first.home / "keyring.json").read_text() == old


def give_keyring(servers: Iterable[Fleet], text: str) -> None:
    for server in servers:
        server.env = server.env | {"CDXSYNC_KEYRING": text}
