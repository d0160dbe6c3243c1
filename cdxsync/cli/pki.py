"""`cdxsync pki`: the certificates of this server and of its admins."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.command import actor, confirm, state_of
from cdxsync.cli.completion import certificate_names, completer
from cdxsync.cli.options import AsJson, Yes, is_stdin, read_password

if TYPE_CHECKING:
    from cdxsync.security.pki import CertificateInfo, IssuedCertificate
    from cdxsync.store.fleet import Fleet
    from cdxsync.views.schemas import Certificate, CertificateFiles, CertificateList

app = typer.Typer(help="Issue, list, revoke and export certificates.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Who it is for, such as alice.")]


def _directory(fleet: "Fleet") -> Path:
    from cdxsync.ops import homes

    return fleet.settings.home / homes.PKI_NAME


def _record(action: str, info: "CertificateInfo") -> None:
    from cdxsync.store import audit
    from cdxsync.store.database import write

    write(lambda: audit.record(action, actor=actor(), name=info.name, serial=info.serial))


def _data(info: "CertificateInfo") -> "Certificate":
    from cdxsync.views.schemas import Certificate

    return Certificate.of(info)


@app.command("list")
def list_certificates(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List all certificates."""
    from cdxsync.views import certificates

    def show(data: "CertificateList") -> None:
        output.table(
            ("Kind", "Name", "Status", "Expires", "Serial"),
            ((row.kind, row.name, row.status, row.not_after[:10], row.serial) for row in data.certificates),
        )

    state_of(ctx).run(lambda fleet: certificates.list_all(_directory(fleet)), show)


@app.command()
def issue(
    ctx: typer.Context,
    name: NameArgument,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is valid.")] = 825,
    as_json: AsJson = False,
) -> None:
    """Make an admin's client certificate and key."""
    import msgspec

    from cdxsync.security import pki
    from cdxsync.views.schemas import CertificateFiles

    state = state_of(ctx)

    def call(fleet: "Fleet") -> "IssuedCertificate":
        issued = pki.issue(_directory(fleet), name, days)
        _record("admin.pki.issue", issued.info)
        return issued

    def show(issued: "IssuedCertificate") -> None:
        output.fields([("Certificate", issued.certificate), ("Key", issued.key), ("Serial", issued.info.serial)])
        state.note(f"For a browser: cdxsync pki export {name}")

    def data(issued: "IssuedCertificate") -> "CertificateFiles":
        shown = msgspec.structs.asdict(_data(issued.info))
        return CertificateFiles(**shown, certificate=str(issued.certificate), key=str(issued.key))

    state.run(call, show, data=data)


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
    """End a client certificate, at once and for good; a running server refuses it from then on."""
    from cdxsync.security import pki

    state = state_of(ctx)

    def call(fleet: "Fleet") -> "CertificateInfo":
        confirm(f"Revoke the certificate {name}?", yes)
        info = pki.revoke(_directory(fleet), name)
        _record("admin.pki.revoke", info)
        return info

    state.run(call, lambda info: state.note(f"Revoked {info.name} ({info.serial})"), data=_data)


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
        Path | None,
        typer.Option(
            metavar="FILE", help="Where to write it, - for standard output. Default: NAME.p12.", show_default=False
        ),
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
    import msgspec

    from cdxsync.base.files import write_private
    from cdxsync.security import pki
    from cdxsync.views.schemas import CertificateExport

    state = state_of(ctx)
    path = out or Path(f"{name}.p12")

    def call(fleet: "Fleet") -> "CertificateInfo":
        directory = _directory(fleet)
        packed = pki.export_pkcs12(directory, name, read_password(password_file))
        if is_stdin(path):
            state.json = False  # standard output holds the certificate, and nothing else
            sys.stdout.buffer.write(packed)
            sys.stdout.buffer.flush()
        else:
            write_private(path, packed)
        info = pki.find(directory, name)
        _record("admin.pki.export", info)
        return info

    state.run(
        call,
        lambda _: state.note(
            f"Wrote {'standard output' if is_stdin(path) else path}; import it into the browser with the password"
        ),
        data=lambda info: CertificateExport(**msgspec.structs.asdict(_data(info)), file=str(path)),
    )


@app.command()
def renew(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Make a new server certificate now. A running server uses it after a reload (SIGHUP) or a restart."""
    from cdxsync.security import pki, server_names

    state = state_of(ctx)

    def call(fleet: "Fleet") -> tuple["CertificateInfo", Path, list[str]]:
        directory, settings = _directory(fleet), fleet.settings
        names = server_names.wanted(settings.public_url, settings.listen.host)
        pki.renew_server(directory, names)
        info = pki.describe("server", directory / "server.pem")
        _record("admin.pki.renew", info)
        return info, directory / "server.pem", names

    def show(made: tuple["CertificateInfo", Path, list[str]]) -> None:
        _, path, names = made
        state.note(
            f"Made {path} for {', '.join(names)}. A running server uses it after a reload:"
            " systemctl reload cdxsync, or kill -HUP PID"
        )

    state.run(call, show, data=lambda made: _data(made[0]))
