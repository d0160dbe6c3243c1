"""A world of hosts, servers and a provider in which everything happens at once: the fleet's login is never lost.

`WORLD_LIVES` says how many lives of an access token two servers and 20 hosts go through; a release is worth 1,000.
`WORLD_SEED` has other events drawn. Figures are printed.
"""

import os
from pathlib import Path

from tests.support import engines, world_events, world_frame
from tests.support.world import World, together, world

LIVES = int(os.environ.get("WORLD_LIVES", "0"))
SEED = int(os.environ.get("WORLD_SEED", "17"))
TOLERATED, TOO_MUCH = 250, 400
"""Seconds by which a clock may be ahead of the server's, by its tolerance of 300, or is not to be believed."""


def test_where_hosts_refresh_the_login_is_lost(tmp_path: Path) -> None:
    """What this world is to see, it sees: cron starts `cdx` on all hosts at once, and they spend one token twice."""
    with world(tmp_path, {"CDXSYNC_REFRESH": "hosts"}, seed=SEED, hosts=6) as one:
        one.log_in()
        while not one.lost:
            together(one.hosts, lambda host: world_events.synced(host, [one.note(host.exec())]))
            assert one.provider.refreshes < 50
        assert one.lost
        assert one.dead_runs()
        assert [problem for problem in one.wrong() if problem.startswith("LOST")]


def goes_through(one: World, lives: int) -> None:
    """Hosts of all kinds, and all that may happen."""
    print(f"\nseed {one.seed}", flush=True)
    private = world_frame.lay_private_login(one, one.hosts[0])
    for host, ahead in zip(one.hosts[1:], (TOLERATED, TOO_MUCH, -3600), strict=False):
        host.set_clock(ahead)
    world_frame.keep_nothing(one, one.hosts[-1])
    one.log_in()
    one.note(one.hosts[0].exec())
    one.live(lives, world_events.ALL)
    world_frame.settle(one)
    private()
    print(one.table())
    assert one.wrong() == []


def test_with_one_server(tmp_path: Path) -> None:
    with world(tmp_path, {"CDXSYNC_WORKERS": "2"}, seed=SEED, hosts=5) as one:
        goes_through(one, 3)


def test_with_two_servers(tmp_path: Path, database_servers: engines.Servers) -> None:
    env = database_servers.engine("postgres").environment() | {"CDXSYNC_WORKERS": "2"}
    with world(tmp_path, env, seed=SEED + 1, hosts=20 if LIVES else 6, servers=2) as one:
        goes_through(one, LIVES or 3)
