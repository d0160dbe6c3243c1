"""MACs for rows that a test has written into a database by SQL, as if the server had written them."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdxsync.base import settings
from cdxsync.ops import homes
from cdxsync.store import rights
from cdxsync.store.database import write

_WRITES = re.compile(
    rf"\b(?:UPDATE|INTO)\s+(?:{'|'.join(table._meta.table_name for table in rights.tables())})\b", re.IGNORECASE
)


def concerns(statement: str) -> bool:
    """Whether a statement writes rows that have MACs."""
    return _WRITES.search(statement) is not None


def renew(home: Path, env: Mapping[str, str]) -> int:
    """Give the altered rows of a home MACs as they are; returns their number."""
    database = homes.open_database(settings.load(home, environ=env))
    with contextlib.closing(database), database.scope():
        rows: list[tuple[Any, Any]] = [(row.table, row.id) for row in rights.altered()]

        def work() -> None:
            for table, row_id in rows:
                rights.put_mac(table, row_id)

        if rows:
            write(work)
    return len(rows)
