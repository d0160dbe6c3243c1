"""`cdxsync db check` finds what is broken, by breaking it; `cdxsync db migrate`."""

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.support import macs
from tests.support.documents import make_auth
from tests.support.fleet import Fleet, run_cli, running_fleet
from tests.support.together import until


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with documents, an installer, a prompt, and usage of three days; nothing runs on it."""
    home = tmp_path_factory.mktemp("sound") / "home"
    with running_fleet(home) as fleet:
        fleet.upload(make_auth())
        fleet.upload(make_auth("2026-02-01T00:00:00Z", "two"))
        api_key = fleet.key("web.example.net")
        with fleet.client(api_key) as client:
            for number in range(6):
                body = {"usages": [{"total": number, "output": 2, "model": "m"}, {"line": "no numbers"}]}
                assert client.call("POST", "/usage", json=body).status_code == 200
        for text in ("Review.", "Review this."):
            fleet.cli("prompts", "store", "-", "--name", "review.md", input=text)
    # Spread over days, as rows and totals of them would be.
    days = ["2026-03-01", "2026-03-02", "2026-03-03"]
    with contextlib.closing(sqlite3.connect(home / "cdxsync.db")) as database, database:
        database.execute("DELETE FROM usage_days")
        for row, host, total, output, model in database.execute(
            "SELECT id, host_id, total, output_tokens, model FROM token_usages"
        ).fetchall():
            day = days[row % 3]
            database.execute(
                "UPDATE token_usages SET created_at = ? WHERE id = ?", (f"{day}T12:00:{row:02}+00:00", row)
            )
            database.execute(
                "INSERT INTO usage_days (host_id, day, model, total, input_tokens, output_tokens, cached_tokens,"
                " reasoning_tokens, events) VALUES (?, ?, ?, ?, 0, ?, 0, 0, 1) ON CONFLICT DO UPDATE SET"
                " total = total + excluded.total, output_tokens = output_tokens + excluded.output_tokens,"
                " events = events + 1",
                (host, day, model or "", total or 0, output or 0),
            )
    database.close()
    return home


def broken(sound: Path, tmp_path: Path, *statements: str) -> Path:
    home = tmp_path / "home"
    shutil.copytree(sound, home)
    with contextlib.closing(sqlite3.connect(home / "cdxsync.db")) as database, database:
        for statement in statements:
            database.execute(statement)
    database.close()
    macs.renew(home, {})  # what is tested here is seen by other checks
    return home


def check(home: Path) -> tuple[int, dict[str, Any]]:
    done = run_cli("--home", str(home), "--json", "db", "check", check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_sound_database(sound: Path) -> None:
    code, data = check(sound)
    assert (code, data["ok"], data["findings"]) == (0, True, [])
    assert data["checked"] == {
        "documents": 2,
        "installers": 1,
        "prompts": 1,
        "rows": 9,
        "usage_days": 3,
        "usage_days_since": "2026-03-01",
        "audit_rows": data["checked"]["audit_rows"],
    }
    assert data["checked"]["audit_rows"] > 5
    done = run_cli("--home", str(sound), "db", "check")
    assert done.stdout == ""
    assert "2 documents, 1 installers, 1 prompts, 3 days of usage, " in done.stderr
    assert "audit rows: no findings" in done.stderr


@pytest.mark.parametrize(
    ("statement", "finds"),
    [
        (
            "UPDATE auth_payloads SET body = substr(body, 1, length(body) - 8) || 'AAAAAAAA' WHERE id = 1",
            "body:1: cannot",
        ),
        (
            "UPDATE auth_payloads SET body = (SELECT body FROM auth_payloads WHERE id = 2) WHERE id = 1",
            "body:1: cannot",
        ),
        ("UPDATE auth_payloads SET body = 'cdx1:gone:AAAA' WHERE id = 2", "body:2: sealed with key 'gone'"),
        ("UPDATE auth_payloads SET sha256 = 'x' WHERE id = 1", "document 1: Validation failed: digest does not match"),
        ("UPDATE auth_entries SET token = 'clear' WHERE payload_id = 2", "auth_entries.token:2:api.openai.com: not a"),
        ("DELETE FROM auth_entries WHERE payload_id = 2", "document 2: its entries do not match its content"),
        ("UPDATE versions SET version = '77' WHERE name = 'canonical_payload_id'", "document '77' is missing"),
        ("DELETE FROM versions WHERE name = 'canonical_payload_id'", "no document is marked"),
        (
            "UPDATE install_tokens SET api_key = 'cdx1:gone:AAAA'",
            "installer of web.example.net: sealed with key 'gone'",
        ),
        ("UPDATE install_tokens SET token_sha256 = 'x'", "installer of web.example.net: its API key cannot be opened"),
        (
            "UPDATE slash_command_versions SET prompt = 'x'",
            "prompt review.md, earlier text 1: it does not match its digest",
        ),
        ("UPDATE slash_commands SET prompt = prompt || '!'", "prompt review.md: its text does not match its digest"),
        ("UPDATE token_usages SET host_id = 99 WHERE id = 1", "token_usages row 1 refers to a missing row of hosts"),
        ("UPDATE usage_days SET total = total + 1 WHERE day = '2026-03-02' AND model = 'm'", "usage of 2026-03-02"),
        ("DELETE FROM usage_days WHERE day = '2026-03-03' AND model = ''", "host 1, model none: events of the daily"),
        ("DELETE FROM token_usages WHERE created_at LIKE '2026-03-02%'", "usage of 2026-03-02"),
        ("UPDATE usage_days SET total = 0 WHERE day = '2026-03-01'", "is less than the sum of its rows"),
    ],
)
def test_what_is_broken_is_found(sound: Path, tmp_path: Path, statement: str, finds: str) -> None:
    code, data = check(broken(sound, tmp_path, statement))
    assert code == 1
    assert any(finds in finding["problem"] for finding in data["findings"]), data["findings"]
    for secret in make_auth()["tokens"].values():
        assert secret not in json.dumps(data)


def test_one_broken_thing_is_one_line(sound: Path, tmp_path: Path) -> None:
    done = run_cli(
        "--home", str(broken(sound, tmp_path, "UPDATE slash_commands SET prompt = 'x'")), "db", "check", check=False
    )
    assert done.returncode == 1
    assert done.stdout == "prompts: prompt review.md: its text does not match its digest\n"
    assert "cdxsync db restore" in done.stderr


@pytest.mark.parametrize(
    "statement",
    [
        # Pruned: a part of the oldest day, a whole day, everything.
        "DELETE FROM token_usages WHERE created_at < '2026-03-01T12:00:09'",
        "DELETE FROM token_usages WHERE created_at < '2026-03-02'",
        "DELETE FROM token_usages",
        # A deleted host leaves its rows and totals; another of that kind has totals for the same day.
        "DELETE FROM hosts",
    ],
)
def test_what_time_does_is_no_damage(sound: Path, tmp_path: Path, statement: str) -> None:
    code, data = check(broken(sound, tmp_path, "PRAGMA foreign_keys = ON", statement))
    assert (code, data["findings"]) == (0, [])


def test_tightened_rules_are_no_damage(sound: Path, tmp_path: Path) -> None:
    home = broken(sound, tmp_path)
    (home / "config.toml").write_text("token_min_length = 4000\n")
    assert check(home) == (0, check(sound)[1])


def test_files_that_cannot_be_read_at_all(sound: Path, tmp_path: Path) -> None:
    home = broken(sound, tmp_path)
    text = bytearray((home / "cdxsync.db").read_bytes())
    for first_bad_page in (12, 1, 0):
        text[4096 * first_bad_page :] = b"\xff" * (len(text) - 4096 * first_bad_page)
        (home / "cdxsync.db").write_bytes(text)
        code, data = check(home)
        assert code == 1
        assert "structure" in {finding["check"] for finding in data["findings"]}, first_bad_page


def test_it_changes_nothing_and_runs_beside_the_server(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth())
    with contextlib.closing(sqlite3.connect(fresh_fleet.home / "cdxsync.db")) as database, database:
        # The server's own first job is through.
        until(lambda: database.execute("SELECT 1 FROM jobs WHERE name = 'retention' AND runs > 0").fetchone())
        before = list(database.iterdump())
        assert check(fresh_fleet.home)[0] == 0
        assert list(database.iterdump()) == before


def test_migrating(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run_cli("--home", str(home), "init")
    assert json.loads(run_cli("--home", str(home), "--json", "db", "migrate").stdout) == {"applied": []}
    for path in home.glob("cdxsync.db*"):
        path.unlink()
    done = run_cli("--home", str(home), "db", "migrate").stdout.splitlines()
    assert done[0] == "m0001_initial"
    assert "up to date" in run_cli("--home", str(home), "db", "migrate").stderr
    assert run_cli("--home", str(tmp_path / "none"), "db", "migrate", check=False).returncode == 1
