"""The rows of the reference implementation's live database, in one state."""

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

from cdxsync.base.errors import Failed, Unavailable
from cdxsync.ops.import_reference.dump import Row, Value

try:
    import pymysql
    from pymysql.constants import FIELD_TYPE
    from pymysql.cursors import SSCursor

    from cdxsync.store.engines import mysql_url
except ImportError:
    raise Unavailable(
        "Reading a MySQL server needs its driver. Run: pip install 'cdxsync[mysql]'", code="driver_missing"
    ) from None

_AS_IN_A_DUMP = (
    "SET SESSION time_zone = '+00:00'",  # as mysqldump does
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
)
_WHOLE = (FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.INT24, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG, FIELD_TYPE.YEAR)


class Live:
    """Reads a database once: the `wanted` tables, row by row. Never writes."""

    def __init__(self, url: str, wanted: Collection[str]) -> None:
        """Raises `SettingError` unless it is the URL of a MySQL database."""
        self._parameters = mysql_url.read(url, "the URL")
        self._wanted = wanted
        self.skipped_tables: set[str] = set()
        self.warnings: list[str] = []

    @property
    def name(self) -> str:
        """The URL without password."""
        return self._parameters.shown

    def rows(self) -> Iterator[Row]:
        """The rows of the wanted tables; `line` counts those of a table. Raises `Failed`."""
        place = "it"
        try:
            with contextlib.closing(self._parameters.connect(conv=dict.fromkeys(_WHOLE, int))) as connection:
                exposure = self._parameters.exposure(connection)
                if exposure is not None:
                    self.warnings.append(
                        f"{exposure.text}; next time, {exposure.remedy}".replace("database_url", "the URL")
                    )
                for statement in _AS_IN_A_DUMP:
                    connection.execute(statement)
                tables = [str(row[0]) for row in connection.execute("SHOW TABLES").fetchall()]
                self.skipped_tables = {table for table in tables if table.lower() not in self._wanted}
                for place in [table for table in tables if table.lower() in self._wanted]:
                    with connection.cursor(SSCursor) as cursor:
                        quoted = place.replace("`", "``")
                        cursor.execute(f"SELECT * FROM `{quoted}`")  # noqa: S608 - a name that the server gave
                        columns = [column[0].lower() for column in cursor.description]
                        for number, row in enumerate(cursor, 1):
                            values = {name: _value(value) for name, value in zip(columns, row, strict=True)}
                            yield Row(place.lower(), values, number)
        except pymysql.Error as error:
            code = f" ({error.args[0]})" if error.args else ""
            raise Failed(f"{self.name}: {place} cannot be read{code}: {_text(error)}", code="import_failed") from None
        except UnicodeDecodeError:
            raise Failed(f"{self.name}: {place} has a text that is not UTF-8", code="import_failed") from None


def _value(value: Any) -> Value:
    return value.decode() if isinstance(value, bytes) else value


def _text(error: BaseException) -> str:
    return str(error.args[1]) if len(error.args) > 1 else type(error).__name__
