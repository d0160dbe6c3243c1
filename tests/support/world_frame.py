"""What is laid at the beginning of a world, and what must be found at its end."""

import functools
import json
from collections.abc import Callable

from tests.support.together import at_once, until
from tests.support.world import World
from tests.support.world_events import comes_back, gives_private_up
from tests.support.world_hosts import GRANT, OTHER_ACCOUNT, OTHER_LIFE, Host, State


def settle(world: World) -> None:
    """Bring every host back, and look at what it then has: the canonical access token, and a grant of its own."""
    world.provider.life = 3600
    until(lambda: _is_long(world))
    for host in world.hosts:
        if host.state is State.OWN:
            gives_private_up(world, host)
        elif host.state is State.LOGGED_OUT:
            comes_back(world, host)
    at_once([functools.partial(_last_run, world, host) for host in world.hosts])
    canonical = world.canonical_tokens()
    if not world.provider.is_alive(str(canonical["refresh_token"])):
        world.saw("the canonical refresh token is not good")
    keeping = [host for host in world.hosts if host.keeps]
    for host in keeping:
        if host.tokens().get("access_token") != canonical["access_token"]:
            world.saw(f"{host.name} is not in sync", host)
    grants = {str(host.tokens().get("refresh_token")) for host in keeping}
    if len(grants) != len(keeping) or not all(grant.startswith(GRANT) for grant in grants):
        world.saw("not every host has a grant of its own")


def _is_long(world: World) -> bool:
    return bool(world.lost) or world.provider.left(str(world.canonical_tokens()["access_token"])) > 600


def _last_run(world: World, host: Host) -> None:
    world.note(host.exec())
    if host.keeps:
        tries = (world.note(host.cdx("--wrapper-sync")) for _ in range(3))
        any(run.status == 0 for run in tries)
    elif host.auth() is not None:
        world.saw(f"{host.name} is to keep no credentials, and does", host)


def keep_nothing(world: World, host: Host) -> None:
    """Let an admin say that a host keeps no credentials after a run."""
    world.admin("POST", f"/admin/hosts/{host.id}/permit", json={"keep_auth": False})
    host.keeps = False


def lay_private_login(world: World, host: Host) -> Callable[[], None]:
    """Before its first sync: a login of another account, fresher than the fleet's. Returns what looks for it later."""
    document = world.provider.login(account=OTHER_ACCOUNT, life=OTHER_LIFE)
    host.machine.put_auth(document)
    kept = host.machine.auth_file.with_name("auth.json.before-cdx")

    def look() -> None:
        found = json.loads(kept.read_text()) if kept.exists() else None
        if found != document or kept.stat().st_mode & 0o77:
            world.saw(f"what {host.name} had before its first sync is not kept beside its file", host)

    return look
