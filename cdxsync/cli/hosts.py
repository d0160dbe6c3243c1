"""`cdxsync hosts`: registering, listing, changing and deleting hosts."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdxsync.cli import output
from cdxsync.cli.command import State, UsageError, actor, confirm, state_of
from cdxsync.cli.options import AsJson, HostArgument, Yes, read_bytes, read_switch

if TYPE_CHECKING:
    from cdxsync.hosts.enrolment import Enrolled
    from cdxsync.hosts.installers import Registration
    from cdxsync.hosts.schemas import BackgroundSync, HostCleared
    from cdxsync.store.fleet import Fleet
    from cdxsync.store.tables import Host
    from cdxsync.views.schemas import HostCredentials, HostList, HostShown

OTHER_ACCOUNT = {
    "ask": "not taken without: cdxsync auth accept",
    "once": "the offered one is taken when the host calls",
    "always": "always taken",
    "never": "never taken",
}
HOLDS = {
    "grant": "a grant of its own, which ends with its key",
    "login": "the real login, with its refresh token",
    None: "nothing yet",
}
app = typer.Typer(help="Register hosts; list, rotate, disable and delete them.", no_args_is_help=True)


@app.command("list")
def list_hosts(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List all hosts."""
    state = state_of(ctx)

    def call(fleet: "Fleet") -> "HostList":
        from cdxsync.views import hosts

        return hosts.list_all()

    def show(data: "HostList") -> None:
        if not data.hosts:
            state.note("No hosts yet. Register one: cdxsync hosts register NAME")
        output.table(
            ("Id", "Host", "Status", "Address", "Last seen", "Calls", "Codex", "Holds", "Watch"),
            (
                (
                    row.id,
                    row.fqdn,
                    row.status,
                    row.ip or "-",
                    row.last_seen_at or "never",
                    row.api_calls,
                    row.client_version or "-",
                    row.holds or "-",
                    _background_word(row.background_sync),
                )
                for row in data.hosts
            ),
            numbers=("Calls",),
            folding=("Host", "Address"),
        )

    state.run(call, show)


@app.command()
def show(ctx: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Show one host."""

    def call(fleet: "Fleet") -> "HostShown":
        from cdxsync.hosts import registry
        from cdxsync.views import hosts

        return hosts.show(registry.find(host))

    state_of(ctx).run(call, _show_host)


def _show_host(data: "HostShown") -> None:
    shown = data.host
    used = shown.token_usage
    output.fields(
        [
            ("Host", shown.fqdn),
            ("Id", shown.id),
            ("Status", shown.status),
            ("Address", shown.ip),
            ("Roaming", "allowed" if shown.allow_roaming_ips else "no"),
            ("May store auth", _yes_no(shown.allow_store_auth)),
            ("May store prompts", _yes_no(shown.allow_store_prompts)),
            ("May keep auth", _yes_no(shown.allow_keep_auth)),
            ("Registered", shown.created_at),
            ("Last seen", shown.last_seen_at),
            ("API calls", shown.api_calls),
            ("Codex", shown.client_version),
            ("Wrapper", shown.wrapper_version),
            ("Credentials of", _held(shown.last_refresh)),
            ("Holds", HOLDS[shown.holds] + (f", since {shown.given_at}" if shown.given_at else "")),
            ("Background sync", _background_text(shown.background_sync)),
            ("Digest", shown.canonical_digest),
            ("Recent digests", _short_digests(shown.recent_digests)),
            ("Other account", f"{data.offer.account}, since {data.offer.first_seen_at}" if data.offer else None),
            ("Other accounts", OTHER_ACCOUNT.get(shown.other_account, shown.other_account)),
            ("Latest usage", f"{used.total} tokens at {used.created_at}" if used else None),
        ]
    )


def _background_word(sync: "BackgroundSync | None") -> str:
    """What starts a host's background sync, for a narrow column; `late` for one that should have called."""
    from cdxsync.base import clock

    if sync is None:
        return "-"
    return "late" if sync.is_late(clock.now()) else sync.by


def _background_text(sync: "BackgroundSync | None") -> str:
    from cdxsync.base import clock

    if sync is None:
        return "none"
    late = ": it should have called again. On the host: cdx --watch status"
    return f"by {sync.by}, last at {sync.at}{late if sync.is_late(clock.now()) else ''}"


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

    def call(fleet: "Fleet") -> "HostCredentials":
        from cdxsync.hosts import registry
        from cdxsync.views import hosts

        return hosts.credentials(fleet, registry.find(host), include_body=include_body, actor=actor())

    def show(data: "HostCredentials") -> None:
        shown = data.host
        if include_body:
            output.json_data(data.auth)
            return
        output.fields(
            [
                ("Host", shown.fqdn),
                ("In sync", "yes" if data.in_sync else "no"),
                ("Holds", _held(shown.last_refresh)),
                ("Digest", shown.auth_digest),
                ("Canonical", data.canonical_last_refresh),
                ("Canonical digest", data.canonical_digest),
                ("Recent digests", _short_digests(data.recent_digests)),
                ("API calls", data.api_calls),
            ]
        )

    state_of(ctx).run(call, show)


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
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Register a host, or rotate a registered one's key, and print its installer command. A host in use is cut off.

    With --file, print one line for each host: its installer command, or with --json what the API answers. Hosts that
    are in use keep their keys, so that the same list can be given again.
    """
    state = state_of(ctx)
    if (name is None) == (file is None):
        raise UsageError("Give a host name or --file FILE, not both.")
    if file is not None:
        _register_all(state, file, rotate)
        return
    if rotate:
        raise UsageError("Give --rotate with --file only; a single host's key is always rotated.")
    _register(state, lambda: name or "", yes)


@app.command()
def rotate(ctx: typer.Context, host: HostArgument, yes: Yes = False, as_json: AsJson = False) -> None:
    """Give a registered host a new key, and print its installer command. The old key ends at once."""
    from cdxsync.hosts import registry

    _register(state_of(ctx), lambda: registry.find(host).fqdn, yes)


def _register(state: State, name_of: Callable[[], str], yes: bool) -> None:
    from cdxsync.hosts import installers, registry

    def register(fleet: "Fleet") -> "Registration":
        name = name_of()
        loss = registry.loss_by_rotation(name)
        if loss:
            confirm(f"{loss} Go on?", yes)
        return installers.register(fleet, name, actor=actor())

    def show(made: "Registration") -> None:
        done = "Registered" if made.created else "Rotated the key of"
        host, installer = made.answer.host, made.answer.installer
        state.note(f"{done} {host.fqdn}. Run this on the host, once, before {installer.expires_at}:")
        output.line(installer.command)

    state.run(register, show, data=lambda made: made.answer)


def _register_all(state: State, file: Path, rotate: bool) -> None:
    """Print each host as soon as it is registered."""
    from cdxsync.base.errors import Failed
    from cdxsync.hosts import enrolment

    try:
        names = enrolment.read_names(read_bytes(file).decode())
    except UnicodeDecodeError:
        raise Failed(f"{file} is not UTF-8 text. List the host names, one a line", code="file_unusable") from None
    registered = spared = 0
    with state.opened() as fleet, state.progress("Registering") as show_progress:
        for enrolled in enrolment.enrol(fleet, names, actor=actor(), rotate=rotate):
            _print_enrolled(state, enrolled)
            registered += enrolled.registration is not None
            spared += enrolled.spared is not None
            show_progress(registered + spared, len(names))
    state.note(f"Registered {registered} of {len(names)} hosts")
    if spared:
        state.note(f"{spared} in use keep their keys; --rotate gives them new ones")


def _print_enrolled(state: State, enrolled: "Enrolled") -> None:
    from cdxsync.hosts.schemas import HostBrief, HostSpared

    if enrolled.registration is None:
        if state.json and enrolled.spared is not None:
            output.json_line(HostSpared(host=HostBrief.of(enrolled.spared)))
    elif state.json:
        output.json_line(enrolled.registration.answer)
    else:
        output.line(enrolled.registration.answer.installer.command)


@app.command()
def delete(ctx: typer.Context, host: HostArgument, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a host with its key and its history; the fleet's credentials stay."""
    from cdxsync.hosts import registry
    from cdxsync.hosts.schemas import HostDeleted

    state = state_of(ctx)

    def call(fleet: "Fleet") -> "Host":
        found = registry.find(host)
        confirm(f"Delete host {found.fqdn}?", yes)
        registry.delete(found, actor=actor(), action="admin.host.delete")
        return found

    state.run(call, lambda found: state.note(f"Deleted {found.fqdn}"), data=lambda found: HostDeleted(deleted=found.id))


@app.command()
def roaming(
    ctx: typer.Context,
    host: HostArgument,
    allow: Annotated[str, typer.Argument(metavar="on|off", help="Whether it may call from any address.")],
    as_json: AsJson = False,
) -> None:
    """Let a host call from any address (on), or only from the one that it is bound to (off)."""
    from cdxsync.hosts import registry

    wanted = read_switch("roaming", allow)
    _change(
        state_of(ctx),
        lambda: registry.set_roaming(registry.find(host), wanted, actor=actor()),
        lambda _: f"may call from {'any address' if wanted else 'its own address only'}",
    )


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
    keep_auth: Annotated[
        str | None,
        typer.Option(metavar="on|off", help="Whether cdx keeps the credentials on it after a run.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a host may store for the whole fleet, and keep; by default, all. It receives all of it in any case."""
    from cdxsync.hosts import registry
    from cdxsync.hosts.schemas import PermitBody

    given = {"store_auth": store_auth, "store_prompts": store_prompts, "keep_auth": keep_auth}
    _change(
        state_of(ctx),
        lambda: registry.set_permits(registry.find(host), PermitBody.read(given), actor=actor()),
        lambda changed: (
            f"may store auth.json: {_yes_no(changed.allow_store_auth)},"
            f" prompts: {_yes_no(changed.allow_store_prompts)}; keeps auth.json: {_yes_no(changed.allow_keep_auth)}"
        ),
    )


def _held(last_refresh: str | None) -> str | None:
    """The date of what a host holds, in words where it has claimed none (`docs/protocol.md 3.5`)."""
    from cdxsync.auth.documents import NO_DATE

    return "none of the fleet's" if last_refresh == NO_DATE else last_refresh


def _yes_no(value: object) -> str:
    return "yes" if value else "no"


@app.command()
def clear(ctx: typer.Context, host: HostArgument, yes: Yes = False, as_json: AsJson = False) -> None:
    """Forget which credentials a host was known to hold. Its key and the fleet's credentials stay."""
    from cdxsync.hosts import registry

    state = state_of(ctx)

    def call(fleet: "Fleet") -> "HostCleared":
        found = registry.find(host)
        confirm(f"Clear what is known of the credentials on {found.fqdn}?", yes)
        return registry.clear(found, actor=actor())

    def show(data: "HostCleared") -> None:
        removed = data.cleared
        held = f"the document of {removed.last_refresh}" if removed.last_refresh else "no document"
        state.note(
            f"Cleared {data.host.fqdn}: it was known to hold {held}; removed {removed.digests} recent digests"
            f" and {removed.states} sync states"
        )

    state.run(call, show)


@app.command()
def unbind(ctx: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Forget a host's address; its next call binds it again."""
    from cdxsync.hosts import registry

    _change(
        state_of(ctx),
        lambda: registry.unbind(registry.find(host), actor=actor()),
        lambda _: "is bound to no address now",
    )


@app.command()
def disable(ctx: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Refuse all calls of a host, until it is enabled."""
    from cdxsync.hosts import registry

    _change(
        state_of(ctx), lambda: registry.set_active(registry.find(host), False, actor=actor()), lambda _: "is disabled"
    )


@app.command()
def enable(ctx: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Accept a disabled host's calls again."""
    from cdxsync.hosts import registry

    _change(
        state_of(ctx), lambda: registry.set_active(registry.find(host), True, actor=actor()), lambda _: "is enabled"
    )


def _change(state: State, change: Callable[[], "Host"], words: Callable[["Host"], str]) -> None:
    """Change a host, and print what it is now; `words` says it for people."""
    from cdxsync.hosts.schemas import HostChanged

    state.run(
        lambda fleet: change(),
        lambda host: state.note(f"{host.fqdn} {words(host)}"),
        data=HostChanged.of,
    )
