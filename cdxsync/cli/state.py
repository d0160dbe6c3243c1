"""What every command shares: the global options, the settings and fleet that they lead to, and who runs it."""

import contextlib
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli.completion import completer, host_names

if TYPE_CHECKING:
    from cdxsync.base.settings import Settings
    from cdxsync.store.fleet import Fleet


until_end = contextlib.ExitStack()
"""What the command has opened; `main.run` closes it."""


@dataclass
class State:
    """The options given before, or after, a command."""

    home: Path | None = None
    config: Path | None = None
    json: bool = False
    quiet: bool = False

    def settings(self, flags: Mapping[str, object] | None = None) -> "Settings":
        """The settings, with `flags` from the command line. Raises `SettingError`."""
        from cdxsync.base import settings

        return settings.load(self.home_directory(), config=self.config, flags=flags)

    def home_directory(self) -> Path:
        """The home, whether there is one yet or not. Raises `SettingError` for another user's."""
        from cdxsync.base import settings

        home = (self.home or settings.default_home()).expanduser().absolute()
        settings.check_readable(home)
        return home

    def fleet(self) -> "Fleet":
        """The opened fleet, in the scope of whose database the command goes on, to its end.

        Raises `Failed` when the home is not initialised.
        """
        from cdxsync.ops import homes

        fleet = homes.open_fleet(self.settings())
        until_end.callback(fleet.database.close)
        until_end.enter_context(fleet.database.scope())
        return fleet


def state_of(ctx: typer.Context) -> State:
    """The state of this run."""
    return ctx.ensure_object(State)


def actor() -> str:
    """Who runs the command, for the audit log: the operating-system user, and who became it by sudo."""
    user = pwd.getpwuid(os.getuid()).pw_name
    became = os.environ.get("SUDO_USER", "")
    return f"os-user:{user} (sudo {became})" if became and became != user else f"os-user:{user}"


def _take_json(ctx: typer.Context, given: bool) -> None:
    if given:
        state_of(ctx).json = True


AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print JSON: what the admin API returns in `data`.", callback=_take_json),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_HOST = completer(host_names)
HostOption = Annotated[
    str | None,
    typer.Option(
        "--host", metavar="HOST", help="Only of this host, by id or name.", show_default=False, autocompletion=_HOST
    ),
]
Before = Annotated[
    int | None,
    typer.Option(min=1, metavar="ID", help="Only rows older than the one with this id.", show_default=False),
]
HostArgument = Annotated[
    str,
    typer.Argument(metavar="HOST", help="A host's id or name.", show_default=False, autocompletion=_HOST),
]


def confirm(question: str, yes: bool) -> None:
    """Ask on the terminal, unless `yes`. Without a terminal to ask on, or on a no, the command is refused."""
    import sys

    from cdxsync.base.errors import Refused

    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused(f"{question} Nobody can be asked here: add --yes", code="not_confirmed")
    if not typer.confirm(question, err=True):
        raise Refused("Nothing was changed", code="not_confirmed")
