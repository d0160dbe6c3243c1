"""Reading what a command is given: files, with - for standard input, and passwords."""

import sys
from pathlib import Path

import typer


def read_bytes(file: Path) -> bytes:
    """The content of `file`, or of standard input for `-`. Raises `Failed`."""
    from cdxsync.base.errors import Failed

    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise Failed(f"{file}: cannot be read: {error.strerror}", code="file_unusable") from None


def read_password(file: Path | None) -> bytes:
    """A new password: the first line of `file`, or asked for twice on the terminal. Raises `Refused`."""
    from cdxsync.base.errors import Refused

    if file is None:
        if not sys.stdin.isatty():
            raise Refused(
                "A password is needed: add --password-file FILE (or - for standard input)", code="password_required"
            )
        text: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        try:
            text = read_bytes(file).decode().partition("\n")[0]
        except UnicodeDecodeError:
            raise Refused(f"{file}: is not UTF-8 text; a password must be", code="password_unusable") from None
    password = text.rstrip("\r\n")
    if not password:
        raise Refused(
            "The password is empty" if file is None else f"{file}: has no password in its first line",
            code="password_unusable",
        )
    return password.encode()
