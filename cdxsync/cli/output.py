"""Printing results: JSON, tables on a terminal, tab-separated lines into a pipe; progress on stderr.

On a terminal no text steers it, whoever has written it; into a pipe or a file texts go as they are.
"""

import contextlib
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from cdxsync.base import texts

_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|\+00:00)")


def for_stream(text: str, stream: TextIO) -> str:
    """`text` as it may be written to a stream: escaped where that is a terminal."""
    return texts.shown(text) if stream.isatty() else text


def whole(text: str) -> None:
    """Print a text of any length on stdout, without adding a line end."""
    sys.stdout.write(for_stream(text, sys.stdout))


def json_data(data: Any) -> None:
    """Print `data` as indented JSON on stdout."""
    import msgspec

    line(msgspec.json.format(msgspec.json.encode(data), indent=2).decode())


def json_line(data: Any) -> None:
    """Print `data` as JSON on one line of stdout, at once: for lists that grow while they are read."""
    import msgspec

    line(msgspec.json.encode(data).decode())
    sys.stdout.flush()


def json_error(code: str, message: str, wrong: Mapping[str, Sequence[str]] | None = None) -> None:
    """Print an error as JSON on one line of stderr; `wrong` has the texts of each wrong field."""
    import msgspec

    error = {"status": "error", "code": code, "message": message} | ({"errors": wrong} if wrong else {})
    sys.stderr.write(for_stream(msgspec.json.encode(error).decode(), sys.stderr) + "\n")


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Collection[str] = (),
    folding: Collection[str] | None = None,
) -> None:
    """Print rows on stdout: a table for a terminal, else lines with tabs and without a heading.

    On a terminal whole numbers in the columns `numbers` have separators and are aligned right; the columns `folding`
    (default: all others) share the width and wrap where needed; moments in UTC are shown to the minute.
    """
    if not sys.stdout.isatty():
        lines = (["" if cell is None else str(cell) for cell in row] for row in rows)
        sys.stdout.writelines("\t".join(cells) + "\n" for cells in lines)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    view = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in columns:
        folds = name not in numbers if folding is None else name in folding
        view.add_column(
            name,
            justify="right" if name in numbers else "left",
            no_wrap=not folds,
            overflow="fold" if folds else "ellipsis",
        )
    for row in rows:
        cells = zip(columns, row, strict=True)
        view.add_row(*(Text(_count(cell) if name in numbers else _short(cell)) for name, cell in cells))
    Console().print(view)


def _count(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else _short(cell)


def _short(cell: object) -> str:
    """A cell's text; of a moment in UTC, date, hour and minute."""
    text = "" if cell is None else str(cell)
    return text[:16].replace("T", " ") if _MOMENT.fullmatch(text) else texts.shown(text)


def fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Print named values, one a line."""
    shown = [(name, "-" if value is None or value == "" else str(value)) for name, value in pairs]
    if not sys.stdout.isatty():
        sys.stdout.writelines(f"{name}\t{value}\n" for name, value in shown)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    view = Table.grid(padding=(0, 2))
    view.add_column(no_wrap=True)
    view.add_column(overflow="fold")
    for name, value in shown:
        view.add_row(Text(name), Text(texts.shown(value)))
    Console().print(view)


def line(text: str) -> None:
    """Print a line of result on stdout."""
    whole(text + "\n")


@contextlib.contextmanager
def progress(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr where that is a terminal; yields a function that is told how much is done, and of how much."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Results go to stdout as they are, in the middle of it all.
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
