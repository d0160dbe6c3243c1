"""An id that a deleted row had is given to no other, on every engine."""

import pytest

from tests.support.fleet import Fleet

pytestmark = pytest.mark.every_engine


def test_the_id_of_a_deleted_host_is_never_used_again(fresh_fleet: Fleet) -> None:
    fresh_fleet.register("kept.example.net")
    gone = fresh_fleet.register("gone.example.net")["host"]["id"]
    fresh_fleet.admin_call("DELETE", f"/admin/hosts/{gone}")
    assert fresh_fleet.register("next.example.net")["host"]["id"] == gone + 1
    fresh_fleet.admin_call("DELETE", f"/admin/hosts/{gone + 1}")
    fresh_fleet.stop()
    fresh_fleet.start()
    assert fresh_fleet.register("after.example.net")["host"]["id"] == gone + 2
