"""Printing results: JSON, tables on a terminal, tab-separated lines into a pipe; notes on stderr."""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cdxsync.cli.state import State


def json_data(data: Any) -> None:
    """Print `data` as indented JSON on stdout."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows on stdout: a table for a terminal, else lines with tabs and without a heading."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        sys.stdout.writelines("\t".join(row) + "\n" for row in cells)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    view = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        view.add_column(name, overflow="fold")
    for row in cells:
        view.add_row(*(Text(cell) for cell in row))
    Console().print(view)


def moment(text: str) -> str:
    """A moment in UTC to the minute for a terminal, in full for a pipe."""
    utc = text.endswith(("Z", "+00:00"))
    return text[:16].replace("T", " ") if utc and sys.stdout.isatty() else text


def fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Print named values, one a line."""
    shown = [(name, "-" if value is None or value == "" else str(value)) for name, value in pairs]
    if not sys.stdout.isatty():
        sys.stdout.writelines(f"{name}\t{value}\n" for name, value in shown)
        return
    width = max(len(name) for name, _ in shown)
    sys.stdout.writelines(f"{name:<{width}}  {value}\n" for name, value in shown)


def line(text: str) -> None:
    """Print a line of result on stdout."""
    sys.stdout.write(text + "\n")


def note(state: "State", text: str) -> None:
    """Tell a person something beside the result, on stderr, unless `--quiet`."""
    if not state.quiet:
        sys.stderr.write(text + "\n")
