"""The `cdxsync` command: global options, and the nouns under it."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import cdxsync
from cdxsync.base import errors
from cdxsync.base.errors import CdxsyncError, Invalid
from cdxsync.cli import (
    api_state,
    auth,
    db,
    doctor,
    hosts,
    jobs,
    keys,
    logs,
    output,
    overview,
    pki,
    prompts,
    runner,
    server,
    top,
    usage,
    versions,
    wrapper,
)
from cdxsync.cli.state import State, state_of, until_end

_UsageError: Any = typer.BadParameter.__bases__[0]
"""Click's, wherever this version of Typer has it."""
app = typer.Typer(
    name="cdxsync",
    help="Keep one canonical Codex auth.json for a fleet of hosts. Start with: cdxsync serve",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: loading Rich for it would take longer than all the rest
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(server.init)
app.command()(server.serve)
app.command()(overview.overview)
app.command()(top.top)
app.command()(logs.logs)
app.command()(doctor.doctor)
app.add_typer(hosts.app, name="hosts")
app.add_typer(auth.app, name="auth")
app.add_typer(usage.app, name="usage")
app.add_typer(prompts.app, name="prompts")
app.add_typer(prompts.app, name="slash-commands", hidden=True)
app.add_typer(versions.app, name="versions")
app.add_typer(api_state.app, name="state")
app.add_typer(runner.app, name="runner")
app.add_typer(jobs.app, name="jobs")
app.add_typer(wrapper.app, name="wrapper")
app.add_typer(pki.app, name="pki")
app.add_typer(keys.app, name="keys")
app.add_typer(db.app, name="db")


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
            readable=False,  # `State.home_directory` looks, and says who can read it
            help="Where everything lies. Default: /var/lib/cdxsync for root, else the user's data directory.",
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
        _welcome(state)


def _welcome(state: State) -> None:
    """Say what to type. It is a usage error all the same: a script may have lost its command."""
    from cdxsync.cli import welcome
    from cdxsync.ops.homes import is_initialised

    directory = state.home_directory()
    sys.stderr.write(welcome.text(directory, is_initialised=is_initialised(directory)))
    raise typer.Exit(2)


def _print_error(state: State, error: CdxsyncError) -> None:
    wrong = error.errors if isinstance(error, Invalid) else {}
    if state.json:
        output.json_error(error.code, error.message, wrong)
        return
    sys.stderr.write(f"cdxsync: {error.message}\n")
    sys.stderr.writelines(f"  {name}: {text}\n" for name, texts in wrong.items() for text in texts)


def run() -> None:
    """Run the command line and exit with the code that the error's class has in `errors.KINDS`."""
    state = State()
    try:
        try:
            with until_end:
                ended = app(obj=state, standalone_mode=False)
            sys.exit(ended if isinstance(ended, int) else 0)  # a number when it was a `typer.Exit`
        except CdxsyncError as error:
            _print_error(state, error)
            sys.exit(error.exit_code)
        except _UsageError as error:
            # The words before the one that is wrong may not have been read yet.
            if state.json or "--json" in sys.argv[1:]:
                output.json_error(errors.USAGE, error.format_message())
            else:
                error.show()
            sys.exit(error.exit_code)
        except typer.Abort:
            sys.stderr.write("Aborted!\n")
            sys.exit(1)
        finally:
            if sys.stdout is not None:  # it was closed from the start
                sys.stdout.flush()  # while it can still be told that nobody reads
    except BrokenPipeError:
        # The reader of our output has gone; what is still buffered must not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
