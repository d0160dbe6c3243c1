"""Moving a fleet to another database: all rows arrive as they were, or nothing does."""

import contextlib
import hashlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import forkserver
from tests.support.documents import make_auth, with_auths
from tests.support.engines import Engine, Servers
from tests.support.fleet import BASE_ENVIRONMENT, run_cli, running_fleet

Line = dict[str, Any]


class Exported:
    """A fleet with something in most tables, exported with its keys and without."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        with running_fleet(self.home) as fleet:
            fleet.upload(make_auth("2025-01-01T00:00:00Z", "older"))
            fleet.upload(make_auth())
            self.key = fleet.key("a.example.net")
            gone = fleet.key("gone.example.net")
            usages = [{"total": 5, "model": "gpt-5.1"}, {"line": 'Zoë 😀 \\ " 100', "total": 2}, {"line": "\\u0000"}]
            for number, api_key in enumerate((self.key, gone)):
                with fleet.client(api_key) as client:
                    client.auth(command="store", auth=make_auth(f"2026-0{number + 2}-01T00:00:00Z", str(number)))
                    answer = client.call(
                        "POST", "/usage", json={"usages": usages}, headers={"Idempotency-Key": "k" * 9}
                    )
                    assert answer.status_code == 200
                    prompt = {"filename": f"p{number}.md", "prompt": "---\r\ndescription: ä\r\n---\r\n'quoted'\t😀\n"}
                    client.call("POST", "/slash-commands/store", json=prompt)
                    self.document = make_auth(f"2026-0{number + 2}-01T00:00:00Z", str(number))
            fleet.cli("hosts", "delete", "gone.example.net", "--yes")
            fleet.cli("hosts", "permit", "1", "--store-prompts", "off")
            fleet.cli("keys", "rotate")
            self.file = folder / "export.jsonl"
            self.without_keys = folder / "without.jsonl"
            fleet.cli("db", "export", str(self.file), "--with-keyring")
        fleet.cli("db", "export", str(self.without_keys))
        self.text = self.file.read_bytes()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("export"))


def sealed_by(file: Path) -> list[str]:
    key_ids: list[str] = json.loads(file.read_text().splitlines()[0])["key_ids"]
    return key_ids


def import_(home: Path, text: bytes, *more: str) -> subprocess.CompletedProcess[bytes]:
    command = ["--home", str(home), *more, "db", "import", "-"]
    return forkserver.run(*command, env=BASE_ENVIRONMENT, input=text, text=False)


@pytest.mark.every_engine
def test_there_and_back_is_the_same_bytes(exported: Exported, tmp_path: Path, engine: Engine) -> None:
    """From SQLite to each engine, and out of it again."""
    env = BASE_ENVIRONMENT | engine.environment()
    assert exported.file.stat().st_mode & 0o777 == 0o600
    home = tmp_path / "new" / "home"
    done = run_cli("--home", str(home), "--json", "db", "import", str(exported.file), env=env)
    data = json.loads(done.stdout)
    assert data["total"] == sum(data["rows"].values()) == exported.text.count(b"\n") - 3
    filled = {name for name, count in data["rows"].items() if count}
    assert filled >= {"hosts", "auth_payloads", "auth_entries", "host_auth_states", "token_usages", "usage_lines"}
    assert filled >= {"usage_days", "usage_fleet_days", "slash_commands", "logs", "versions", "idempotency_keys"}
    command = ["--home", str(home), "db", "export", "-", "--with-keyring"]
    again = forkserver.run(*command, env=env, input=b"", text=False)
    assert again.stdout == exported.text
    assert run_cli("--home", str(home), "db", "check", env=env).returncode == 0
    for path in [home / "keyring.json", *home.glob("cdxsync.db")]:
        assert path.stat().st_mode & 0o777 == 0o600
    with running_fleet(home, env=env) as fleet, fleet.client(exported.key) as client:
        assert fleet.canonical() == with_auths(exported.document)
        assert client.call("GET", "/wrapper").status_code == 200
        assert client.call("POST", "/slash-commands/store", json={"filename": "x", "prompt": "x"}).status_code == 403
        # Ids go on where they stopped.
        assert fleet.register("b.example.net")["host"]["id"] == 2


def test_many_long_texts_go_into_mysql(exported: Exported, tmp_path: Path, database_servers: Servers) -> None:
    """More than one statement may hold there (`max_allowed_packet`)."""

    def add(lines: list[Line]) -> None:
        place = lines.index({"table": "slash_commands", "row": (kept := first(lines, "slash_commands"))})
        for number in range(70):
            text, name = f"{number}" + "x" * 250_000, f"long{number}.md"
            new = {"id": 100 + number, "filename": name, "filename_key": name, "prompt": text}
            new["sha256"] = hashlib.sha256(text.encode()).hexdigest()
            lines.insert(place + 1, {"table": "slash_commands", "row": kept | new | {"mac": None}})
        lines[0]["rows_have_macs"] = False  # as of a home from before: the export is believed

    env = BASE_ENVIRONMENT | database_servers.engine("mariadb").environment()
    home = tmp_path / "home"
    command = ["--home", str(home), "db", "import", "-"]
    done = forkserver.run(*command, env=env, input=edited(exported.text, add), text=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(run_cli("--home", str(home), "--json", "prompts", "show", "long69.md", env=env).stdout)


def test_without_keys_the_ring_must_be_there(exported: Exported, tmp_path: Path) -> None:
    text = exported.without_keys.read_bytes()
    secret = json.loads((exported.home / "keyring.json").read_text())["keys"]
    assert not any(key.encode() in text for key in secret.values())
    home = tmp_path / "home"
    done = import_(home, text)
    assert done.returncode == 1
    wanted = sealed_by(exported.without_keys)
    assert f"sealed with key {wanted[0]}, which is not in the keyring".encode() in done.stderr
    assert not home.exists()
    run_cli("--home", str(home), "init", "--public-url", "https://localhost:1")
    config = (home / "config.toml").read_bytes()
    made = (home / "keyring.json").read_bytes()
    assert import_(home, text).returncode == 1
    assert (home / "keyring.json").read_bytes() == made
    (home / "keyring.json").write_bytes((exported.home / "keyring.json").read_bytes())
    assert import_(home, text).returncode == 0
    assert (home / "config.toml").read_bytes() == config
    shown = run_cli("--home", str(home), "auth", "show", "--include-body").stdout
    assert json.loads(shown) == with_auths(exported.document)


def test_only_into_an_empty_home_that_nobody_uses(exported: Exported, tmp_path: Path) -> None:
    home = tmp_path / "home"
    run_cli("--home", str(home), "init", "--public-url", "https://localhost:1")
    kept = json.loads((home / "keyring.json").read_text())["active"]
    assert import_(home, exported.text).returncode == 0
    # The keys that were there stay beside those of the export.
    assert kept in json.loads((home / "keyring.json").read_text())["keys"]
    done = import_(home, exported.text)
    assert done.returncode == 4
    assert b"is not empty (hosts, " in done.stderr
    with running_fleet(tmp_path / "running"):
        done = import_(tmp_path / "running", exported.text)
        assert done.returncode == 4
        assert b"is in use. Stop cdxsync serve" in done.stderr
    again = run_cli("--home", str(exported.home), "db", "export", str(exported.file), check=False)
    assert again.returncode == 4
    assert "exists already" in again.stderr


def edited(text: bytes, edit: Callable[[list[Line]], None]) -> bytes:
    """An export with other lines, and the checksum and counts that fit them."""
    lines = [json.loads(line) for line in text.splitlines()]
    edit(lines)
    rows = [line["table"] for line in lines if "table" in line]
    lines[0]["rows"] = {name: rows.count(name) for name in lines[0]["rows"]}
    body = b"".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for line in lines[:-1])
    end = {"end": True, "sha256": hashlib.sha256(body).hexdigest()}
    return body + json.dumps(end, separators=(",", ":")).encode() + b"\n"


def first(lines: list[Line], table: str) -> Line:
    row: Line = next(line for line in lines if line.get("table") == table)["row"]
    return row


def swap_tables(lines: list[Line]) -> None:
    index = next(number for number, line in enumerate(lines) if line.get("table") == "host_auth_states")
    lines.insert(2, lines.pop(index))


EDITS: dict[str, tuple[Callable[[list[Line]], None], str]] = {
    "type": (lambda lines: first(lines, "hosts").update(api_calls="7"), "hosts.api_calls must be a whole number"),
    "bool": (lambda lines: first(lines, "hosts").update(allow_roaming_ips=1), "must be true or false"),
    "null": (lambda lines: first(lines, "logs").update(actor=None), "logs.actor must not be null"),
    "huge": (lambda lines: first(lines, "hosts").update(api_calls=2**63), "must be a whole number"),
    "long": (lambda lines: first(lines, "hosts").update(ip="1" * 65), "has more than 64 characters"),
    "column": (lambda lines: first(lines, "hosts").update(more=1), "has other columns than this version: more"),
    "table": (lambda lines: lines.insert(2, {"table": "sqlite_master", "row": {}}), "no table 'sqlite_master'"),
    "twice": (lambda lines: lines.insert(3, lines[2]), "conflicts: UNIQUE"),
    "order": (swap_tables, "conflicts: FOREIGN KEY"),
    "orphan": (lambda lines: first(lines, "token_usages").update(host_id=77), "conflicts: FOREIGN KEY"),
    "moved": (lambda lines: first(lines, "install_tokens").update(token_sha256="0" * 64), "installers: "),
    "rights": (lambda lines: first(lines, "hosts").update(allow_roaming_ips=True), "changed past cdxsync"),
    "digest": (lambda lines: first(lines, "slash_commands").update(prompt="other"), "does not match its digest"),
    "totals": (lambda lines: first(lines, "usage_days").update(total=0), "daily total"),
    "schema": (lambda lines: lines[0].update(schema="m0001_initial"), "has the schema m0001_initial"),
    "format": (lambda lines: lines[0].update(format="cdxsync-export-9"), "an export of the format"),
    "keys": (lambda lines: lines.insert(4, lines[1]), "is in the wrong place"),
    "no keys": (lambda lines: lines[1]["keyring"].update(keys={}), "not a keyring"),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_is_wrong_is_named_and_nothing_stays(exported: Exported, tmp_path: Path, name: str) -> None:
    edit, message = EDITS[name]
    assert edited(exported.text, lambda lines: None) == exported.text
    done = import_(tmp_path / "home", edited(exported.text, edit))
    assert done.returncode == 1, done.stderr
    assert message in done.stderr.decode()
    assert not (tmp_path / "home").exists()


def test_a_failure_leaves_what_was_there(exported: Exported, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text('public_url = "https://localhost:1"\n')
    assert import_(home, exported.text[:-100]).returncode == 1
    assert [path.name for path in home.iterdir()] == ["config.toml"]
    run_cli("--home", str(home), "init")
    before = {path.name: path.read_bytes() for path in home.iterdir() if path.is_file() and path.suffix != ".db"}
    assert import_(home, edited(exported.text, EDITS["totals"][0])).returncode == 1
    assert {name: (home / name).read_bytes() for name in before} == before
    with contextlib.closing(sqlite3.connect(home / "cdxsync.db")) as database, database:
        assert database.execute("SELECT COUNT(*) FROM hosts").fetchone() == (0,)
    assert import_(home, exported.text).returncode == 0


@settings(max_examples=200)
@given(data=st.data())
def test_no_damage_goes_unseen(exported: Exported, data: st.DataObject) -> None:
    """Whatever byte changes, and wherever the file ends, reading fails before the end."""
    import io

    from cdxsync.base.errors import Failed
    from cdxsync.ops.transfer.lines import Reader

    text = bytearray(exported.text)
    place = data.draw(st.integers(0, len(text) - 1))
    if data.draw(st.booleans()):
        del text[place:]
    else:
        text[place] ^= data.draw(st.integers(1, 255))
    reader = Reader(io.BytesIO(bytes(text)), "export")

    def read() -> None:
        reader.header()
        list(reader.lines())

    with pytest.raises(Failed, match=r"export, line [0-9]+: "):
        read()


@pytest.mark.slow
def test_memory_does_not_grow_with_rows(exported: Exported, tmp_path: Path) -> None:
    """Ten times as many rows take no more memory, out and in."""
    code = """
import sys, json, tracemalloc; from pathlib import Path
from cdxsync.base import settings
from cdxsync.ops import homes
from cdxsync.ops.transfer import exporting, importing
home, target, out = (Path(name) for name in sys.argv[1:])
loaded = settings.load(home)
fleet = homes.open_fleet(loaded)
def peak(work):
    tracemalloc.start(); work(); found = tracemalloc.get_traced_memory()[1]; tracemalloc.stop(); return found
def write():
    with out.open("wb") as file, fleet.database.scope():
        exporting.export(fleet, file, "x", with_keyring=True, actor="t", on_progress=lambda done, total: None)
def read():
    with out.open("rb") as file:
        importing.load(settings.load(target), file, "x", on_progress=lambda done, total: None)
print(json.dumps([peak(write), peak(read)]))
"""
    peaks = []
    for number in (2_000, 20_000):
        home = tmp_path / f"home{number}"
        run_cli("--home", str(home), "init", "--public-url", "https://localhost:1")
        with contextlib.closing(sqlite3.connect(home / "cdxsync.db")) as database, database:
            rows = [("test", "a", "x" * 400, "2026-01-01T00:00:00+00:00")] * number
            database.executemany("INSERT INTO logs (actor, action, details, created_at) VALUES (?, ?, ?, ?)", rows)
        arguments = [str(home), str(tmp_path / f"target{number}"), str(tmp_path / f"out{number}")]
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=BASE_ENVIRONMENT
        )
        assert done.returncode == 0, done.stderr
        peaks.append(json.loads(done.stdout))
    (small_out, small_in), (large_out, large_in) = peaks
    assert large_out < small_out * 1.5
    assert large_in < small_in * 1.5
