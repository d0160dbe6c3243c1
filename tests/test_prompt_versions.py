"""The texts that prompts have had, through the API, the command line and the database."""

import hashlib
import json
import sqlite3
from typing import Any

import pytest
from conftest import Fleet

from cdxsync.domain.prompt_versions import KEPT

PATH = "/admin/slash-commands"


def store(fleet: Fleet, name: str, text: str) -> None:
    fleet.admin_call("POST", f"{PATH}/store", json={"filename": name, "prompt": text})


def history(fleet: Fleet, name: str, query: str = "") -> list[dict[str, Any]]:
    return fleet.admin_call("GET", f"{PATH}/{name}/history{query}")["history"]  # type: ignore[no-any-return]


def texts(fleet: Fleet, name: str) -> list[str | None]:
    rows = history(fleet, name)
    return [fleet.admin_call("GET", f"{PATH}/{name}/history/{row['id']}")["prompt"] for row in rows]


def test_every_text_is_kept_with_who_stored_it_and_outlives_the_prompt(fleet: Fleet) -> None:
    store(fleet, "Life.md", "one")
    with fleet.client(fleet.key("life.example.net")) as host:
        assert host.call("POST", "/slash-commands/store", json={"filename": "life.md", "prompt": "two"}).ok
    store(fleet, "life.md", "one")
    store(fleet, "life.md", "one")  # unchanged: no version
    fleet.admin_call("DELETE", f"{PATH}/life.md")
    rows = history(fleet, "LIFE.md")
    assert [row["status"] for row in rows] == ["deleted", "updated", "updated", "created"]
    assert [row["source"].partition("#")[0] for row in rows] == [
        "cert:CN=admin",
        "cert:CN=admin",
        "host:life.example.net",
        "cert:CN=admin",
    ]
    assert texts(fleet, "life.md") == [None, "one", "two", "one"]
    assert [row["sha256"] for row in rows[1:]] == [
        hashlib.sha256(text).hexdigest() for text in (b"one", b"two", b"one")
    ]

    assert fleet.cli("prompts", "show", "life.md", "--version", str(rows[2]["id"])).stdout == "two"
    refused = fleet.cli("prompts", "show", "life.md", "--version", str(rows[0]["id"]), check=False)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "was deleted" in refused.stderr
    assert json.loads(fleet.cli("--json", "prompts", "history", "life.md").stdout)["history"] == rows
    store(fleet, "life.md", "three")
    assert [row["status"] for row in history(fleet, "life.md", "?limit=2")] == ["created", "deleted"]


def test_what_is_shown_of_a_prompt_is_no_text(fleet: Fleet) -> None:
    store(fleet, "shown.md", "text")
    fleet.admin_call("POST", f"{PATH}/store", json={"filename": "shown.md", "prompt": "text", "description": "new"})
    assert len(history(fleet, "shown.md")) == 1


def test_the_newest_are_kept_and_listed_in_pages(fleet: Fleet) -> None:
    for number in range(KEPT + 3):
        store(fleet, "many.md", f"text {number}")
    page = fleet.admin_call("GET", f"{PATH}/many.md/history?limit={KEPT - 1}")
    rest = fleet.admin_call("GET", f"{PATH}/many.md/history?before={page['next_before']}")
    assert (len(page["history"]), len(rest["history"]), rest["next_before"]) == (KEPT - 1, 1, None)
    oldest = fleet.admin_call("GET", f"{PATH}/many.md/history/{rest['history'][0]['id']}")
    assert oldest["prompt"] == "text 3"


def test_a_text_that_came_another_way_is_kept_before_it_is_replaced(fleet: Fleet) -> None:
    """Imports, and servers of an older version, store prompts and write no versions."""
    store(fleet, "older.md", "one")
    with sqlite3.connect(fleet.home / "cdxsync.db") as database:
        changed = ("between", hashlib.sha256(b"between").hexdigest())
        database.execute("UPDATE slash_commands SET prompt = ?, sha256 = ? WHERE filename = 'older.md'", changed)
    database.close()
    store(fleet, "older.md", "two")
    assert texts(fleet, "older.md") == ["two", "between", "one"]
    assert history(fleet, "older.md")[1]["source"] == "unknown"


def test_a_prompt_from_before_there_were_versions(fleet: Fleet) -> None:
    store(fleet, "ancient.md", "one")
    with sqlite3.connect(fleet.home / "cdxsync.db") as database:
        database.execute("DELETE FROM prompt_versions WHERE filename_key = 'ancient.md'")
    database.close()
    assert history(fleet, "ancient.md") == []
    fleet.admin_call("DELETE", f"{PATH}/ancient.md")
    assert texts(fleet, "ancient.md") == [None, "one"]


@pytest.mark.parametrize("path", ["never.md/history", "never.md/history/1", "there.md/history/99999999"])
def test_what_is_not_there(fleet: Fleet, path: str) -> None:
    store(fleet, "there.md", "one")
    with fleet.client(certificate="admin") as client:
        response = client.call("GET", f"{PATH}/{path}")
    assert response.status_code == 404
    assert "never.md" in response.json()["message"] or "there.md" in response.json()["message"]


def test_a_version_is_found_under_its_own_name_only(fleet: Fleet) -> None:
    store(fleet, "mine.md", "one")
    store(fleet, "other.md", "one")
    mine = history(fleet, "mine.md")[0]["id"]
    with fleet.client(certificate="admin") as client:
        assert client.call("GET", f"{PATH}/other.md/history/{mine}").status_code == 404


def test_a_damaged_version_is_found_by_the_check(fresh_fleet: Fleet) -> None:
    store(fresh_fleet, "hurt.md", "one")
    with sqlite3.connect(fresh_fleet.home / "cdxsync.db") as database:
        database.execute("UPDATE prompt_versions SET prompt = 'other'")
    database.close()
    done = fresh_fleet.cli("db", "check", check=False)
    assert done.returncode == 1
    assert "hurt.md, version 1" in done.stdout + done.stderr
