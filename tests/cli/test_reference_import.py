"""Taking over the reference implementation's database: its hosts go on calling, and nothing is lost unsaid."""

import contextlib
import io
import json
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdxsync.base.errors import Failed
from cdxsync.ops.import_reference.activity_rows import details
from cdxsync.ops.import_reference.dump import Dump, Row
from cdxsync.ops.import_reference.secretbox import read_key
from cdxsync.ops.import_reference.stage import Stage
from cdxsync.ops.import_reference.tokens import Tokens
from tests.support import DATA
from tests.support import reference_dump as old
from tests.support.documents import jwt
from tests.support.fleet import BASE_ENVIRONMENT, run_cli, running_fleet

REAL = DATA / "reference.sql"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / ".env"
    path.write_text(f'DB_HOST=mysql\n# AUTH_ENCRYPTION_KEY=old\nAUTH_ENCRYPTION_KEY="{old.KEY_TEXT}"\n')
    return path


def import_(home: Path, text: str, key_file: Path | None, *more: str) -> subprocess.CompletedProcess[str]:
    key = ("--encryption-key-file", str(key_file)) if key_file else ()
    return run_cli("--home", str(home), "--json", "db", "import-reference", "-", *key, *more, input=text, check=False)


def skipped(data: dict[str, Any]) -> dict[tuple[str, str], int]:
    return {(entry["table"], entry["reason"].split(" (")[0]): entry["count"] for entry in data["skipped"]}


@pytest.mark.parametrize("complete", [False, True])
def test_the_fleet_goes_on(tmp_path: Path, key_file: Path, complete: bool) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text('public_url = "https://cdx.example.net"\n')
    done = import_(home, old.dump(old.rows(recent=now()), complete=complete), key_file)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["imported"] == {
        "hosts": 2,
        "auth_payloads": 3,
        "auth_entries": 3,
        "host_auth_states": 1,
        "host_auth_digests": 3,
        "install_tokens": 1,
        "token_usages": 4,
        "slash_commands": 1,
        "versions": 2,
        "logs": 3,
    }
    assert skipped(data) == {
        ("host_auth_digests", "beyond the newest 3 of its host"): 2,
        ("versions", "this server finds it again"): 1,
    }
    assert (data["other_tables"], data["dry_run"]) == (["pricing_snapshots"], False)
    assert run_cli("--home", str(home), "db", "check").returncode == 0
    raw = b"".join(path.read_bytes() for path in home.glob("cdxsync.db*"))
    for secret in (*old.API_KEYS.values(), old.NEWEST["tokens"]["access_token"], jwt("in a log")):
        assert secret.encode() not in raw
    with running_fleet(home) as fleet:
        # A host that may roam calls with its old key, and holds the canonical document.
        with fleet.client(old.API_KEYS[1]) as client:
            claim = {"last_refresh": old.NEWEST["last_refresh"], "digest": old.sha256(old.compact(old.NEWEST))}
            answer = client.auth(**claim, client_version="0.63.0", wrapper_version="2025.11.20-1").json()["data"]
            assert (answer["status"], answer["api_calls"]) == ("valid", 8)
            assert (answer["token_usage_month"]["total"], answer["token_usage_month"]["events"]) == (42, 2)
            prompt = client.call("POST", "/slash-commands/retrieve", json={"filename": "review.md"}).json()["data"]
            assert (prompt["prompt"], prompt["sha256"]) == (old.PROMPT_HERE, old.sha256(old.PROMPT_HERE))
            assert (prompt["argument_hint"], prompt["description"]) == ("[FILE]", 'It\'s "quoted"')
        with fleet.client(old.API_KEYS[2]) as client:
            refused = client.auth(**claim)
            assert (refused.status_code, refused.json()["message"]) == (403, "Host is disabled")
            # Its installer, which was not run yet, still works, and leads to this server.
            script = client.call("GET", f"/install/{old.rows()['install_tokens'][0]['token']}")
            assert script.status_code == 200
            assert "https://cdx.example.net" in script.text
            assert "old.example.net" not in script.text
        assert fleet.canonical() == old.NEWEST
        first, second = fleet.host("web1.example.net"), fleet.host("2")
        assert (first["id"], first["allow_roaming_ips"], first["token_usage"]["total"]) == (1, True, 30)
        assert first["canonical_digest"] == claim["digest"]
        assert (second["ip"], second["status"]) == ("10.0.0.2", "disabled")
        overview = fleet.admin_call("GET", "/admin/overview")
        assert (overview["tokens"]["total"], overview["tokens"]["top_host"]["total"]) == (47, 42)
        lines = {row["line"]: row for row in fleet.admin_call("GET", "/admin/tokens")["tokens"]}
        assert lines[old.LINE]["total"] == 12
        assert set(lines) == {old.LINE, "Token usage: a line without numbers"}
        assert [row["id"] for row in fleet.admin_call("GET", "/admin/auth/history")["history"]] == [3, 2, 1]
        assert fleet.admin_call("GET", "/admin/api/state") == {"disabled": True}
        logs = fleet.admin_call("GET", "/admin/logs?limit=500")["logs"]
        imported = [row for row in logs if row["actor"] == "import"]
        assert [row["action"] for row in reversed(imported)] == [
            "auth.store",
            "admin.install_token.create",
            "auth.validate",
        ]
        assert json.loads(imported[0]["details"])["reason"] == "cdx said (removed) and (removed)"
        fleet.cli("auth", "rollback", "1", "--yes")
        assert fleet.register("web3.example.net")["host"]["id"] == 3


def test_a_real_dump_of_mariadb(tmp_path: Path, key_file: Path) -> None:
    home = tmp_path / "home"
    key = ("--encryption-key-file", str(key_file))
    done = run_cli("--home", str(home), "db", "import-reference", str(REAL), *key, "--dry-run")
    assert "hosts\t2\n" in done.stdout
    assert "Left out 3 of logs: older than 90 days (setting keep_log_days)" in done.stderr
    assert "Not read: pricing_snapshots" in done.stderr
    assert done.stderr.endswith("Nothing was changed\n")
    assert not home.exists()
    run_cli("--home", str(home), "db", "import-reference", str(REAL), *key)
    prompt = json.loads(run_cli("--home", str(home), "--json", "prompts", "show", "review.md").stdout)
    assert prompt["prompt"] == old.PROMPT_HERE
    shown = run_cli("--home", str(home), "auth", "show", "--include-body").stdout
    assert json.loads(shown) == old.NEWEST
    # What mysqldump writes is what the helper of these tests imitates.
    wanted = old.rows()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted if name != "pricing_snapshots"}
    with REAL.open("rb") as file:
        for row in Dump(Tokens(file, "real"), found).rows():
            found[row.table].append(row.values)
    by_name = {name: sorted(rows, key=lambda row: str(next(iter(row.values())))) for name, rows in wanted.items()}
    assert found == {name: by_name[name] for name in found}


def test_only_into_a_home_without_hosts(tmp_path: Path, key_file: Path) -> None:
    home = tmp_path / "home"
    text = old.dump(old.rows())
    run_cli("--home", str(home), "init", "--public-url", "https://localhost:1")
    with running_fleet(home):
        done = import_(home, text, key_file)
        assert done.returncode == 4
        assert "is in use. Stop cdxsync serve" in done.stderr
    # A server has run: its jobs and audit rows are not in the way, a host is.
    assert import_(home, text, key_file, "--dry-run").returncode == 0
    assert json.loads(run_cli("--home", str(home), "--json", "hosts", "list").stdout) == {"hosts": []}
    run_cli("--home", str(home), "hosts", "register", "new.example.net")
    for more in ((), ("--dry-run",)):
        done = import_(home, text, key_file, *more)
        assert done.returncode == 4
        assert "is not empty (hosts, install_tokens)" in done.stderr
    assert "new.example.net" in run_cli("--home", str(home), "hosts", "list").stdout


def changed(table: str, **values: Any) -> str:
    content = old.rows(recent=now())
    content[table][-1].update(values)
    return old.dump(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no row of the table hosts"),
        ("PK\x03\x04 not a dump", "has no row of the table hosts"),
        (
            "INSERT INTO `hosts` VALUES (1);",
            "line 1: the columns of hosts are unknown. Dump it with its CREATE TABLE",
        ),
        ("\n\nINSERT INTO hosts (id, fqdn) VALUES (1,'a'),(2);", "line 3: a row of hosts has 1 values for 2 columns"),
        ("INSERT INTO hosts (id) VALUES (1),\n(2", "line 2: the dump is truncated: the end of a row is missing"),
        ("INSERT INTO hosts (id) VALUES\n('abc", "line 2: a quoted text or comment has no end"),
        ("/* comment", "line 1: a quoted text or comment has no end"),
        ("INSERT INTO hosts (id) VALUES (1) (2);", "expected , or ; after a row"),
        ("INSERT INTO hosts (id) VALUES (NOW());", "expected a value"),
        ("INSERT INTO hosts (id) VALUES (0xFF);", "a text is not UTF-8"),
        ("INSERT INTO hosts (id) VALUES (" + "9" * 5000 + ");", "expected a value"),
        ("INSERT INTO hosts (id) SELECT 1;", "INSERT without VALUES"),
        ("INSERT INTO hosts (" + "id," * 2000 + "id) VALUES (1);", "column names of INSERT cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named_by_line(tmp_path: Path, key_file: Path, text: str, message: str) -> None:
    done = import_(tmp_path / "home", text, key_file)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home").exists()


def test_keys_of_encryption(tmp_path: Path, key_file: Path) -> None:
    text = old.dump(old.rows())
    wrong = tmp_path / "wrong"
    wrong.write_text("A" * 43 + "=")
    none = tmp_path / "none"
    none.write_text("AUTH_ENCRYPTION_KEY=short")
    home = tmp_path / "home"
    for key, message in (
        (None, "The dump has encrypted values. Add --encryption-key-file FILE"),
        (wrong, "opens none of the encrypted documents"),
        (none, "has no AUTH_ENCRYPTION_KEY: base64 of exactly 32 bytes"),
        (tmp_path / "absent", "No such file"),
    ):
        done = import_(home, text, key)
        assert done.returncode == 1
        assert message in done.stderr
        assert not home.exists()
    # Without PyNaCl plain values still come in, and encrypted ones say what is missing.
    hide = "import sys; sys.modules['nacl'] = None; from cdxsync.cli import main; main.run()"
    arguments = ["--home", str(home), "db", "import-reference", str(REAL), "--encryption-key-file", str(key_file)]
    done = subprocess.run(
        [sys.executable, "-c", hide, *arguments], capture_output=True, text=True, env=BASE_ENVIRONMENT
    )
    assert done.returncode == 1
    assert "pip install 'cdxsync[reference]'" in done.stderr
    content = old.rows()
    for row, document in zip(content["auth_payloads"], (old.BARE, old.OLDER, old.NEWEST), strict=True):
        row["body"] = old.compact(document)
    assert import_(home, old.dump(content), None).returncode == 0
    shown = run_cli("--home", str(home), "auth", "show", "--include-body").stdout
    assert json.loads(shown) == old.NEWEST
    assert (
        read_key(f"export AUTH_ENCRYPTION_KEY='{old.KEY_TEXT}'\n", "x") == read_key(old.KEY_TEXT + "\n", "x") == old.KEY
    )


@pytest.mark.parametrize(
    ("table", "values", "reason"),
    [
        ("hosts", {"fqdn": "10.0.0.7"}, "fqdn must be a name, not an address or a number; register it"),
        ("hosts", {"fqdn": "a b$(reboot)"}, "fqdn must be a host name"),
        ("hosts", {"api_key": None}, "has no readable API key"),
        ("hosts", {"api_key": old.API_KEYS[1]}, "another host has its id, name or API key"),
        ("hosts", {"fqdn": "WEB1.example.net."}, "another host has its id, name or API key"),
        ("hosts", {"id": 2**40}, "id is not a whole number"),
        ("hosts", {"created_at": "soon"}, "created_at is not a date"),
        ("auth_payloads", {"sha256": "0" * 64}, "its content does not match its digest"),
        ("auth_payloads", {"body": "{"}, "its body is not JSON"),
        ("auth_payloads", {"body": "sbox:v1:AAAA"}, "the key does not open it"),
        ("auth_payloads", {"body": old.compact({"last_refresh": "yesterday", "auths": {}})}, "not a valid document"),
        ("auth_payloads", {"body": None, "id": 77}, "has neither a body nor entries"),
        ("token_usages", {"total": -1}, "total must be a whole number"),
        ("token_usages", {"line": None}, " needs at least one of total"),
        ("token_usages", {"id": 5}, "another row has its id"),
        ("slash_commands", {"filename": "../x"}, "filename must be 1 to 255"),
        ("slash_commands", {"prompt": "x" * 300_000}, "prompt must have at most 262144 bytes"),
        ("install_tokens", {"api_key": old.API_KEYS[1]}, "its host is not imported, or has another key"),
        ("install_tokens", {"used_at": old.DATED}, "used or expired"),
        ("host_auth_states", {"payload_id": 99}, "its host or its document is not imported"),
        ("logs", {"created_at": None}, "created_at is not a date"),
    ],
)
def test_what_is_left_out_is_told(
    tmp_path: Path, key_file: Path, table: str, values: dict[str, Any], reason: str
) -> None:
    """One bad row is left out, with the reason; the rest comes in, and agrees with itself."""
    home = tmp_path / "home"
    done = import_(home, changed(table, **values), key_file)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    found = [entry for entry in data["skipped"] if entry["table"] == table and reason in entry["reason"]]
    assert [entry["count"] for entry in found] == [1], data["skipped"]
    assert "line " in found[0]["examples"][0]
    for secret in old.API_KEYS.values():
        assert secret not in done.stdout
    if table == "auth_payloads" and "id" not in values:
        assert data["notes"] == [
            "document 3 was canonical, but was not imported; document 2, the newest, is now",
            "prompt Review.md had the character U+0000, which was removed",
        ]


def test_only_the_newest_documents_and_the_canonical_one(tmp_path: Path, key_file: Path) -> None:
    content = old.rows()
    content["versions"][0]["version"] = "1"
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text('public_url = "https://localhost:1"\npayload_history = 1\n')
    data = json.loads(import_(home, old.dump(content), key_file).stdout)
    assert data["imported"]["auth_payloads"] == 2
    assert skipped(data)["auth_payloads", "beyond the newest 1"] == 1
    with contextlib.closing(sqlite3.connect(home / "cdxsync.db")) as database, database:
        assert database.execute("SELECT id FROM auth_payloads ORDER BY id").fetchall() == [(1,), (3,)]
    shown = run_cli("--home", str(home), "auth", "show", "--include-body").stdout
    assert json.loads(shown) == old.BARE


class Trickle(io.RawIOBase):
    """A source that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self.file = io.BytesIO(data)
        self.step = step

    def read(self, size: int = -1) -> bytes:
        return self.file.read(self.step)


def parse(text: bytes, step: int = 1 << 20) -> Iterator[Row]:
    return Dump(Tokens(Trickle(text, step), "dump"), {"t"}).rows()  # type: ignore[arg-type]


VALUES = st.none() | st.integers(-(2**63), 2**64) | st.text(max_size=40)


@settings(max_examples=200)
@given(
    rows=st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=1, max_size=5),
    step=st.integers(1, 50),
    noise=st.sampled_from(
        ["", "-- a comment ' (\n", "/*!40101 SET x='\"' */;\n", "INSERT INTO `u` VALUES (');');\n", "#;\n"]
    ),
)
def test_any_value_is_read_as_it_was_written(rows: list[list[Any]], step: int, noise: str) -> None:
    named = [dict(zip("abc", row, strict=True)) for row in rows]
    text = noise + old.insert("t", named, " (`a`, `b`, `c`)") + noise
    found = list(parse(text.encode(), step))
    assert [row.values for row in found] == named
    lines = text.split("\n")
    assert all(lines[row.line - 1].startswith("(") for row in found)


@settings(max_examples=300)
@given(data=st.data())
def test_damage_ends_in_rows_or_in_one_clear_error(data: st.DataObject) -> None:
    text = bytearray(old.dump({"hosts": old.rows()["hosts"]}).replace("`hosts`", "`t`").encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place : place + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"'", b"\\", b"(", b")", b";", b"/*", b"`", b'"', b"--", b"0x"])
        )
    try:
        for row in parse(bytes(text), data.draw(st.sampled_from([7, 1 << 20]))):
            assert all(isinstance(value, str | int | None) for value in row.values.values())
    except Failed as error:
        assert error.message.startswith("dump, line ")


def test_memory_does_not_grow_with_the_dump() -> None:
    def source(rows: int) -> Iterator[bytes]:
        yield b"INSERT INTO `token_usages` (id, line) VALUES\n"
        for number in range(1, rows):
            yield b"(%d,'%s'),\n" % (number, b"x" * 200)
        yield b"(0,NULL);\n"

    class Lines(io.RawIOBase):
        def __init__(self, rows: int) -> None:
            self.lines = source(rows)

        def read(self, size: int = -1) -> bytes:
            return next(self.lines, b"")

    peaks = []
    for rows in (2_000, 20_000):
        stage = Stage()
        tracemalloc.start()
        for row in Dump(Tokens(Lines(rows), "dump"), {"token_usages"}).rows():  # type: ignore[arg-type]
            stage.add(row)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert stage.total() == rows
        stage.close()
    assert peaks[1] < peaks[0] * 1.5


@pytest.mark.parametrize("value", [None, "", "  ", "{", "[" * 100_000, 7])
def test_details_that_are_none(value: object) -> None:
    assert details(value) is None
