"""The `cdxsync` command: global options, and the nouns under it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import cdxsync
from cdxsync.cli import (
    auth,
    command,
    db,
    doctor,
    hosts,
    jobs,
    keys,
    logs,
    overview,
    pki,
    prompts,
    purge,
    runner,
    server,
    usage,
    versions,
)
from cdxsync.cli.command import State, state_of

app = typer.Typer(
    name="cdxsync",
    help="Keep one canonical Codex auth.json for a fleet of hosts. Start with: cdxsync serve",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: loading Rich for it would take longer than everything else
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(server.init)
app.command()(server.serve)
app.command()(overview.overview)
app.command()(overview.top)
app.command()(doctor.doctor)
app.add_typer(logs.app, name="logs")
hosts.app.command()(purge.purge)
app.add_typer(hosts.app, name="hosts")
app.add_typer(auth.app, name="auth")
app.add_typer(usage.app, name="usage")
app.add_typer(prompts.app, name="prompts")
app.add_typer(prompts.app, name="slash-commands", hidden=True)
app.add_typer(versions.app, name="versions")
app.add_typer(server.state_app, name="state")
app.add_typer(runner.app, name="runner")
app.add_typer(jobs.app, name="jobs")
app.add_typer(versions.wrapper_app, name="wrapper")
app.add_typer(pki.app, name="pki")
app.add_typer(keys.app, name="keys")
app.add_typer(db.app, name="db")

_ABOUT = "cdxsync keeps one canonical Codex auth.json for a fleet of hosts."
_FIRST = f"""{_ABOUT} There is no server in {{home}} yet.

First, on a machine that all hosts can reach:
  cdxsync serve                            create what it needs, and serve
  cdxsync serve --public-url URL           the same, when hosts call it by another name than this machine's

Then, in another shell there:
  cdxsync auth upload ~/.codex/auth.json   give the fleet a login, or log in later on a host: cdx login
  cdxsync hosts register NAME              print the line that sets a host up
"""
_AGAIN = f"""{_ABOUT} Its home is {{home}}.

  cdxsync serve                 serve it, unless it runs as a service already
  cdxsync overview              show the state of the fleet
  cdxsync doctor                find problems, and how to repair them
  cdxsync hosts register NAME   print the line that sets a host up
  cdxsync hosts list            list all hosts
  cdxsync logs --follow         watch what happens
"""
_MORE = "\nAll commands: cdxsync --help; manual: man cdxsync\n"


def _print_version(given: bool) -> None:
    if given:
        sys.stdout.write(f"cdxsync {cdxsync.__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(
            envvar="CDXSYNC_HOME",
            metavar="DIR",
            readable=False,  # `State.home_directory` checks that, and says who can read it
            help="The home: settings, keys, database."
            " Default: /var/lib/cdxsync for root, else the user's data directory.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="CDXSYNC_CONFIG",
            metavar="FILE",
            help="Settings (TOML). Default: config.toml in the home.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: what the admin API returns in `data`.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    state = state_of(ctx)
    state.home, state.config, state.json, state.quiet = home, config, as_json, quiet
    if ctx.invoked_subcommand is None:
        sys.stderr.write(_welcome(state))
        raise typer.Exit(2)  # a usage error all the same: a script may have lost its command


def _welcome(state: State) -> str:
    """What to type first, in a home that is initialised or not."""
    from cdxsync.base import settings
    from cdxsync.ops import homes

    home = state.home_directory()
    if homes.is_initialised(home):
        return _AGAIN.format(home=home) + _MORE
    elsewhere = settings.hint_of_service(home)
    return _FIRST.format(home=home) + (f"\n{elsewhere}\n" if elsewhere else "") + _MORE


def run() -> None:
    """Run the command line, and exit."""
    command.exit_after(app)
