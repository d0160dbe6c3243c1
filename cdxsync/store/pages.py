"""Long lists, page by page: the newest rows first, and a cursor for those before them."""

from collections.abc import Callable
from typing import Any

DEFAULT_LIMIT = 50


def newest_first(
    query: Any, key: Any, name: str, show: Callable[[Any], dict[str, Any]], *, limit: int, before: int | None
) -> dict[str, Any]:
    """One page of `query`: `{name: rows, "next_before": cursor}`.

    `key` is the table's ascending id. `before` is the cursor of an earlier page; `next_before` is the one for the
    next page, None when there is nothing more.
    """
    if before is not None:
        query = query.where(key < before)
    rows = list(query.order_by(key.desc()).limit(limit + 1))
    more = len(rows) > limit
    return {name: [show(row) for row in rows[:limit]], "next_before": rows[limit - 1].id if more else None}
