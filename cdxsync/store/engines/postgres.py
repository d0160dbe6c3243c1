"""PostgreSQL, through psycopg 3; for several servers on one database."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import peewee

from cdxsync.base.errors import DatabaseAway, Failed, SettingError, Unavailable
from cdxsync.store import driver_errors
from cdxsync.store.engines.base import (
    BUSY_TIMEOUT_SECONDS,
    IN_CLEAR,
    NEXT_TURN,
    TURNS,
    UNNAMED,
    UNVERIFIED,
    Engine,
    Exposure,
    leaves_machine,
    lost_in_commit,
    orphans,
)
from cdxsync.store.engines.liveness import CONNECT_SECONDS, PATIENCE_SECONDS, SILENT
from cdxsync.store.engines.pool import Pooled, is_silent, reading_in

try:
    import psycopg
    from psycopg import conninfo, pq
    from psycopg.adapt import Dumper
except ImportError:
    raise Unavailable(
        "database_url: PostgreSQL needs its driver. Run: pip install 'cdxsync[postgres]'", code="driver_missing"
    ) from None

_FORM = "postgresql://USER:PASSWORD@HOST:PORT/NAME?sslmode=verify-full"
_DEFAULTS: dict[str, Any] = {
    "application_name": "cdxsync",
    "connect_timeout": CONNECT_SECONDS,
    # Detects a vanished server within half a minute.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15000,
}
_REMEDY = (
    "add sslmode=verify-full to database_url, and sslrootcert=FILE with the CA, or sslrootcert=system for a public one"
)
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_READER = (
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;"
    f" SET lock_timeout = {int(BUSY_TIMEOUT_SECONDS * 1000)}"
)
_WRITER = (
    # A writer that hangs must not block all others.
    "SET idle_in_transaction_session_timeout = '60s'",
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
)
_MIGRATION_LOCK = 0x636478  # "cdx"
_CONNECTION_CLASSES = ("08", "57P", "25P03")
_REASONS = {
    "53100": "its disk is full",
    "53300": "it has too many connections",
    "55P03": "others have it locked",
    "40P01": "others have it locked",
    "25006": "it is read-only, perhaps a standby",
    "28P01": "it refuses the user or the password",
    "28000": "it refuses this user",
    "3D000": "it has no database of this name",
    "42501": "its user lacks a privilege: make it the owner of the database",
}


def explain(error: BaseException) -> str | None:
    """The state of the database that psycopg's error tells of; None for a fault of the program."""
    state = getattr(error, "sqlstate", None) or ""
    if state in _REASONS:
        return _REASONS[state]
    if not state:
        gone = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return "it cannot be reached, or the connection was lost" if gone else None
    if state.startswith(_CONNECTION_CLASSES):
        return "it closed the connection, or accepts none now"
    return f"it reports a failure ({state})" if isinstance(error, psycopg.OperationalError) else None


class _TextDumper(Dumper):
    """Texts, whose type the server infers; U+0000, which PostgreSQL cannot hold, becomes U+FFFD.

    Stored texts with it were refused before. This is for searches, which then find nothing.
    """

    def dump(self, obj: str) -> bytes:
        return obj.replace("\0", "\ufffd").encode()


class _Connection(psycopg.Connection[Any]):
    """psycopg's, which gives up on a server that is silent and not `is_there`."""

    is_there: Callable[[], bool] | None = None

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """Wait for the server."""
        return super().wait(self._patiently(gen), *args, **options)

    def _patiently(self, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        try:
            wanted = next(steps)
            ask_at = time.monotonic() + PATIENCE_SECONDS
            while True:
                ready = yield wanted  # psycopg returns every 0.1 s, with nothing ready
                if ready:
                    ask_at = time.monotonic() + PATIENCE_SECONDS
                elif time.monotonic() >= ask_at:
                    if self.is_there is not None and not self.is_there():
                        self.pgconn.finish()
                        raise psycopg.OperationalError(SILENT)
                    ask_at = time.monotonic() + PATIENCE_SECONDS
                wanted = steps.send(ready)
        except StopIteration as done:
            return done.value


class _Adapter(peewee.Psycopg3Adapter):
    def connect(self, db: Any, **parameters: Any) -> Any:
        connection = _Connection.connect(dbname=db.database, **parameters)
        connection.is_there = db.liveness.is_there
        return connection


class _Database(Pooled, peewee.PostgresqlDatabase):
    psycopg3_adapter = _Adapter

    def connect_driver(self) -> Any:
        connection = super().connect_driver()
        connection.adapters.register_dumper(str, _TextDumper)
        connection.execute(_READER, prepare=False)
        return connection

    def takes_connections(self) -> bool:
        try:
            psycopg.connect(dbname=self.database, **self.connect_params | {"connect_timeout": CONNECT_SECONDS}).close()
        except psycopg.errors.ConnectionTimeout:
            return False
        except psycopg.Error:
            return True  # it refuses; without a listener the system ends the connection
        return True

    def is_alive(self, connection: Any) -> bool:
        return not connection.closed and is_silent(connection.fileno())

    def is_clean(self, connection: Any) -> bool:
        status = connection.info.transaction_status
        if status != pq.TransactionStatus.IDLE and not connection.closed:
            with contextlib.suppress(psycopg.Error):
                connection.rollback()
        return bool(connection.info.transaction_status == pq.TransactionStatus.IDLE)


class PostgresEngine(Engine):
    """A PostgreSQL database. Texts have the collation "C" and compare as those of the other engines."""

    name = "postgresql"
    step = 1
    schema = {  # noqa: RUF012 - never changed
        "id": "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        "integer": "BIGINT",
        "bigint": "BIGINT",
        "bool": "BOOLEAN",
        "true": "TRUE",
        "false": "FALSE",
        "longtext": "TEXT",
    }
    setup = (
        f"CREATE TABLE IF NOT EXISTS {TURNS} (id INTEGER NOT NULL PRIMARY KEY, turn BIGINT NOT NULL)",
        f"INSERT INTO {TURNS} (id, turn) VALUES (1, 0) ON CONFLICT DO NOTHING",  # noqa: S608 - of a constant
    )

    def __init__(self, url: str, pool_size: int) -> None:
        self._pool_size = pool_size
        given = _read_url(url)
        self._parameters = _DEFAULTS | given | {"client_encoding": "utf8"}
        self.tls_is_chosen = "sslmode" in given or "PGSSLMODE" in os.environ
        driver_errors.know_driver(psycopg.Error, explain)

    @property
    def shown(self) -> str:
        """The URL, with nothing but user, host, port and name."""
        given = self._parameters
        user = f"{given['user']}@" if given.get("user") else ""
        port = f":{given['port']}" if given.get("port") else ""
        return f"postgresql://{user}{given.get('host') or given.get('hostaddr') or ''}{port}/{given['dbname']}"

    def database(self) -> peewee.Database:
        """A new Peewee database."""
        parameters = {name: value for name, value in self._parameters.items() if name != "dbname"}
        return _Database(
            self._parameters["dbname"], pool_size=self._pool_size, prefer_psycopg3=True, autoconnect=True, **parameters
        )

    def connect_writer(self, database: Any) -> Any:
        """Connect the writer thread; again when the connection was lost."""
        if not database.is_closed() and not database.is_alive(database.connection()):
            database.close()
        if database.is_closed():
            connection = database.connect_apart()
            for statement in _WRITER:
                connection.execute(statement)
        return database.connection()

    def begin(self, connection: Any, until: float) -> int:
        """Begin, and wait for the turn: PostgreSQL queues writers of one row."""
        # Both at once: each statement waits for the network.
        done = connection.execute(f"{_BEGIN}; {NEXT_TURN} RETURNING turn", prepare=False)
        row = done.fetchone() if done.nextset() else None
        if row is None:
            raise DatabaseAway(f"The table {TURNS} has no row. Run: cdxsync db migrate")
        return int(row[0])

    def commit(self, connection: Any) -> None:
        """Commit."""
        try:
            done = connection.execute("COMMIT")
        except psycopg.Error as error:
            driver_errors.database_away(error)
            raise DatabaseAway(lost_in_commit(self.shown), code="commit_unknown") from error
        if done.statusmessage != "COMMIT":
            raise DatabaseAway("The database rolled the commit back; nothing was written. Try again")

    def has_transaction(self, connection: Any) -> bool:
        """Whether the connection is still open; an error does not end the transaction."""
        return not connection.closed

    @contextlib.contextmanager
    def snapshot(self, database: Any) -> Iterator[None]:
        """A REPEATABLE READ transaction."""
        with reading_in(database, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"):
            yield

    def damage(self, database: Any, *, quick: bool = False) -> Iterator[str]:
        """Invalid indexes, and rows that refer to missing rows."""
        invalid = database.execute_sql(
            "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
            " WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace"
        )
        for (index,) in invalid.fetchall():
            yield f"the index {index} is not valid. Run: REINDEX INDEX {index}"
        if quick:
            return
        yield from orphans()

    def now(self, database: Any) -> datetime:
        """The server's clock."""
        found: datetime = database.execute_sql("SELECT clock_timestamp()").fetchone()[0]
        return found

    def dangers(self, database: Any) -> Iterator[tuple[str, str]]:
        """`fsync` or `full_page_writes` off. The writer sets `synchronous_commit` itself."""
        for name in ("fsync", "full_page_writes"):
            if database.execute_sql(f"SHOW {name}").fetchone()[0] != "on":
                yield f"{name} is off", f"set {name} = on in postgresql.conf, and reload PostgreSQL"

    def exposure(self, database: Any) -> Exposure | None:
        """By the connection as it is: parameters come from the URL, the environment and files of libpq."""
        found = database.connection().pgconn
        if not leaves_machine(found.hostaddr.decode()):
            return None
        mode = next(option.val for option in found.info if option.keyword == b"sslmode")
        if found.ssl_in_use and mode == b"verify-full":
            return None
        text = IN_CLEAR if not found.ssl_in_use else UNNAMED if mode == b"verify-ca" else UNVERIFIED
        return Exposure(text, _REMEDY, f"sslmode={(mode or b'prefer').decode()}")

    def statement(self, text: str) -> str:
        """A migration's statement; its texts compare byte by byte, whatever the database's own collation is."""
        return re.sub(r"\b(VARCHAR\(\d+\)|TEXT\b)", r'\1 COLLATE "C"', text.format_map(self.schema))

    @contextlib.contextmanager
    def migrating(self, database: Any) -> Iterator[None]:
        """Under an advisory lock, in a session of its own."""
        with contextlib.closing(database.connect_driver()) as connection:
            encoding = connection.info.parameter_status("server_encoding")
            if encoding != "UTF8":
                raise Failed(
                    f"{self.shown} has the encoding {encoding}. Make a database with ENCODING 'UTF8'",
                    code="database_unsuitable",
                )
            connection.execute("SET lock_timeout = '1h'")
            connection.execute("SELECT pg_advisory_lock(%s)", (_MIGRATION_LOCK,))
            yield  # closing ends the lock

    def never_reuse_ids(self, database: Any) -> None:
        """Nothing to do: a sequence never goes back."""

    def after_import(self, database: Any, ids: Iterable[tuple[str, str]]) -> None:
        """Set the sequences of the ids."""
        for table, column in ids:
            database.execute_sql(
                f"SELECT setval(pg_get_serial_sequence(%s, %s), (SELECT MAX({column}) FROM {table}))"  # noqa: S608
                f" WHERE EXISTS (SELECT 1 FROM {table})",
                (table, column),
            )


def _read_url(url: str) -> dict[str, Any]:
    """The connection parameters of a URL. Raises `SettingError` without anything of the URL that may be secret."""
    try:
        parts = urlsplit(url)
        given = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    except ValueError:
        raise SettingError(f"database_url: not a URL; write {_FORM}") from None
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    unknown = [name for name in given if name not in known and name != "ssl"]
    if unknown:
        raise SettingError(f"database_url: PostgreSQL has no connection parameter {unknown[0]!r}")
    try:
        found = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        raise SettingError(
            f"database_url: not a URL that PostgreSQL accepts; write {_FORM}, with %-codes for special characters"
        ) from None
    if not found.get("dbname"):
        raise SettingError(f"database_url: the name of the database is missing; write {_FORM}")
    for port in str(found.get("port") or "").split(","):
        if port and not (port.isdigit() and 0 < int(port) < 65536):
            raise SettingError(f"database_url: the port must be a number from 1 to 65535; write {_FORM}")
    return dict(found)
