"""The setting `database_url` on every engine, what a driver's errors mean, and the rule for rolling upgrades."""

import contextlib
import importlib
import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import peewee
import psycopg
import pymysql
import pytest

from cdxsync.base.errors import DatabaseAway, SettingError
from cdxsync.store import driver_errors, migrations
from cdxsync.store.engines import engine_of
from cdxsync.store.engines.pool import Pooled
from tests.support.engines import Engine
from tests.support.fleet import BASE_ENVIRONMENT, run_cli

HOME = Path("/nowhere")
SECRET = "t0p-5ecret"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", "/nowhere/cdxsync.db"),
        ("sqlite:///other.db", "/nowhere/other.db"),
        ("sqlite:////var/db/fleet.db", "/var/db/fleet.db"),
        (f"postgresql://cdx:{SECRET}@db.example.net/fleet", "postgresql://cdx@db.example.net/fleet"),
        (
            f"postgres://cdx:{SECRET}@db.example.net:6432/fleet?sslmode=verify-full&sslrootcert=/ca.pem",
            "postgresql://cdx@db.example.net:6432/fleet",
        ),
        (
            f"postgresql://cdx:{SECRET}@a,b:5433/fleet?target_session_attrs=read-write",
            "postgresql://cdx@a,b:,5433/fleet",
        ),
        ("postgresql:///fleet?host=/run/postgresql", "postgresql:///run/postgresql/fleet"),
        (f"mysql://cdx:{SECRET}@db.example.net/fleet", "mysql://cdx@db.example.net:3306/fleet"),
        (f"mariadb://cdx:{SECRET}@[::1]:3307/fleet?ssl_mode=required", "mysql://cdx@[::1]:3307/fleet"),
        (f"mysql://c%40dx:{SECRET}@/fleet?unix_socket=/run/my.sock", "mysql://c@dx@/run/my.sock/fleet"),
    ],
)
def test_urls_are_shown_without_their_password(url: str, shown: str) -> None:
    assert engine_of(url, HOME).shown == shown


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("oracle://cdx:S@db/fleet", "'oracle' is not a supported database"),
        ("cdxsync.db", "not a URL"),
        ("sqlite://cdxsync.db", "sqlite:///PATH"),
        ("sqlite:///", "sqlite:///PATH"),
        ("postgresql://cdx:S@db.example.net", "name of the database is missing"),
        ("postgresql://cdx:S@db.example.net:port/fleet", "port must be a number"),
        ("postgresql://cdx:S@db.example.net/fleet?sslmod=require", "no connection parameter 'sslmod'"),
        ("postgresql://cdx:%S@db.example.net/fleet", "not a URL that PostgreSQL accepts"),
        ("mysql://cdx:S@db.example.net/", "name of the database is missing"),
        ("mysql://cdx:S@/fleet", "host is missing"),
        ("mysql://cdx:S@db.example.net:70000/fleet", "not a URL"),
        ("mysql://cdx:S@db.example.net/fleet?sslmode=require", "no option 'sslmode'"),
        ("mysql://cdx:S@db.example.net/fleet?ssl_mode=maybe", "ssl_mode must be one of"),
        ("mysql://cdx:S#x@db.example.net/fleet", "not a URL"),
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url: str, problem: str) -> None:
    with pytest.raises(SettingError) as refused:
        engine_of(url.replace("S", SECRET, 1) if "S" in url else url, HOME)
    assert refused.value.message.startswith("database_url: ")
    assert problem in refused.value.message
    assert SECRET not in refused.value.message


@pytest.mark.parametrize(
    ("scheme", "driver", "extra"), [("postgres", "psycopg", "postgres"), ("mysql", "pymysql", "mysql")]
)
def test_a_missing_driver_says_what_to_install(tmp_path: Path, scheme: str, driver: str, extra: str) -> None:
    code = f"import sys; sys.modules[{driver!r}] = None; from cdxsync.cli.main import run; sys.exit(run())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--home", str(tmp_path / "home"), "init"],
        env={"CDXSYNC_DATABASE_URL": f"{scheme}://cdx:{SECRET}@127.0.0.1:1/fleet", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert f"pip install 'cdxsync[{extra}]'" in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_database_that_is_not_there_is_named_without_its_password(tmp_path: Path, scheme: str) -> None:
    env = {"CDXSYNC_DATABASE_URL": f"{scheme}://cdx:{SECRET}@127.0.0.1:1/fleet", "PATH": ""}
    done = run_cli("--home", str(tmp_path / "home"), "init", check=False, env=env)
    assert done.returncode != 0
    assert "The database cannot be used now: it cannot be reached" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def _raised(error: BaseException) -> BaseException:
    """As Peewee wraps it."""
    try:
        try:
            raise error
        except Exception:
            raise peewee.OperationalError(str(error))  # noqa: B904 - as Peewee does
    except peewee.OperationalError as wrapped:
        return wrapped


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (sqlite3.OperationalError("unable to open database file"), "unable to open database file"),
        (psycopg.OperationalError("server closed the connection"), "it cannot be reached, or the connection was lost"),
        (psycopg.errors.LockNotAvailable("canceling"), "others have it locked"),
        (psycopg.errors.DeadlockDetected("deadlock"), "others have it locked"),
        (psycopg.errors.DiskFull("no space"), "its disk is full"),
        (psycopg.errors.TooManyConnections("sorry"), "it has too many connections"),
        (psycopg.errors.ReadOnlySqlTransaction("cannot"), "it is read-only, perhaps a standby"),
        (psycopg.errors.AdminShutdown("terminating"), "it closed the connection, or accepts none now"),
        (psycopg.errors.IdleInTransactionSessionTimeout("t"), "it closed the connection, or accepts none now"),
        (pymysql.err.OperationalError(2013, "Lost connection"), "it cannot be reached, or the connection was lost"),
        (pymysql.err.InterfaceError(0, ""), "it cannot be reached, or the connection was lost"),
        (pymysql.err.OperationalError(1205, "Lock wait timeout"), "others have it locked"),
        (pymysql.err.OperationalError(1213, "Deadlock"), "others have it locked"),
        (pymysql.err.OperationalError(1040, "Too many connections"), "it has too many connections"),
        (pymysql.err.OperationalError(1290, "read-only"), "it is read-only, perhaps a replica"),
    ],
)
def test_the_state_of_the_database_is_told_from_mistakes(error: BaseException, reason: str) -> None:
    engine_of("postgresql:///x", HOME)
    engine_of("mysql://a@b/x", HOME)
    for raised in (error, _raised(error)):
        with pytest.raises(DatabaseAway) as told, driver_errors.translated():
            raise raised
        assert told.value.message == f"The database cannot be used now: {reason}"


@pytest.mark.parametrize(
    "mistake",
    [
        psycopg.errors.UndefinedColumn("column x"),
        psycopg.errors.InFailedSqlTransaction("aborted"),
        psycopg.errors.UniqueViolation("duplicate"),
        pymysql.err.ProgrammingError(1146, "no such table"),
        pymysql.err.OperationalError(1054, "Unknown column"),
        pymysql.err.IntegrityError(1062, "Duplicate entry"),
    ],
)
def test_mistakes_stay_errors(mistake: BaseException) -> None:
    engine_of("postgresql:///x", HOME)
    engine_of("mysql://a@b/x", HOME)
    for raised in (mistake, _raised(mistake)):
        with pytest.raises(type(raised)), driver_errors.translated():
            raise raised


class _Connection:
    closed = False

    def close(self) -> None:
        self.closed = True


class _Bare(peewee.Database):
    def _connect(self) -> Any:
        return _Connection()


class _Pool(Pooled, _Bare):
    def is_alive(self, connection: Any) -> bool:
        return not connection.closed

    def is_clean(self, connection: Any) -> bool:
        return not connection.closed


def test_threads_share_connections_and_wait_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    database = _Pool("x", pool_size=1)
    first = database.connection()
    taken, found = threading.Event(), []

    def other() -> None:
        taken.set()
        found.append(database.connection())
        database.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert taken.wait(10)
    assert not found
    database.close()
    thread.join(10)
    assert found == [first]
    first.closed = True  # the server has ended it
    assert database.connection() is not first
    monkeypatch.setattr("cdxsync.store.engines.pool.WAIT_SECONDS", 0.01)
    refused: list[str] = []

    def late() -> None:
        try:
            database.connection()
        except DatabaseAway as error:
            refused.append(error.message)

    thread = threading.Thread(target=late)
    thread.start()
    thread.join(10)
    assert refused == ["The database cannot be used now: all 1 connections are in use (setting database_pool_size)"]


def test_the_writer_has_a_connection_apart() -> None:
    database = _Pool("x", pool_size=1)
    database.connection()
    written: list[Any] = []

    def writer() -> None:
        written.append(database.connect_apart())
        database.close()

    thread = threading.Thread(target=writer)
    thread.start()
    thread.join(10)
    assert written[0].closed


_ADDITIVE = re.compile(
    r"CREATE TABLE \w+ \(.*\)"
    r"|CREATE INDEX \w+ ON \w+ \([\w, ]+\)"
    r"|ALTER TABLE \w+ ADD COLUMN \w+ (?:\{\w+\}|\w+(?:\(\d+\))?)(?: NOT NULL DEFAULT \S+| DEFAULT \S+)?",
    re.DOTALL,
)


def test_additive_migrations_only_add() -> None:
    for name in migrations.known():
        module = importlib.import_module(f"cdxsync.store.migrations.{name}")
        if name < "m0007":
            assert not hasattr(module, "ADDITIVE")
            continue
        assert isinstance(module.ADDITIVE, bool), f"{name} does not say whether older programs tolerate it"
        if module.ADDITIVE:
            assert not hasattr(module, "fill"), name
            assert [one for one in module.STATEMENTS if not _ADDITIVE.fullmatch(one)] == [], name


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE hosts ADD COLUMN note TEXT NOT NULL",
        "ALTER TABLE hosts DROP COLUMN ip",
        "CREATE UNIQUE INDEX x ON hosts (ip)",
        "UPDATE hosts SET ip = NULL",
        "DROP TABLE logs",
    ],
)
def test_what_is_not_additive(statement: str) -> None:
    assert not _ADDITIVE.fullmatch(statement)


def test_a_program_goes_on_with_a_newer_schema_that_tolerates_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run_cli("--home", str(home), "init")
    with contextlib.closing(sqlite3.connect(home / "cdxsync.db")) as database, database:
        found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        for (table,) in found.fetchall():
            database.execute(f"ALTER TABLE {table} ADD COLUMN of_the_future VARCHAR(20) NOT NULL DEFAULT 'x'")
        database.execute("INSERT INTO schema_migrations (name, applied_at, additive) VALUES ('m9998_more', '2030', 1)")
    run_cli("--home", str(home), "hosts", "register", "web1.example.net")
    assert "web1.example.net" in run_cli("--home", str(home), "hosts", "list").stdout
    assert run_cli("--home", str(home), "db", "check").returncode == 0
    with contextlib.closing(sqlite3.connect(home / "cdxsync.db")) as database, database:
        database.execute("INSERT INTO schema_migrations (name, applied_at) VALUES ('m9999_other', '2030')")
    refused = run_cli("--home", str(home), "hosts", "list", check=False)
    assert refused.returncode != 0
    assert "m9999_other is not additive" in refused.stderr


MYSQL = """CREATE TABLE states (
        host_id {integer} NOT NULL PRIMARY KEY REFERENCES hosts (id) ON DELETE CASCADE,
        other_id {integer} REFERENCES others (id) ON DELETE SET NULL,
        text TEXT
    )"""


def test_mysql_gets_references_of_the_table_and_long_texts() -> None:
    made = engine_of("mysql://a@b/x", HOME).statement(MYSQL)
    assert "host_id BIGINT NOT NULL PRIMARY KEY,\n" in made
    assert "FOREIGN KEY (host_id) REFERENCES hosts (id) ON DELETE CASCADE" in made
    assert "FOREIGN KEY (other_id) REFERENCES others (id) ON DELETE SET NULL" in made
    assert "text LONGTEXT" in made


def test_postgresql_gets_texts_that_compare_byte_by_byte() -> None:
    made = engine_of("postgresql:///x", HOME).statement("CREATE TABLE x (a VARCHAR(10) NOT NULL, b TEXT, c {longtext})")
    assert made == 'CREATE TABLE x (a VARCHAR(10) COLLATE "C" NOT NULL, b TEXT COLLATE "C", c TEXT COLLATE "C")'


@pytest.mark.every_engine
@pytest.mark.servers_only
def test_a_password_beyond_ascii(engine: Engine, tmp_path: Path) -> None:
    server = engine.server
    assert server is not None
    parts = urlsplit(engine.environment()["CDXSYNC_DATABASE_URL"])
    name, password = parts.path.removeprefix("/"), "grün-Ω-日本"
    statements = {
        "postgres": [
            f"CREATE ROLE guest_{name} LOGIN PASSWORD '{password}'",
            f"ALTER DATABASE {name} OWNER TO guest_{name}",
        ],
        "mariadb": [
            f"CREATE USER guest_{name}@'127.0.0.1' IDENTIFIED BY '{password}'",
            f"GRANT ALL ON {name}.* TO guest_{name}@'127.0.0.1'",
        ],
    }
    with server.admin() as connection, connection.cursor() as cursor:
        for statement in statements[engine.name]:
            cursor.execute(statement)
    url = parts._replace(netloc=f"guest_{name}:{quote(password)}@127.0.0.1:{parts.port}").geturl()
    run_cli("--home", str(tmp_path / "home"), "init", env=BASE_ENVIRONMENT | {"CDXSYNC_DATABASE_URL": url})
