"""`cdxsync init`, `cdxsync serve` and `cdxsync state`: making a home, serving it, and the flag of its API."""

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.command import State, actor, state_of
from cdxsync.cli.options import AsJson

if TYPE_CHECKING:
    from cdxsync.base.settings import Settings
    from cdxsync.hosts.schemas import ApiState
    from cdxsync.ops.homes import Initialised
    from cdxsync.store.fleet import Fleet

PublicUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Base URL under which hosts reach the server.", show_default=False),
]
ListenOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Where to listen. Default: 0.0.0.0:8443.", show_default=False),
]
PlainHttp = Annotated[
    bool, typer.Option("--plain-http", help="Serve without TLS, behind a proxy that terminates it; on loopback.")
]
state_app = typer.Typer(
    help="Show and set the flag that marks the API as disabled. It is only kept and shown; hosts are still served.",
    no_args_is_help=True,
)


def _flags(public_url: str | None, listen: str | None, plain_http: bool) -> dict[str, object]:
    return {"public_url": public_url, "listen": listen, "plain_http": plain_http or None}


def init(
    ctx: typer.Context,
    public_url: PublicUrl = None,
    listen: ListenOption = None,
    plain_http: PlainHttp = False,
    as_json: AsJson = False,
) -> None:
    """Make the home: settings, certificates, keyring and database."""
    from cdxsync.ops import homes

    state = state_of(ctx)

    def show(made: "Initialised") -> None:
        output.line(_describe(made))
        output.line("Next: cdxsync serve")

    def data(made: "Initialised") -> dict[str, str]:
        return {
            "home": str(made.settings.home),
            "public_url": made.settings.public_url,
            "ca": str(made.ca),
            "admin_certificate": str(made.admin_certificate),
            "admin_key": str(made.admin_key),
        }

    state.answer(homes.initialise(state.settings(_flags(public_url, listen, plain_http))), show, data=data)


def _describe(made: "Initialised") -> str:
    settings = made.settings
    lines = [f"Initialised {settings.home}", *(f"  made {path}" for path in made.made)]
    lines += [
        f"Hosts will call {settings.public_url}   (public_url in config.toml)",
        f"Admin certificate: {made.admin_certificate}  key: {made.admin_key}  CA: {made.ca}",
        "  for a browser: cdxsync pki export admin",
    ]
    return "\n".join(lines)


def serve(
    ctx: typer.Context,
    listen: ListenOption = None,
    public_url: PublicUrl = None,
    plain_http: PlainHttp = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=64, metavar="N", help="How many processes serve. Default: 1.", show_default=False),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CIDR", help="Believe X-Forwarded-For and X-mTLS-* of this network; repeatable.", show_default=False
        ),
    ] = None,
) -> None:
    """Serve the API. On an empty home, initialise it first.

    SIGHUP reloads settings and certificates; SIGTERM ends the server when requests in flight have been answered.
    """
    import logging
    from dataclasses import replace

    from cdxsync.auth import runner
    from cdxsync.base import logs
    from cdxsync.base.errors import CdxsyncError
    from cdxsync.ops import home_owner, homes, row_macs
    from cdxsync.server import service, supervisor

    state = state_of(ctx)
    flags = _flags(public_url, listen, plain_http) | {"trusted_proxies": trusted_proxy or None, "workers": workers}

    def load() -> "Settings":
        settings = state.settings(flags)
        if settings.plain_http and listen is None and settings.listen.is_wildcard:
            settings = replace(settings, listen=settings.listen._replace(host="127.0.0.1"))
        return settings

    def open_fleet(settings: "Settings") -> "Fleet":
        if not homes.is_initialised(settings.home):
            made = homes.initialise(settings)
            settings = made.settings
            state.note(_describe(made))
            state.note("Next, in another shell: cdxsync hosts register NAME   (NAME: a host's name, web1.example.net)")
        elif (known := state.settings().public_url) and known != settings.public_url:
            state.note(
                f"Note: other commands print installers for {known}, not {settings.public_url}."
                " Set public_url in config.toml instead of --public-url"
            )
        try:
            home_owner.check_place(settings.home)
        except CdxsyncError as error:
            state.note(f"Warning: {error.message}")
        fleet = homes.open_fleet(settings, check_keys=True)
        with fleet.database.scope():
            row_macs.begin(fleet)
        return fleet

    def told(url: str, settings: "Settings") -> None:
        state.note(f"Listening on {url}; hosts call {settings.public_url}")
        checks = runner.described(settings)
        if checks:
            state.note(f"The login is checked daily and when it is new, {checks}   (setting runner)")

    settings = load()
    process = "[%(process)d]" if settings.workers > 1 else ""
    form = f"%(asctime)s %(levelname)s %(name)s{process} %(message)s"
    with logs.queued():
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=form)
        if settings.workers > 1:
            supervisor.serve(load, open_fleet, on_listening=told)
            return
        fleet = open_fleet(settings)
        with contextlib.closing(fleet.database):
            service.serve(fleet, load, on_listening=lambda url: told(url, fleet.settings))


@state_app.command("show")
def show_state(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show the flag."""
    from cdxsync.hosts import api_state

    state_of(ctx).run(lambda fleet: api_state.get(), _print_state)


@state_app.command("disable")
def disable_api(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Mark the API as disabled."""
    _put_state(state_of(ctx), True)


@state_app.command("enable")
def enable_api(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Mark the API as enabled."""
    _put_state(state_of(ctx), False)


def _put_state(state: State, disabled: bool) -> None:
    from cdxsync.hosts import api_state

    state.run(lambda fleet: api_state.put(disabled, actor=actor()), _print_state)


def _print_state(data: "ApiState") -> None:
    output.fields([("API", "marked as disabled (hosts are still served)" if data.disabled else "enabled")])
