"""A fleet that gives its login's refresh token to no host, whatever the host says."""

from pathlib import Path
from typing import Any

from tests.support.calls import OLD, ZERO, logs
from tests.support.fleet import running_fleet
from tests.support.provider import running_provider


def test_a_client_without_grants_gets_nothing(tmp_path: Path) -> None:
    with (
        running_provider() as provider,
        running_fleet(tmp_path / "home", env=provider.environment() | {"CDXSYNC_GRANTS_ONLY": "1"}) as fleet,
    ):
        login = provider.login()
        fleet.upload(login)
        with fleet.client(fleet.key("old.example.net")) as old:
            calls: list[dict[str, Any]] = [
                {},
                {"accepts": []},
                {"accepts": "grant"},
                {"command": "store", "auth": login},
            ]
            for more in calls:
                answer = old.auth(**{"last_refresh": OLD, "digest": ZERO, **more})
                assert (answer.status_code, answer.json()["code"]) == (403, "grant_required")
                assert login["tokens"]["refresh_token"] not in answer.text
            given = old.auth(last_refresh=OLD, digest=ZERO, accepts=["grant"]).json()["data"]["auth"]
        assert given["tokens"]["refresh_token"].startswith("cdxr_")
        assert [row["reason"] for row in logs(fleet, "auth.refused")] == ["takes no grant"] * 4
        host = fleet.host("old.example.net")
        assert (host["api_calls"], host["holds"]) == (5, "grant")


def test_where_hosts_refresh_it_changes_nothing(tmp_path: Path) -> None:
    environment = {"CDXSYNC_REFRESH": "hosts", "CDXSYNC_GRANTS_ONLY": "1"}
    with running_provider() as provider, running_fleet(tmp_path / "home", env=environment) as fleet:
        fleet.upload(login := provider.login())
        with fleet.client(fleet.key("old.example.net")) as old:
            given = old.auth(last_refresh=OLD, digest=ZERO).json()["data"]["auth"]
        assert given["tokens"]["refresh_token"] == login["tokens"]["refresh_token"]
