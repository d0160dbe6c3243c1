"""MySQL and MariaDB, through PyMySQL; for several servers on one database."""

import contextlib
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import peewee

from cdxsync.base.errors import DatabaseAway, Failed, Unavailable
from cdxsync.store import driver_errors
from cdxsync.store.engines.base import BUSY_TIMEOUT_SECONDS, TURNS, Engine, Exposure, lost_in_commit, orphans
from cdxsync.store.engines.pool import Pooled, reading_in

try:
    import pymysql
    from pymysql.constants import SERVER_STATUS

    from cdxsync.store.engines import mysql_url
    from cdxsync.store.engines.mysql_url import Connection
except ImportError:
    raise Unavailable(
        "database_url: MySQL needs its driver. Run: pip install 'cdxsync[mysql]'", code="driver_missing"
    ) from None

_WRITER = (
    # A writer that hangs must not block all others: its connection ends, and its transaction.
    f"SET SESSION wait_timeout = 60, innodb_lock_wait_timeout = {int(BUSY_TIMEOUT_SECONDS)}"
)
_MYSQL, _MARIADB = (8, 0, 17), (10, 5)
_LOCK_SECONDS = 3600
_QUIET_SECONDS = 1.0
_NEXT_TURN = f"UPDATE {TURNS} SET turn = LAST_INSERT_ID(turn + 1) WHERE id = 1"  # noqa: S608 - of a constant
_GONE = "it cannot be reached, or the connection was lost"
_LOCKED = "others have it locked"
_FULL = "its disk is full"
_READ_ONLY = "it is read-only, perhaps a replica"
_CROWDED = "it has too many connections"
_ACCESS = "it refuses the user or the password"
_REASONS = {
    **dict.fromkeys((1053, 1158, 1159, 1160, 1161, 1184, 1927, 2002, 2003, 2005, 2006, 2013, 2055, 3169, 4031), _GONE),
    **dict.fromkeys((1205, 1213, 3572), _LOCKED),
    **dict.fromkeys((3, 1021, 1114), _FULL),
    **dict.fromkeys((1290, 1792, 1836), _READ_ONLY),
    **dict.fromkeys((1040, 1203, 1226), _CROWDED),
    **dict.fromkeys((1044, 1045, 1130, 1698), _ACCESS),
    **dict.fromkeys((1142, 1143, 1227, 1370), "its user lacks a privilege: grant it all on the database"),
    1049: "it has no database of this name",
    2026: "the TLS handshake with it fails",
}
_DONE_ALREADY = {1050, 1060, 1061}
"""Errors: a table, a column, an index exists."""


def explain(error: BaseException) -> str | None:
    """The state of the database that PyMySQL's error tells of; None for a fault of the program."""
    code = error.args[0] if error.args else None
    if isinstance(error, pymysql.err.InterfaceError):
        return _GONE
    return _REASONS.get(code) if isinstance(code, int) else None


class _Database(Pooled, peewee.MySQLDatabase):
    # Searches in texts ignore case, though texts compare byte by byte.
    operations = peewee.MySQLDatabase.operations | {"ILIKE": "COLLATE utf8mb4_general_ci LIKE"}
    given: mysql_url.Parameters
    on_mariadb = False

    def connect_driver(self) -> Any:
        connection = self.given.connect()
        connection.is_there = self.liveness.is_there
        self.on_mariadb = "mariadb" in connection.get_server_info().lower()
        return connection

    def takes_connections(self) -> bool:
        return self.given.takes_connections()

    def is_alive(self, connection: Any) -> bool:
        try:
            connection.ping(reconnect=False)
        except pymysql.Error:
            return False
        return True

    def is_clean(self, connection: Any) -> bool:
        try:
            if connection.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS:
                connection.rollback()
        except pymysql.Error:
            return False
        return bool(connection.open)


class MysqlEngine(Engine):
    """A database of a MySQL (8.0.17 or later) or MariaDB (10.5 or later) server, with InnoDB tables.

    Its texts compare byte by byte, as those of the other engines do.
    """

    name = "mysql"
    step = 1
    transactional_ddl = False
    schema = {  # noqa: RUF012 - never changed
        "id": "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY",
        "integer": "BIGINT",
        "bigint": "BIGINT",
        "bool": "BOOLEAN",
        "true": "TRUE",
        "false": "FALSE",
        "longtext": "LONGTEXT",
    }
    setup = (
        f"CREATE TABLE IF NOT EXISTS {TURNS} (id INTEGER NOT NULL PRIMARY KEY, turn BIGINT NOT NULL)",
        f"INSERT IGNORE INTO {TURNS} (id, turn) VALUES (1, 0)",  # noqa: S608 - of a constant
    )

    def __init__(self, url: str, pool_size: int) -> None:
        self._pool_size = pool_size
        self._parameters = mysql_url.read(url)
        self.tls_is_chosen = self._parameters.tls_is_chosen
        self._opened: _Database | None = None
        driver_errors.know_driver(pymysql.Error, explain)

    @property
    def shown(self) -> str:
        """The URL, with nothing but user, host, port and name."""
        return self._parameters.shown

    def database(self) -> peewee.Database:
        """A new Peewee database."""
        self._opened = _Database(self._parameters.database, pool_size=self._pool_size)
        self._opened.given = self._parameters
        return self._opened

    def connect_writer(self, database: Any) -> Any:
        """Connect the writer thread; again when the connection was lost."""
        if not database.is_closed():
            connection: Connection = database.connection()
            # Asking each time would cost a round trip per batch.
            is_quiet = time.monotonic() - connection.used_at > _QUIET_SECONDS
            if not (database.is_alive(connection) if is_quiet else connection.is_silent()):
                database.close()
        if database.is_closed():
            database.connect_apart().execute(_WRITER)
        return database.connection()

    def begin(self, connection: Any, until: float) -> int:
        """Begin, and wait for the turn: InnoDB queues writers of one row."""
        connection.execute("START TRANSACTION READ WRITE")
        done = connection.execute(_NEXT_TURN)
        if not done.rowcount:
            raise DatabaseAway(f"The table {TURNS} has no row. Run: cdxsync db migrate")
        return int(done.lastrowid)

    def commit(self, connection: Any) -> None:
        """Commit."""
        try:
            connection.execute("COMMIT")
        except pymysql.Error as error:
            driver_errors.database_away(error)
            raise DatabaseAway(lost_in_commit(self.shown), code="commit_unknown") from error

    def has_transaction(self, connection: Any) -> bool:
        """Whether the connection is still there. One that MySQL rolled back on its own has no savepoint, which then is
        an error.
        """
        return bool(connection.open)

    @contextlib.contextmanager
    def snapshot(self, database: Any) -> Iterator[None]:
        """A REPEATABLE READ transaction whose state is that of its beginning."""
        level = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
        with reading_in(database, level, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"):
            yield

    def damage(self, database: Any, *, quick: bool = False) -> Iterator[str]:
        """What CHECK TABLE finds, and rows that refer to missing rows."""
        if quick:
            return
        with contextlib.closing(database.connect_driver()) as connection:  # it would end this connection's transaction
            connection.execute("SET SESSION lock_wait_timeout = 10")
            for table in database.get_tables():
                for _, _, kind, text in connection.execute(f"CHECK TABLE `{table}`").fetchall():
                    if str(kind).lower() in ("error", "warning") or (kind == "status" and text != "OK"):
                        yield f"{table}: {text}"
        yield from orphans()

    def now(self, database: Any) -> datetime:
        """The server's clock."""
        return datetime.fromtimestamp(float(database.execute_sql("SELECT UNIX_TIMESTAMP(NOW(6))").fetchone()[0]), UTC)

    def dangers(self, database: Any) -> Iterator[tuple[str, str]]:
        """`innodb_flush_log_at_trx_commit` other than 1, or `innodb_doublewrite` off."""
        flush = database.execute_sql("SELECT @@innodb_flush_log_at_trx_commit, @@innodb_doublewrite").fetchone()
        if str(flush[0]) != "1":
            how = "set innodb_flush_log_at_trx_commit = 1 in my.cnf, and restart the database server"
            yield f"innodb_flush_log_at_trx_commit is {flush[0]}", how
        if str(flush[1]) in ("0", "OFF"):
            yield "innodb_doublewrite is off", "set innodb_doublewrite = ON in my.cnf, and restart the database server"

    def exposure(self, database: Any) -> Exposure | None:
        """By the connection and the URL."""
        return self._parameters.exposure(database.connection())

    def statement(self, text: str) -> str:
        """A migration's statement. MySQL ignores references of a column; it takes those of the table."""
        text = re.sub(r"\bTEXT\b", "LONGTEXT", text.format_map(self.schema))
        if not text.lstrip().upper().startswith("CREATE TABLE"):
            return text
        found = re.findall(r"(\w+) [^,\n]*?( REFERENCES \w+ \(\w+\) ON DELETE (?:SET NULL|CASCADE))", text)
        keys = ""
        for column, reference in found:
            text = text.replace(reference, "", 1)
            keys += f", FOREIGN KEY ({column}){reference}"
        on_mariadb = self._opened is not None and self._opened.on_mariadb
        # Without padding: texts that differ in trailing blanks are different.
        collation = "utf8mb4_nopad_bin" if on_mariadb else "utf8mb4_0900_bin"
        options = f") ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = {collation}"
        return text.rstrip().removesuffix(")") + keys + options

    @contextlib.contextmanager
    def migrating(self, database: Any) -> Iterator[None]:
        """Under a named lock, in a session of its own."""
        name = f"cdxsync migrations of {database.database}"[:64]
        with contextlib.closing(database.connect_driver()) as connection:
            if database.server_version < (_MARIADB if database.on_mariadb else _MYSQL):
                raise Failed(
                    f"{self.shown} is too old. Upgrade it to MySQL 8.0.17, MariaDB 10.5 or later",
                    code="database_unsuitable",
                )
            if connection.execute("SELECT GET_LOCK(%s, %s)", (name, _LOCK_SECONDS)).fetchone()[0] != 1:
                raise DatabaseAway(
                    "Another server has been migrating the database for an hour. See its log, then try again",
                    code="database_busy",
                )
            yield  # closing ends the lock

    def was_done(self, error: BaseException) -> bool:
        """Whether a change of the schema failed as it had been done already."""
        cause = error.__context__
        return isinstance(cause, pymysql.Error) and cause.args[0] in _DONE_ALREADY

    def never_reuse_ids(self, database: Any) -> None:
        """Nothing to do: InnoDB keeps its counter, also when the server restarts (MySQL 8.0, MariaDB 10.2.4)."""

    def after_import(self, database: Any, ids: Iterable[tuple[str, str]]) -> None:
        """Nothing to do: a new id is always above the highest one."""
