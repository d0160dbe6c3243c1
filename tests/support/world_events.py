"""What happens in a world: each event takes hosts that nothing else has, and knows what must come of it."""

import contextlib
import functools
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator

from tests.support.fleet import Fleet, children
from tests.support.together import at_once
from tests.support.world import Event, World
from tests.support.world_hosts import OTHER_ACCOUNT, OTHER_LIFE, WORKS, Host, Kill, Run, State

OTHER_LOGIN = {"STANDIN_ACCOUNT": OTHER_ACCOUNT, "STANDIN_LIFE": str(OTHER_LIFE)}


def one_run(world: World, chance: random.Random) -> None:
    """A run on one host; often with several messages, so that tokens expire meanwhile."""
    with world.free_host(chance, *WORKS, only_runs=True) as host:
        if host is not None:
            synced(host, [world.note(host.exec(turns=chance.randint(1, 4), pause=chance.uniform(0, 1)))])


def cron(world: World, chance: random.Random) -> None:
    """All hosts that are free start at the same moment; few of those that have logged out."""
    with contextlib.ExitStack() as stack:
        hosts = [host for host in world.hosts if host.state in WORKS or chance.random() < 0.1]
        hosts = [host for host in hosts if host.busy.acquire(blocking=False)]
        for host in hosts:
            stack.callback(host.busy.release)
        runs = at_the_same_moment(world, hosts, chance)
        world.count("starts at the same moment")
        for host, run in runs:
            synced(host, [run])


def at_the_same_moment(world: World, hosts: list[Host], chance: random.Random) -> list[tuple[Host, Run]]:
    done: list[tuple[Host, Run]] = []
    turns = chance.randint(1, 2)

    def one(host: Host) -> None:
        done.append((host, world.note(host.exec(turns=turns, pause=0.5))))

    at_once([functools.partial(one, host) for host in hosts])
    return done


def two_in_one_home(world: World, chance: random.Random) -> None:
    """Two runs of one host at the same time."""
    with world.free_host(chance, State.SHARED) as host:
        if host is not None and not host.must_sync:
            at_the_same_moment(world, [host, host], chance)
            world.count("two runs in one home")


def killed_run(world: World, chance: random.Random) -> None:
    """`cdx` is killed, with or without its Codex."""
    with world.free_host(chance, State.SHARED, only_runs=True) as host:
        if host is not None and not host.must_sync:
            world.note(host.exec(kill=Kill.drawn(chance, 0.6), turns=3, pause=chance.uniform(0, 0.3)))


def killed_worker(world: World, chance: random.Random) -> None:
    """A server with several workers loses one."""
    server = chance.choice(world.site.servers)
    with world.servers_alone() as alone:
        if not alone or not server.processes:
            return
        with world.outage():
            (process,) = server.processes
            workers = children(process)
            if len(workers) < 2:
                return
            victim = chance.choice(workers)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            world.count("workers killed")
            server.wait_for(f"process {victim}\\) was ended by SIGKILL; restarting it")
            world.back_to_work()


def killed_server(world: World, chance: random.Random) -> None:
    """A whole server is killed, and started again after a while."""
    with world.servers_alone() as alone:
        if not alone:
            return
        with world.outage():
            server = chance.choice(world.site.servers)
            time.sleep(chance.uniform(0, 0.5))
            _restart(world, server, chance.uniform(0, 0.5))


def killed_in_a_refresh(world: World, chance: random.Random) -> None:
    """A server is killed when the provider has taken the refresh token, and before it has the answer."""
    with world.servers_alone() as alone:
        if not alone:
            return
        with world.outage():
            world.provider.plan(passes=True, hold=True)
            if not world.provider.entered.wait(30):
                world.saw("no server has refreshed for 30 seconds")
                return
            killed = chance.sample(world.site.servers, chance.randint(1, len(world.site.servers)))
            for server in killed:
                world.kill_server(server)
            world.provider.released.set()
            world.count("servers killed in a refresh")
            for server in killed:
                server.start()
            world.back_to_work()


def _restart(world: World, server: Fleet, pause: float) -> None:
    world.kill_server(server)
    world.count("servers killed")
    time.sleep(pause)
    server.start()
    world.back_to_work()


def provider_away(world: World, chance: random.Random) -> None:
    """The provider answers with an error for a while, before it takes anything."""
    with world.servers_alone() as alone:
        if alone:
            with world.outage():
                world.provider.plan(status=chance.choice([503, 429]), headers={"Retry-After": "1"})
                if world.provider.entered.wait(30):
                    world.count("the provider was away")
                    world.back_to_work()


def log_in(world: World, chance: random.Random) -> None:
    """Somebody logs in under `cdx`, with the fleet's account; from logged out, or although all is well."""
    with world.free_host(chance, State.LOGGED_OUT, State.SHARED, State.OWN) as host:
        if host is not None and not host.must_sync:
            logs_in(world, host)


def logins_at_once(world: World, chance: random.Random) -> None:
    """Two people log in at the same moment, on two hosts."""
    with world.free_host(chance, State.SHARED) as one, world.free_host(chance, State.SHARED) as other:
        if one is not None and other is not None and not one.must_sync and not other.must_sync:
            at_once([functools.partial(logs_in, world, host) for host in (one, other)])


def logs_in(world: World, host: Host) -> None:
    run = world.note(host.cdx("login"))
    world.count("logins")
    host.must_sync = True
    synced(host, [run])
    if run.status == 0:
        host.state, host.private = State.SHARED, None
    if run.status == 0 and not world.was_away(run) and not world.is_late(run) and not host.holds_grant():
        world.saw(f"after its login {host.name} holds no grant:\n{run.output}", host)


def given_up_login(world: World, chance: random.Random) -> None:
    """A login that comes to nothing; sometimes `cdx` is killed in it. What was there comes back, at the latest now."""
    with world.free_host(chance, *WORKS) as host:
        if host is None or host.must_sync:
            return
        had = host.auth() is not None
        kill = Kill.drawn(chance, 0.8) if chance.random() < 0.4 else None
        run = host.cdx("login", kill=kill, must_work=False, env={"STANDIN_GIVES_UP": "1", "STANDIN_PAUSE": "0.3"})
        world.note(run)
        world.count("logins given up")
        if run.status == 0:
            world.saw(f"a login that was given up ended with 0: {run}", host)
        if had and not run.killed and host.auth() is None:
            world.saw(f"a login that was given up took the credentials: {run}", host)
        synced(host, [world.note(host.exec())])
        if host.state is State.OWN:
            still_private(world, host)


def log_out(world: World, chance: random.Random) -> None:
    """`cdx logout`, a run that must not work, and a way back."""
    with world.free_host(chance, State.SHARED) as host:
        if host is None or host.must_sync:
            return
        run = world.note(host.cdx("logout"))
        world.count("logouts")
        if run.status != 0:
            return
        host.state = State.LOGGED_OUT
        refused = world.note(host.exec())
        if refused.status == 0 or host.auth() is not None:
            world.saw(
                f"{host.name} has logged out, and yet: {refused}; the file is there: {host.auth() is not None}", host
            )
        if chance.random() < 0.5:
            comes_back(world, host)


def back(world: World, chance: random.Random) -> None:
    """A host that has logged out takes the fleet's login again."""
    with world.free_host(chance, State.LOGGED_OUT) as host:
        if host is not None:
            comes_back(world, host)


def comes_back(world: World, host: Host) -> None:
    """From logged out, by `cdx --wrapper-sync`."""
    run = world.note(host.cdx("--wrapper-sync"))
    if run.status == 0:
        host.state = State.SHARED


def plain_run(world: World, chance: random.Random) -> None:
    """Codex without `cdx`: it may fail with a token of yesterday, and does no harm."""
    with world.free_host(chance, State.SHARED) as host:
        if host is not None and not host.must_sync:
            world.note(host.codex("exec"))
            world.count("runs without cdx")


def in_the_background(world: World, chance: random.Random) -> None:
    """The background sync of a host, alone or beside a run, now and then killed; it changes no state of the host."""
    with world.free_host(chance, *WORKS, State.LOGGED_OUT, only_runs=True) as host:
        if host is None or host.must_sync:
            return
        notes = host.machine.home / ".codex" / ".cdx"
        if not notes.exists():
            return
        (notes / "watch.json").write_text(json.dumps({"by": "other", "what": "this test"}))
        kill = Kill.drawn(chance) if chance.random() < 0.2 else None
        doing = [lambda: world.note(host.cdx("--watch", "run", kill=kill, must_work=False))]
        if host.state in WORKS and chance.random() < 0.7:
            doing.append(lambda: world.note(host.exec(turns=2, pause=chance.uniform(0, 0.5))))
        at_once([functools.partial(_done, one) for one in doing])
        world.count("background syncs")
        if host.state is State.LOGGED_OUT and host.auth() is not None:
            world.saw(f"{host.name} has logged out, and yet the background sync has brought a login", host)
        if host.state is State.OWN:
            still_private(world, host)
        if not host.keeps and host.auth() is not None:
            world.note(host.exec())  # of one that was killed; the next run takes it away
            if host.auth() is not None:
                world.saw(f"{host.name} keeps a login that it may not", host)


def _done(work: Callable[[], object]) -> None:
    work()


def plain_log_out(world: World, chance: random.Random) -> None:
    """`codex logout` without `cdx`: it revokes what it finds, which is a grant."""
    with world.free_host(chance, State.SHARED) as host:
        if host is not None and not host.must_sync and host.holds_grant():
            world.note(host.codex("logout", must_work=True))
            world.count("logouts without cdx")
            world.note(host.exec())


def plain_log_in(world: World, chance: random.Random) -> None:
    """`codex login` without `cdx`, with the fleet's account; the next run brings it to the fleet.

    One that is dated too far ahead is not taken before its time has come; these tokens do not live so long.
    """
    with world.free_host(chance, State.SHARED) as host:
        if host is not None and not host.must_sync and host.holds_grant() and not host.is_dated_wrong:
            run = world.note(host.codex("login", must_work=True))
            world.count("logins without cdx")
            host.must_sync = run.status == 0
            synced(host, [world.note(host.exec())])


def private_log_in(world: World, chance: random.Random) -> None:
    """A login of another account: under `cdx` or without, it stays on its host, and works there."""
    with world.free_host(chance, State.SHARED) as host:
        if host is None or host.must_sync or not host.holds_grant():
            return
        if chance.random() < 0.5:
            run = world.note(host.cdx("login", env=OTHER_LOGIN))
        else:
            run = world.note(host.codex("login", must_work=True, env=OTHER_LOGIN))
        if run.status != 0:
            return
        world.count("private logins")
        host.state, host.private = State.OWN, host.auth()
        if host.tokens().get("account_id") != OTHER_ACCOUNT:
            world.saw(f"the private login of {host.name} is not in its file: {run}", host)
        world.note(host.exec())
        still_private(world, host)


def still_private(world: World, host: Host) -> None:
    """The private login must be in the file yet."""
    kept = (host.private or {}).get("tokens")
    if host.tokens() != kept:
        world.saw(f"the private login of {host.name} is gone from its file", host)


def private_log_out(world: World, chance: random.Random) -> None:
    """Back from a private login to the fleet's: `cdx logout`, and a sync."""
    with world.free_host(chance, State.OWN) as host:
        if host is not None:
            gives_private_up(world, host)


def gives_private_up(world: World, host: Host) -> None:
    still_private(world, host)
    run = world.note(host.cdx("logout"))
    if run.status == 0:
        host.state, host.private = State.LOGGED_OUT, None
        comes_back(world, host)


def moved(world: World, chance: random.Random) -> None:
    """A host calls from another address: it is refused until an admin unbinds it."""
    with world.free_host(chance, State.SHARED) as host:
        if host is None or host.must_sync or world.note(host.exec()).status != 0:
            return
        host.move()
        with _refused(world, host, State.MOVED):
            world.count("addresses changed")
        world.admin("POST", f"/admin/hosts/{host.id}/unbind")
        world.note(host.exec())


def disabled(world: World, chance: random.Random) -> None:
    """A host is disabled, and enabled again."""
    with world.free_host(chance, State.SHARED) as host:
        if host is None or host.must_sync:
            return
        world.admin("POST", f"/admin/hosts/{host.id}/disable")
        with _refused(world, host, State.DISABLED):
            world.count("hosts disabled")
        world.admin("POST", f"/admin/hosts/{host.id}/enable")
        world.note(host.exec())


@contextlib.contextmanager
def _refused(world: World, host: Host, state: State) -> Iterator[None]:
    """A run of a host that the server refuses."""
    host.state = state
    try:
        run = world.note(host.exec())
        if run.status == 0 and not world.was_away(run):
            world.saw(f"{host.name} is {state}, and yet: {run}", host)
        yield
    finally:
        host.state = State.SHARED


def synced(host: Host, runs: list[Run]) -> None:
    """After a run that has ended well nothing is left on the host that the fleet has, too."""
    if host.must_sync and all(run.status == 0 and not run.killed for run in runs) and host.holds_grant():
        host.must_sync = False


RUNS: list[tuple[Event, float]] = [(one_run, 8), (cron, 1.5), (two_in_one_home, 2)]
"""Only runs, on which nothing befalls."""
HARMLESS: list[tuple[Event, float]] = [
    *RUNS,
    (killed_run, 3),
    (log_in, 1),
    (logins_at_once, 0.5),
    (given_up_login, 1),
    (log_out, 1),
    (back, 0.7),
    (plain_run, 1),
    (in_the_background, 3),
    (plain_log_out, 0.5),
    (plain_log_in, 0.5),
    (private_log_in, 0.5),
    (private_log_out, 0.5),
    (moved, 0.5),
    (disabled, 0.5),
]
"""What happens on hosts."""
ALL: list[tuple[Event, float]] = [
    *HARMLESS,
    (killed_worker, 0.4),
    (killed_server, 0.4),
    (killed_in_a_refresh, 0.2),
    (provider_away, 0.3),
]
