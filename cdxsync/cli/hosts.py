"""`cdxsync hosts`: registering hosts, listing, rotating and deleting them."""

from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.state import AsJson, HostArgument, State, Yes, actor, confirm, state_of

if TYPE_CHECKING:
    from cdxsync.domain.installers import Registration
    from cdxsync.store.tables import Host

app = typer.Typer(help="Register hosts; list, rotate, disable and delete them.", no_args_is_help=True)


@app.command("list")
def list_hosts(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List all hosts."""
    from cdxsync.domain import hosts

    state = state_of(ctx)
    state.fleet()
    rows = hosts.listing()
    if state.json:
        output.json_data({"hosts": rows})
        return
    if not rows:
        output.note(state, "No hosts yet. Register one: cdxsync hosts register NAME")
    output.table(
        ("Id", "Host", "Status", "Address", "Last seen", "Calls", "Codex"),
        (
            (
                row["id"],
                row["fqdn"],
                row["status"],
                row["ip"] or "-",
                row["last_seen_at"] or "never",
                row["api_calls"],
                row["client_version"] or "-",
            )
            for row in rows
        ),
    )


@app.command()
def show(ctx: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Show one host."""
    from cdxsync.domain import hosts

    state = state_of(ctx)
    state.fleet()
    data = hosts.listing(hosts.find(host))[0]
    if state.json:
        output.json_data(data)
        return
    digests = ", ".join(digest[:12] for digest in data["recent_digests"])
    output.fields(
        [
            ("Host", data["fqdn"]),
            ("Id", data["id"]),
            ("Status", data["status"]),
            ("Address", data["ip"]),
            ("Roaming", "allowed" if data["allow_roaming_ips"] else "no"),
            ("Registered", data["created_at"]),
            ("Last seen", data["last_seen_at"]),
            ("API calls", data["api_calls"]),
            ("Codex", data["client_version"]),
            ("Wrapper", data["wrapper_version"]),
            ("Credentials of", data["last_refresh"]),
            ("Digest", data["canonical_digest"]),
            ("Recent digests", digests),
        ]
    )


@app.command()
def register(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The host's name, such as web1.example.net.")],
    as_json: AsJson = False,
) -> None:
    """Register a host, or rotate a registered one's key, and print its installer command."""
    from cdxsync.domain import installers

    state = state_of(ctx)
    _print_registration(state, installers.register(state.fleet(), name, actor=actor()))


@app.command()
def rotate(ctx: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Give a registered host a new key, and print its installer command. The old key ends at once."""
    from cdxsync.domain import hosts, installers

    state = state_of(ctx)
    fleet = state.fleet()
    _print_registration(state, installers.register(fleet, hosts.find(host).fqdn, actor=actor()))


def _print_registration(state: State, registration: "Registration") -> None:
    if state.json:
        output.json_data(registration.data())
        return
    done = "Registered" if registration.created else "Rotated the key of"
    output.note(
        state, f"{done} {registration.host.fqdn}. Run this on the host, once, before {registration.expires_at}:"
    )
    output.line(registration.command)


@app.command()
def delete(ctx: typer.Context, host: HostArgument, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a host: its key ends, its history goes; the fleet's credentials stay."""
    from cdxsync.domain import hosts

    state = state_of(ctx)
    state.fleet()
    found = hosts.find(host)
    confirm(f"Delete host {found.fqdn}?", yes)
    hosts.delete(found, actor=actor(), action="admin.host.delete")
    if state.json:
        output.json_data({"deleted": found.id})
        return
    output.note(state, f"Deleted {found.fqdn}")


@app.command()
def roaming(
    ctx: typer.Context,
    host: HostArgument,
    allow: Annotated[str, typer.Argument(metavar="on|off", help="Whether it may call from any address.")],
    as_json: AsJson = False,
) -> None:
    """Let a host call from any address (on), or only from the one that it is bound to (off)."""
    from cdxsync import settings
    from cdxsync.domain import hosts
    from cdxsync.errors import Invalid

    state = state_of(ctx)
    try:
        wanted = settings.read_bool(allow)
    except ValueError:
        raise Invalid({"allow": ["must be on or off"]}) from None
    state.fleet()
    changed = hosts.set_roaming(hosts.find(host), wanted, actor=actor())
    _print_change(state, changed, f"may call from {'any address' if wanted else 'its own address only'}")


@app.command()
def unbind(ctx: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Forget a host's address; its next call binds anew."""
    from cdxsync.domain import hosts

    state = state_of(ctx)
    state.fleet()
    _print_change(state, hosts.unbind(hosts.find(host), actor=actor()), "is bound to no address now")


@app.command()
def disable(ctx: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Refuse all calls of a host, until it is enabled."""
    from cdxsync.domain import hosts

    state = state_of(ctx)
    state.fleet()
    _print_change(state, hosts.set_active(hosts.find(host), False, actor=actor()), "is disabled")


@app.command()
def enable(ctx: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Take a disabled host's calls again."""
    from cdxsync.domain import hosts

    state = state_of(ctx)
    state.fleet()
    _print_change(state, hosts.set_active(hosts.find(host), True, actor=actor()), "is enabled")


def _print_change(state: State, host: "Host", text: str) -> None:
    if state.json:
        data = {"id": host.id, "fqdn": host.fqdn, "status": host.status, "ip": host.ip}
        output.json_data({"host": data | {"allow_roaming_ips": host.allow_roaming_ips}})
        return
    output.note(state, f"{host.fqdn} {text}")
