"""`cdxsync hosts purge`: undoing what one host has done."""

from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli.command import UsageError, actor, confirm, state_of
from cdxsync.cli.options import AsJson, HostArgument, Yes

if TYPE_CHECKING:
    from cdxsync.hosts.schemas import HostPurged
    from cdxsync.store.fleet import Fleet


def purge(
    ctx: typer.Context,
    host: HostArgument,
    prompts: Annotated[
        bool, typer.Option("--prompts", help="Its prompts: each gets the newest text of another back, or is deleted.")
    ] = False,
    usage: Annotated[bool, typer.Option("--usage", help="Its usage, in all totals too.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Undo what a host has stored of prompts, or reported of usage. Its key stays: see hosts rotate."""
    state = state_of(ctx)
    if not prompts and not usage:
        raise UsageError("Give --prompts, --usage or both.")

    def call(fleet: "Fleet") -> "HostPurged":
        from cdxsync.hosts import registry
        from cdxsync.hosts.schemas import PurgeBody
        from cdxsync.ops import purging

        found = registry.find(host)
        what = " and ".join(word for word, given in (("prompts", prompts), ("usage", usage)) if given)
        confirm(f"Undo the {what} of {found.fqdn}?", yes)
        return purging.purge(found, PurgeBody(prompts=prompts, usage=usage), actor=actor())

    def show(data: "HostPurged") -> None:
        state.note(
            f"{data.host.fqdn}: put {data.prompts_restored} prompts back, deleted {data.prompts_deleted},"
            f" and deleted {data.usage_rows} usage rows"
        )

    state.run(call, show)
