"""`cdxsync overview` and `cdxsync top`: the fleet at a glance, once or as a live view on the terminal."""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.command import state_of
from cdxsync.cli.options import AsJson
from cdxsync.cli.usage import cost_words

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cdxsync.codex.schemas import QuotaSnapshot
    from cdxsync.store.fleet import Fleet
    from cdxsync.views.schemas import FleetNow, Overview

LOG_ROWS = 50
_QUIT = b"qQ\x1b\x03\x04"
_ENDING = (signal.SIGTERM, signal.SIGINT)


def overview(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show the fleet at a glance: hosts by state, the canonical document, versions and tokens."""
    from cdxsync.views import overview

    def show(data: "Overview") -> None:
        output.fields(_lines(data))
        for warning in data.warnings:
            output.line(f"Warning: {warning.message}")

    state_of(ctx).run(lambda fleet: overview.build(fleet, None), show)


def _lines(data: "Overview") -> list[tuple[str, object]]:
    import msgspec

    totals, document, versions = data.totals, data.canonical, data.versions
    counts = msgspec.structs.asdict(totals)
    states = ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in counts if name != "hosts")
    age, top = data.avg_refresh_age_days, data.tokens.top_host
    return [
        ("Hosts", f"{totals.hosts} ({states})"),
        ("Canonical", f"{document.last_refresh} from {document.source}" if document else "none yet"),
        ("Mean age", None if age is None else f"{age} days"),
        ("Codex", versions.client_version or versions.reported_client_version),
        ("Wrapper", versions.wrapper_version),
        ("Tokens, this month", f"{data.tokens_month.total:,}"),
        ("Cost, this month", cost_words(data)),
        ("Tokens, all time", f"{data.tokens.total:,}"),
        ("Most tokens", f"{top.fqdn} ({top.total:,})" if top else None),
        ("5-hour quota", _quota(data.chatgpt_usage, "primary")),
        ("Weekly quota", _quota(data.chatgpt_usage, "secondary")),
        ("API", "marked as disabled" if data.api_disabled else "enabled"),
        ("Last log entry", data.latest_log_at),
    ]


def _quota(snapshot: "QuotaSnapshot | None", window: str) -> str | None:
    percent = None if snapshot is None else getattr(snapshot, f"{window}_used_percent")
    return None if snapshot is None or percent is None else f"{percent} % used, read at {snapshot.fetched_at}"


def top(
    ctx: typer.Context,
    interval: Annotated[
        float,
        typer.Option("--interval", "-n", metavar="SECONDS", min=0.2, max=3600, help="Time between two refreshes."),
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print it once, as without a terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """Watch the fleet: hosts by state, quotas, tokens, jobs and the newest log entries. q or Ctrl-C ends it."""
    state = state_of(ctx)
    if state.json or once or not (sys.stdin.isatty() and sys.stdout.isatty()):
        state.run(_read, _print)
    else:
        with state.opened() as fleet:
            _watch(fleet, interval)


def _read(fleet: "Fleet") -> "FleetNow":
    """`overview` as that command prints it, `tokens_today`, and `logs`, newest first."""
    from cdxsync.base import clock
    from cdxsync.store import audit
    from cdxsync.store.driver_errors import translated
    from cdxsync.usage import reports
    from cdxsync.views import overview
    from cdxsync.views.schemas import FleetNow

    with translated():
        return FleetNow(
            overview=overview.build(fleet, None),
            tokens_today=reports.fleet_day_totals(clock.now()),
            logs=audit.recent(LOG_ROWS).logs,
        )


def _print(data: "FleetNow") -> None:
    import msgspec
    from rich.console import Console

    from cdxsync.cli import top_view

    console = Console(soft_wrap=not sys.stdout.isatty())
    shown = msgspec.structs.replace(data, logs=data.logs[:10])
    for line in top_view.lines(shown):
        console.print(line, no_wrap=True, overflow="ellipsis" if sys.stdout.isatty() else "ignore")


def _watch(fleet: "Fleet", interval: float) -> None:
    """Show it until the user ends it; while it is suspended (Ctrl-Z) the terminal is as it was before."""
    import logging

    logging.getLogger("cdxsync").addHandler(logging.NullHandler())  # errors are shown on the screen
    data = _read(fleet)
    with _signals() as wake:
        while shown := _follow(fleet, interval, data, wake):
            signal.raise_signal(signal.SIGSTOP)
            data = shown


def _follow(fleet: "Fleet", interval: float, data: "FleetNow", wake: int) -> "FleetNow | None":
    """Show it until it is suspended, and return the data read last; None when it ends.

    When reading fails, the error is shown above the data read last.
    """
    from rich.console import Console
    from rich.live import Live

    from cdxsync.base.errors import CdxsyncError

    console = Console()
    problem = ""
    with _single_keys(), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_screen(data, problem, console.height, interval), refresh=True)
            event = _wait(wake, interval)
            if event in ("quit", "stop"):
                return data if event == "stop" else None
            if event == "resized":
                continue
            try:
                data, problem = _read(fleet), ""
            except CdxsyncError as error:
                problem = error.message


def _screen(data: "FleetNow", problem: str, height: int, interval: float) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    from cdxsync.base import clock
    from cdxsync.cli import top_view

    title = Text(f"cdxsync top   {clock.stamp(clock.now())[:19].replace('T', ' ')} UTC", "reverse")
    title.append(f"   every {interval:g} s, q quits")
    if problem:
        title = Text(problem, "bold red")
    shown = [title, *top_view.lines(data, height - 1)]
    for line in shown:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*shown)


@contextmanager
def _signals() -> Iterator[int]:
    """Deliver signals as bytes to the yielded pipe: a resized window, and requests to end or to suspend."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    handlers = {number: signal.signal(number, _noted) for number in (signal.SIGWINCH, signal.SIGTSTP, *_ENDING)}
    old_wakeup = signal.set_wakeup_fd(writer)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(old_wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


@contextmanager
def _single_keys() -> Iterator[None]:
    """Read single keys without Enter; restores the terminal at the end."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


def _noted(number: int, frame: object) -> None:
    """Nothing to do: the wake-up descriptor has the signal's number."""


def _wait(wake: int, seconds: float) -> str:
    """Wait for a key, a signal, or the time: `quit`, `stop`, `resized`, or `look` when it is time to read again."""
    ready, _, _ = select.select([sys.stdin, wake], [], [], seconds)
    if wake in ready:
        signals = set(os.read(wake, 64))
        return "quit" if signals & set(_ENDING) else "stop" if signal.SIGTSTP in signals else "resized"
    if not ready:
        return "look"
    keys = os.read(sys.stdin.fileno(), 64)
    # An escape sequence, such as that of an arrow key, does not quit. A closed terminal reads as empty.
    if not keys or keys == b"\x1b" or (keys[:1] != b"\x1b" and set(keys) & set(_QUIT)):
        return "quit"
    return "look"
