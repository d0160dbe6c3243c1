"""What several commands take: options, arguments, files and passwords."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cdxsync.cli.command import UsageError, state_of
from cdxsync.cli.completion import completer, host_names


def _take_json(ctx: typer.Context, given: bool) -> None:
    if given:
        state_of(ctx).json = True


_HOST = completer(host_names)
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print JSON: what the admin API returns in `data`.", callback=_take_json),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
HostOption = Annotated[
    str | None,
    typer.Option(
        "--host", metavar="HOST", help="Only this host, by id or name.", show_default=False, autocompletion=_HOST
    ),
]
HostArgument = Annotated[
    str,
    typer.Argument(metavar="HOST", help="A host's id or name.", show_default=False, autocompletion=_HOST),
]
Before = Annotated[
    int | None,
    typer.Option(min=1, metavar="ID", help="Only rows older than the one with this id.", show_default=False),
]
Wait = Annotated[
    int, typer.Option(metavar="SECONDS", min=0, max=3600, help="How long to wait for a run that is already under way.")
]


def read_switch(name: str, value: str) -> bool:
    """The argument `name`: on or off. Raises `UsageError`."""
    from cdxsync.base import settings

    try:
        return settings.read_bool(value)
    except ValueError:
        raise UsageError(f"Give {name} as on or off, not {value!r}.") from None


def is_stdin(file: Path | None) -> bool:
    """Whether `file` is "-": standard input, or standard output where a file is written."""
    return str(file) == "-"


def read_bytes(file: Path) -> bytes:
    """The content of `file`, or of standard input for `-`. Raises `Failed`."""
    from cdxsync.base.errors import Failed

    try:
        return sys.stdin.buffer.read() if is_stdin(file) else file.read_bytes()
    except OSError as error:
        raise Failed(f"Cannot read {file}: {error.strerror}", code="file_unusable") from None


def read_password(file: Path | None) -> bytes:
    """A new password: the first line of `file`, or asked for twice on the terminal. Raises `Refused`."""
    from cdxsync.base.errors import Refused

    if file is None:
        if not sys.stdin.isatty():
            raise Refused(
                "No terminal to ask for a password on; add --password-file FILE (- for standard input)",
                code="password_required",
            )
        text: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        try:
            text = read_bytes(file).decode().partition("\n")[0]
        except UnicodeDecodeError:
            raise Refused(f"{file}: the password is not UTF-8 text", code="password_unusable") from None
    password = text.rstrip("\r\n")
    if not password:
        raise Refused(
            "The password is empty" if file is None else f"{file}: the first line holds no password",
            code="password_unusable",
        )
    return password.encode()
