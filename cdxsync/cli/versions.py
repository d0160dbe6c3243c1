"""`cdxsync versions` and `cdxsync wrapper`: the versions of Codex and of the wrapper, and the wrapper itself.

The wrapper is shown as it is before it is baked for a host. A host's own copy holds its key, which the server keeps as
a hash only: the host downloads it, or its installer brings it.
"""

import sys
from typing import TYPE_CHECKING

import typer

from cdxsync.cli import output
from cdxsync.cli.command import state_of
from cdxsync.cli.jobs import runner_of
from cdxsync.cli.options import AsJson, Wait

if TYPE_CHECKING:
    from cdxsync.codex.schemas import Versions, VersionsCheck, WrapperMetadata
    from cdxsync.store.fleet import Fleet

app = typer.Typer(help="Show the versions of Codex and of the wrapper.", no_args_is_help=True)
wrapper_app = typer.Typer(help="Show the cdx script that hosts get.", no_args_is_help=True)


@app.command()
def show(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show what the server knows of versions."""
    from cdxsync.codex import versions
    from cdxsync.wrapper import baking

    def show(data: "Versions") -> None:
        output.fields(
            [
                ("Codex, newest release", data.client_version),
                ("Fetched", data.client_version_checked_at),
                ("Source", data.client_version_source),
                ("Codex, highest on a host", data.reported_client_version),
                ("Wrapper", data.wrapper_version),
            ]
        )

    state_of(ctx).run(lambda fleet: versions.current(baking.template_sha256()), show)


@app.command()
def check(ctx: typer.Context, wait: Wait = 60, as_json: AsJson = False) -> None:
    """Ask GitHub for the newest release of Codex now."""
    from cdxsync.background import on_request

    state = state_of(ctx)

    def call(fleet: "Fleet") -> "VersionsCheck":
        data = on_request.check_versions(runner_of(state, fleet, wait))
        state.fail_after_printing(data.error)
        return data

    def show(data: "VersionsCheck") -> None:
        if data.error is None:
            output.line(f"Codex {data.available_client.version}")

    state.run(call, show)


@wrapper_app.command("show")
def show_wrapper(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show version, digest and size of the script, without any host's constants."""
    from cdxsync.codex import versions
    from cdxsync.wrapper import baking

    def show(data: "WrapperMetadata") -> None:
        output.fields(
            [
                ("Version", data.version),
                ("SHA-256", data.sha256),
                ("Bytes", data.size_bytes),
                ("Changed", data.updated_at),
                ("Hosts get it from", data.url),
            ]
        )

    state_of(ctx).answer(versions.wrapper_metadata(baking.template_sha256(), len(baking.template())), show)


@wrapper_app.command("cat")
def print_wrapper() -> None:
    """Print the script, without any host's constants."""
    from cdxsync.wrapper import baking

    sys.stdout.buffer.write(baking.template())
