"""`cdxsync wrapper`: the `cdx` script as it is before it is baked for a host.

A host's own one holds its key, which is kept as a hash only: the host downloads it, or its installer brings it.
"""

import sys

import typer

from cdxsync.cli import output
from cdxsync.cli.state import AsJson, state_of

app = typer.Typer(help="Show the cdx script that hosts get.", no_args_is_help=True)


@app.command()
def show(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show version, digest and size of the script, without any host's constants."""
    from cdxsync.codex import versions
    from cdxsync.wrapper import baking

    state = state_of(ctx)
    data = versions.wrapper_metadata(baking.template_sha256(), len(baking.template()))
    if state.json:
        output.json_data(data)
        return
    output.fields(
        [
            ("Version", data["version"]),
            ("SHA-256", data["sha256"]),
            ("Bytes", data["size_bytes"]),
            ("Changed", data["updated_at"]),
            ("Hosts get it from", data["url"]),
        ]
    )


@app.command()
def cat() -> None:
    """Print the script, without any host's constants."""
    from cdxsync.wrapper import baking

    sys.stdout.buffer.write(baking.template())
