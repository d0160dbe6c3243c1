"""`cdxsync hosts`: registering hosts, listing, rotating and deleting them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output, progress
from cdxsync.cli.state import AsJson, HostArgument, State, Yes, actor, confirm, state_of

if TYPE_CHECKING:
    from cdxsync.hosts.enrolment import Enrolled
    from cdxsync.hosts.installers import Registration
    from cdxsync.store.tables import Host

app = typer.Typer(help="Register hosts; list, rotate, disable and delete them.", no_args_is_help=True)


@app.command("list")
def list_hosts(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List all hosts."""
    from cdxsync.views import hosts

    state = state_of(ctx)
    state.fleet()
    data = hosts.listing()
    if state.json:
        output.json_data(data)
        return
    if not data["hosts"]:
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
            for row in data["hosts"]
        ),
        numbers=("Calls",),
        folding=("Host", "Address"),
    )


@app.command()
def show(ctx: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Show one host."""
    from cdxsync.hosts import registry
    from cdxsync.views import hosts

    state = state_of(ctx)
    state.fleet()
    data = hosts.one(registry.find(host))
    if state.json:
        output.json_data(data)
        return
    shown = data["host"]
    used = shown["token_usage"]
    output.fields(
        [
            ("Host", shown["fqdn"]),
            ("Id", shown["id"]),
            ("Status", shown["status"]),
            ("Address", shown["ip"]),
            ("Roaming", "allowed" if shown["allow_roaming_ips"] else "no"),
            ("May store auth", _yes_no(shown["allow_store_auth"])),
            ("May store prompts", _yes_no(shown["allow_store_prompts"])),
            ("Registered", shown["created_at"]),
            ("Last seen", shown["last_seen_at"]),
            ("API calls", shown["api_calls"]),
            ("Codex", shown["client_version"]),
            ("Wrapper", shown["wrapper_version"]),
            ("Credentials of", shown["last_refresh"]),
            ("Digest", shown["canonical_digest"]),
            ("Recent digests", _short_digests(shown["recent_digests"])),
            ("Latest usage", f"{used['total']} tokens at {used['created_at']}" if used else None),
        ]
    )


def _short_digests(digests: list[str]) -> str:
    return ", ".join(digest[:12] for digest in digests)


@app.command()
def auth(
    ctx: typer.Context,
    host: HostArgument,
    include_body: Annotated[
        bool, typer.Option("--include-body", help="Print the fleet's document with its secrets, as JSON.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show which credentials a host holds, beside the fleet's."""
    from cdxsync.hosts import registry
    from cdxsync.views import hosts

    state = state_of(ctx)
    fleet = state.fleet()
    data = hosts.credentials(fleet, registry.find(host), include_body=include_body, actor=actor())
    if state.json:
        output.json_data(data)
    elif include_body:
        output.json_data(data["auth"])
    else:
        shown = data["host"]
        output.fields(
            [
                ("Host", shown["fqdn"]),
                ("In sync", "yes" if data["in_sync"] else "no"),
                ("Holds", shown["last_refresh"]),
                ("Digest", shown["auth_digest"]),
                ("Canonical", data["canonical_last_refresh"]),
                ("Canonical digest", data["canonical_digest"]),
                ("Recent digests", _short_digests(data["recent_digests"])),
                ("API calls", data["api_calls"]),
            ]
        )


@app.command()
def register(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The host's name, such as web1.example.net.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Register all hosts of this list, one name a line, # for comments; - for standard input.",
            show_default=False,
        ),
    ] = None,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="With --file: give hosts that are in use a new key too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Register a host, or rotate a registered one's key, and print its installer command.

    With --file, print one line for each host: its installer command, or with --json what the API answers. Hosts that
    are in use keep their keys, so that a list can be run again.
    """
    from cdxsync.base.errors import Invalid
    from cdxsync.hosts import installers

    state = state_of(ctx)
    if (name is None) == (file is None):
        raise Invalid({"NAME": ["is needed, or --file FILE, and not both"]})
    if file is not None:
        _register_all(state, file, rotate)
        return
    if rotate:
        raise Invalid({"--rotate": ["goes with --file; a single host's key is rotated in any case"]})
    _print_registration(state, installers.register(state.fleet(), name, actor=actor()))


def _register_all(state: State, file: Path, rotate: bool) -> None:
    from cdxsync.base.errors import Failed
    from cdxsync.cli.input import read_bytes
    from cdxsync.hosts import enrolment

    try:
        names = enrolment.read_names(read_bytes(file).decode())
    except UnicodeDecodeError:
        raise Failed(f"{file}: is not UTF-8 text; give host names, one a line", code="file_unusable") from None
    fleet = state.fleet()
    registered = spared = 0
    with progress.bar(state, "Registering") as show_progress:
        for enrolled in enrolment.enrol(fleet, names, actor=actor(), rotate=rotate):
            _print_enrolled(state, enrolled)
            registered += enrolled.registration is not None
            spared += enrolled.spared is not None
            show_progress(registered + spared, len(names))
    output.note(state, f"Registered {registered} of {len(names)} hosts")
    if spared:
        output.note(state, f"{spared} in use keep their keys; --rotate gives them new ones")


def _print_enrolled(state: State, enrolled: "Enrolled") -> None:
    from cdxsync.hosts import registry

    if enrolled.registration is None:
        if state.json and enrolled.spared is not None:
            output.json_line({"host": registry.brief(enrolled.spared), "installer": None})
    elif state.json:
        output.json_line(enrolled.registration.data())
    else:
        output.line(enrolled.registration.command)


@app.command()
def rotate(ctx: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Give a registered host a new key, and print its installer command. The old key ends at once."""
    from cdxsync.hosts import installers, registry

    state = state_of(ctx)
    fleet = state.fleet()
    _print_registration(state, installers.register(fleet, registry.find(host).fqdn, actor=actor()))


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
    from cdxsync.hosts import registry

    state = state_of(ctx)
    state.fleet()
    found = registry.find(host)
    confirm(f"Delete host {found.fqdn}?", yes)
    registry.delete(found, actor=actor(), action="admin.host.delete")
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
    from cdxsync.base import settings
    from cdxsync.base.errors import Invalid
    from cdxsync.hosts import registry

    state = state_of(ctx)
    try:
        wanted = settings.read_bool(allow)
    except ValueError:
        raise Invalid({"allow": ["must be on or off"]}) from None
    state.fleet()
    changed = registry.set_roaming(registry.find(host), wanted, actor=actor())
    _print_change(state, changed, f"may call from {'any address' if wanted else 'its own address only'}")


@app.command()
def permit(
    ctx: typer.Context,
    host: HostArgument,
    store_auth: Annotated[
        str | None,
        typer.Option(metavar="on|off", help="Whether it may store auth.json for the fleet.", show_default=False),
    ] = None,
    store_prompts: Annotated[
        str | None,
        typer.Option(metavar="on|off", help="Whether it may store prompts for the fleet.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a host may store for the whole fleet; by default, all. It goes on receiving both in any case."""
    from cdxsync.hosts import registry

    state = state_of(ctx)
    state.fleet()
    given = {"store_auth": store_auth, "store_prompts": store_prompts}
    changed = registry.set_permits(registry.find(host), given, actor=actor())
    auth, prompts = changed.allow_store_auth, changed.allow_store_prompts
    _print_change(state, changed, f"may store auth.json: {_yes_no(auth)}, prompts: {_yes_no(prompts)}")


def _yes_no(value: object) -> str:
    return "yes" if value else "no"


@app.command()
def clear(ctx: typer.Context, host: HostArgument, yes: Yes = False, as_json: AsJson = False) -> None:
    """Forget which credentials a host was known to hold. Its key, and the fleet's credentials, stay."""
    from cdxsync.hosts import registry

    state = state_of(ctx)
    state.fleet()
    found = registry.find(host)
    confirm(f"Clear what is known of the credentials on {found.fqdn}?", yes)
    data = registry.clear(found, actor=actor()).data()
    if state.json:
        output.json_data(data)
        return
    removed = data["cleared"]
    held = f"the document of {removed['last_refresh']}" if removed["last_refresh"] else "no document"
    output.note(
        state,
        f"Cleared {found.fqdn}: it was known to hold {held}; removed {removed['digests']} recent digests and"
        f" {removed['states']} sync states",
    )


@app.command()
def unbind(ctx: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Forget a host's address; its next call binds anew."""
    from cdxsync.hosts import registry

    state = state_of(ctx)
    state.fleet()
    _print_change(state, registry.unbind(registry.find(host), actor=actor()), "is bound to no address now")


@app.command()
def disable(ctx: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Refuse all calls of a host, until it is enabled."""
    from cdxsync.hosts import registry

    state = state_of(ctx)
    state.fleet()
    _print_change(state, registry.set_active(registry.find(host), False, actor=actor()), "is disabled")


@app.command()
def enable(ctx: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Take a disabled host's calls again."""
    from cdxsync.hosts import registry

    state = state_of(ctx)
    state.fleet()
    _print_change(state, registry.set_active(registry.find(host), True, actor=actor()), "is enabled")


def _print_change(state: State, host: "Host", text: str) -> None:
    if state.json:
        from cdxsync.hosts import registry

        output.json_data({"host": registry.brief(host)})
        return
    output.note(state, f"{host.fqdn} {text}")
