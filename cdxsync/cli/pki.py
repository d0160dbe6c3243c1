"""`cdxsync pki`: the certificates of this server and of its admins."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cdxsync.cli import output
from cdxsync.cli.completion import certificate_names, completer
from cdxsync.cli.input import read_password
from cdxsync.cli.state import AsJson, State, Yes, actor, confirm, state_of

if TYPE_CHECKING:
    from cdxsync.security.pki import CertificateInfo

app = typer.Typer(help="Issue, list, revoke and export certificates.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Who it is for, such as alice.")]


def _directory(state: State) -> Path:
    """The folder of the certificates, of an initialised home. Its database is opened too, for the audit log."""
    from cdxsync.ops import homes

    fleet = state.fleet()
    return fleet.settings.home / homes.PKI_NAME


def _record(action: str, info: "CertificateInfo") -> None:
    from cdxsync.store import audit
    from cdxsync.store.database import write

    write(lambda: audit.record(action, actor=actor(), name=info.name, serial=info.serial))


def _as_dict(info: "CertificateInfo") -> dict[str, Any]:
    from cdxsync.views import certificates

    return certificates.shown(info)


@app.command("list")
def list_certificates(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List all certificates."""
    from cdxsync.base import clock
    from cdxsync.security import pki

    state = state_of(ctx)
    certificates = pki.list_certificates(_directory(state))
    if state.json:
        output.json_data({"certificates": [_as_dict(info) for info in certificates]})
        return
    output.table(
        ("Kind", "Name", "Status", "Expires", "Serial"),
        ((info.kind, info.name, info.status, clock.stamp(info.not_after)[:10], info.serial) for info in certificates),
    )


@app.command()
def issue(
    ctx: typer.Context,
    name: NameArgument,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is valid.")] = 825,
    as_json: AsJson = False,
) -> None:
    """Make an admin's client certificate and key."""
    from cdxsync.security import pki

    state = state_of(ctx)
    issued = pki.issue(_directory(state), name, days)
    _record("admin.pki.issue", issued.info)
    if state.json:
        output.json_data(_as_dict(issued.info) | {"certificate": str(issued.certificate), "key": str(issued.key)})
        return
    output.fields([("Certificate", issued.certificate), ("Key", issued.key), ("Serial", issued.info.serial)])
    output.note(state, f"For a browser: cdxsync pki export {name}")


@app.command()
def revoke(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|SERIAL", help="The certificate to end.", autocompletion=completer(certificate_names)
        ),
    ],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """End a client certificate, at once and for good; a running server sees it."""
    from cdxsync.security import pki

    state = state_of(ctx)
    directory = _directory(state)
    confirm(f"Revoke the certificate {name}?", yes)
    info = pki.revoke(directory, name)
    _record("admin.pki.revoke", info)
    if state.json:
        output.json_data(_as_dict(info))
        return
    output.note(state, f"Revoked {info.name} ({info.serial})")


@app.command()
def export(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Who it is for, such as alice.", autocompletion=completer(certificate_names)
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it. Default: NAME.p12.", show_default=False)
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Read the password from this file, - for standard input.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a client certificate with its key as PKCS#12, to import into a browser."""
    from cdxsync.base.files import write_private
    from cdxsync.security import pki

    state = state_of(ctx)
    directory = _directory(state)
    content = pki.export_pkcs12(directory, name, read_password(password_file))
    path = out or Path(f"{name}.p12")
    write_private(path, content)
    info = pki.find(directory, name)
    _record("admin.pki.export", info)
    if state.json:
        output.json_data(_as_dict(info) | {"file": str(path)})
        return
    output.note(state, f"Wrote {path}; import it into the browser with the password")


@app.command()
def renew(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Make a new server certificate now. A running server takes it when it starts again."""
    from cdxsync.security import pki, server_names

    state = state_of(ctx)
    directory = _directory(state)
    settings = state.settings()
    names = server_names.wanted(settings.public_url, settings.listen.host)
    pki.renew_server(directory, names)
    info = pki.describe("server", directory / "server.pem")
    _record("admin.pki.renew", info)
    if state.json:
        output.json_data(_as_dict(info))
        return
    output.note(state, f"Made {directory / 'server.pem'} for {', '.join(names)}. Restart cdxsync serve to use it")
