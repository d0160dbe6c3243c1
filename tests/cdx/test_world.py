"""A world of hosts, servers and a provider in which everything happens at once: the fleet's login is never lost.

`WORLD_LIVES` says how many lives of an access token it goes through; a release is worth 1,000, with 20 hosts then.
`WORLD_SEED` repeats what a seed has drawn. With `-s`, or after a failure, the figures are shown.
"""

import os
from pathlib import Path

from tests.support import world_events
from tests.support.world import together, world

LIVES = int(os.environ.get("WORLD_LIVES", "5"))
SEED = int(os.environ.get("WORLD_SEED", "17"))


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
