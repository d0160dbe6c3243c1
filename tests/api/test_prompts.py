"""Slash-command prompts through the API and the command line."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.prompts import catalog
from tests.support.fleet import Client, Fleet

pytestmark = pytest.mark.every_engine

TEXT = "---\ndescription: Review a change\nargument-hint: '[FILE]'\n---\nReview $1, please. Zoë 😀\r\n"
SHA = hashlib.sha256(TEXT.encode()).hexdigest()


def post(client: Client, path: str, status: int = 200, **body: Any) -> dict[str, Any]:
    response = client.call("POST", f"/slash-commands/{path}", json=body)
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer["data"] if status == 200 else answer["errors"]  # type: ignore[no-any-return]


def test_the_life_of_a_prompt(fresh_fleet: Fleet) -> None:
    with fresh_fleet.client(fresh_fleet.key("a.example.net")) as one, fresh_fleet.client(fresh_fleet.key("b")) as two:
        assert post(one, "retrieve", filename="review.md") == {"status": "missing", "filename": "review.md"}
        data = post(one, "store", filename=" review.md ", prompt=TEXT, sha256=SHA.upper())
        assert set(data) == {"status", "filename", "sha256", "updated_at"}
        assert (data["status"], data["filename"], data["sha256"]) == ("created", "review.md", SHA)
        assert post(two, "store", filename="review.md", prompt=TEXT)["status"] == "unchanged"

        data = post(two, "retrieve", filename="REVIEW.md")
        assert data["status"] == "updated"
        assert data["prompt"] == TEXT
        assert data["description"] == "Review a change"
        assert data["argument_hint"] == "[FILE]"
        data = post(two, "retrieve", filename="review.md", sha256=SHA)
        assert data["status"] == "unchanged"
        assert "prompt" not in data
        assert post(two, "retrieve", filename="review.md", sha256="0" * 64)["prompt"] == TEXT
        assert post(two, "retrieve", filename="review.md", sha256=None)["status"] == "updated"

        data = post(two, "store", filename="review.md", content="other", description="", argument_hint=" X\x1b[0m ")
        assert data["status"] == "updated"
        data = post(one, "retrieve", filename="review.md")
        assert (data["prompt"], data["description"], data["argument_hint"]) == ("other", "", "X")
        assert post(one, "store", filename="review.md", prompt="other")["status"] == "updated"

        commands = one.call("GET", "/slash-commands").json()["data"]["commands"]
        assert [set(command) for command in commands] == [
            {"id", "filename", "sha256", "description", "argument_hint", "updated_at"}
        ]


def test_an_unchanged_list_costs_one_small_answer(fresh_fleet: Fleet) -> None:
    with fresh_fleet.client(fresh_fleet.key("a.example.net")) as client:

        def listed(tag: str | None = None) -> tuple[int, str, bytes]:
            headers = {"If-None-Match": tag} if tag else {}
            response = client.call("GET", "/slash-commands", headers=headers)
            return response.status_code, response.headers["ETag"], response.content

        status, empty_tag, _ = listed()
        assert status == 200
        assert listed(empty_tag) == (304, empty_tag, b"")
        post(client, "store", filename="b.md", prompt="b")
        post(client, "store", filename="a.md", prompt="a")
        status, tag, body = listed(empty_tag)
        assert status == 200
        assert [command["filename"] for command in json.loads(body)["data"]["commands"]] == ["a.md", "b.md"]
        assert listed(f'W/{tag}, "other"')[0] == 304
        post(client, "store", filename="a.md", prompt="a")
        assert listed(tag)[0] == 304
        fresh_fleet.cli("prompts", "delete", "a.md", "--yes")
        status, _, body = listed(tag)
        assert status == 200
        assert [command["filename"] for command in json.loads(body)["data"]["commands"]] == ["b.md"]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"filename", "prompt"}),
        ({"filename": "a.md", "prompt": "  "}, {"prompt"}),
        ({"filename": "a.md", "prompt": 5}, {"prompt"}),
        ({"filename": "a.md", "prompt": "x" * (256 * 1024 + 1)}, {"prompt"}),
        ({"filename": "a.md", "prompt": "x", "sha256": "0" * 64}, {"sha256"}),
        ({"filename": "a.md", "prompt": "x", "sha256": "xyz"}, {"sha256"}),
        ({"filename": "a.md", "prompt": "x", "description": 5}, {"description"}),
        ({"filename": "a.md", "prompt": "x", "argument_hint": "h" * 256}, {"argument_hint"}),
        ({"filename": 5, "prompt": "x"}, {"filename"}),
        *(
            ({"filename": name, "prompt": "x"}, {"filename"})
            for name in ("../a.md", "a/b.md", "a..b", ".hidden", ".", "..", "a b", "ä.md", "a\0", "x" * 256, "a\\b", "")
        ),
    ],
)
def test_bad_prompts_are_refused(fleet: Fleet, body: dict[str, Any], fields: set[str]) -> None:
    with fleet.client(fleet.key("bad.example.net")) as client:
        assert set(post(client, "store", 422, **body)) == fields
        if "filename" in fields:
            assert set(post(client, "retrieve", 422, **body)) >= {"filename"}
        assert set(post(client, "retrieve", 422, filename="a.md", sha256="xyz")) == {"sha256"}


@given(st.text())
def test_file_names_stay_in_their_folder(text: str) -> None:
    try:
        name = catalog.check_filename(text)
    except ValueError:
        return
    assert Path("/prompts", name).resolve().parent == Path("/prompts")
    assert not name.startswith(".")


@pytest.mark.sqlite_only("the command line asks the same functions as the API")
def test_the_command_line(fresh_fleet: Fleet, tmp_path: Path) -> None:
    cli = fresh_fleet.cli
    assert "cdxsync prompts store" in cli("prompts", "list").stderr
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "one.md").write_text(TEXT, newline="")
    (folder / "two.md").write_text("Two")
    (folder / "note.txt").write_text("not a prompt")
    assert cli("prompts", "import", str(folder)).stderr == "one.md: created\ntwo.md: created\n"
    assert (
        json.loads(cli("--json", "slash-commands", "import", str(folder)).stdout)["commands"][0]["status"]
        == "unchanged"
    )
    assert cli("prompts", "show", "two.md").stdout == "Two"
    shown = json.loads(cli("prompts", "show", "one.md", "--json").stdout)
    assert shown["prompt"] == TEXT
    assert shown["sha256"] == SHA
    assert cli("prompts", "store", "-", "--name", "three.md", input="Three").stderr == "three.md: created\n"
    assert cli("prompts", "store", str(folder / "two.md"), "--name", "three.md").stderr == "three.md: updated\n"
    assert cli("prompts", "list").stdout.splitlines()[0].split("\t")[:3] == ["one.md", "Review a change", "[FILE]"]

    (folder / "bad name.md").write_text("x")
    (folder / "two.md").write_text("Two again")
    done = cli("prompts", "import", str(folder), check=False)
    assert done.returncode == 2
    assert "bad name.md" in done.stderr
    assert cli("prompts", "show", "two.md").stdout == "Two"
    (folder / "latin.md").write_bytes(b"caf\xe9")
    assert "UTF-8" in cli("prompts", "store", str(folder / "latin.md"), check=False).stderr
    assert cli("prompts", "store", "-", input="x", check=False).returncode == 2
    assert cli("prompts", "store", str(folder / "none.md"), check=False).returncode == 1
    assert cli("prompts", "import", str(tmp_path / "none"), check=False).returncode == 1
    assert cli("prompts", "show", "none.md", check=False).returncode == 3
    assert cli("prompts", "delete", "two.md", check=False).returncode == 4
    assert cli("prompts", "delete", "TWO.md", "--yes").stderr == "Deleted two.md\n"
    assert cli("prompts", "show", "two.md", check=False).returncode == 3
