"""The schema and the sealing of what lies in it."""

import contextlib
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import peewee
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.base.errors import Failed
from cdxsync.ops.transfer import schema
from cdxsync.store import keyring_file, migrations, sealing, tables
from cdxsync.store.database import Database, write
from cdxsync.store.engines.sqlite import SqliteEngine
from tests.support.fleet import run_cli


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    run_cli("--home", str(tmp_path / "home"), "init")
    with contextlib.closing(sqlite3.connect(tmp_path / "home" / "cdxsync.db")) as opened:
        yield opened


def test_migrations_make_what_the_models_say(database: sqlite3.Connection) -> None:
    bases: list[type[tables.Table]] = [tables.Table, *tables.Table.__subclasses__()]
    models = [model for base in bases for model in base.__subclasses__() if not model.__subclasses__()]
    made = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert made == {model._meta.table_name for model in models} | {"schema_migrations", "sqlite_sequence"}
    for model in models:
        name = model._meta.table_name
        columns = {row[1]: bool(row[3]) for row in database.execute(f"PRAGMA table_info({name})")}
        assert columns == {field.column_name: not field.null for field in model._meta.sorted_fields}, name
        foreign = {row[3]: (row[2], row[6]) for row in database.execute(f"PRAGMA foreign_key_list({name})")}
        assert foreign == {
            field.column_name: (field.rel_model._meta.table_name, field.on_delete)
            for field in model._meta.sorted_fields
            if isinstance(field, peewee.ForeignKeyField)
        }, name
        unique = {
            tuple(info[2] for info in database.execute(f"PRAGMA index_info({row[1]})"))
            for row in database.execute(f"PRAGMA index_list({name})")
            if row[2] and row[3] != "pk"
        }
        wanted = {(field.column_name,) for field in model._meta.sorted_fields if field.unique and not field.primary_key}
        wanted |= {
            tuple(model._meta.fields[part].column_name for part in parts)
            for parts, is_unique in model._meta.indexes
            if is_unique
        }
        assert unique == wanted, name


def test_the_database_is_durable(database: sqlite3.Connection, tmp_path: Path) -> None:
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    code = """
import sys; from pathlib import Path
from cdxsync.store.database import Database
opened = Database.open("", Path(sys.argv[1]), make=True).peewee
print([opened.execute_sql(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "foreign_keys")])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "home")], capture_output=True, text=True)
    assert done.stdout == "[2, 1]\n", done.stderr


def test_migrations_run_once_when_many_start_at_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run_cli("--home", str(home), "init")
    for path in home.glob("cdxsync.db*"):
        path.unlink()
    command = [sys.executable, "-m", "cdxsync", "--home", str(home), "db", "migrate"]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    outcomes = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    assert [code for _, code in outcomes] == [0] * 6, outcomes
    with contextlib.closing(sqlite3.connect(home / "cdxsync.db")) as made, made:
        ran = [row[0] for row in made.execute("SELECT name FROM schema_migrations ORDER BY name")]
    assert ran == migrations.known()


def test_a_database_of_before_gives_no_id_twice_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are made again with the same rows, columns, indexes and references; what refers to them stays."""
    before = [name for name in migrations.known() if name < "m0013"]
    with monkeypatch.context() as older:
        older.setattr(migrations, "known", lambda: before)
        older.setitem(SqliteEngine.schema, "id", "INTEGER NOT NULL PRIMARY KEY")
        with Database.open("", tmp_path, make=True).scope() as database:
            migrations.migrate()
            database.close()
    path = tmp_path / "cdxsync.db"
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        stamp = "2026-01-01T00:00:00+00:00"
        for number in (1, 2, 3):
            file.execute(
                "INSERT INTO hosts (id, fqdn, api_key_sha256, status, allow_roaming_ips, api_calls, created_at,"
                " updated_at) VALUES (?, ?, ?, 'active', 0, 0, ?, ?)",
                (number, f"h{number}", str(number), stamp, stamp),
            )
            file.execute(
                "INSERT INTO host_auth_digests (host_id, digest, last_seen, created_at) VALUES (?, 'x', ?, ?)",
                (number, stamp, stamp),
            )
        rows, indexes = _content(file), _indexes(file)
    # Later ones add columns.
    monkeypatch.setattr(migrations, "known", lambda: [*before, "m0013_ids"])
    with Database.open("", tmp_path, make=True).scope() as database:
        assert migrations.migrate() == ["m0013_ids"]
        assert database.peewee.execute_sql("PRAGMA foreign_keys").fetchone() == (1,)
        on_writing = write(lambda: database.peewee.execute_sql("PRAGMA foreign_keys").fetchone())
        database.close()
    assert on_writing == (1,)
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        assert {name: rows[name] for name in rows} == {name: _content(file)[name] for name in rows}
        assert indexes <= _indexes(file)
        assert file.execute("PRAGMA foreign_key_check").fetchall() == []
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        file.execute("PRAGMA foreign_keys = ON")
        file.execute("DELETE FROM hosts WHERE id = 3")
        assert file.execute("SELECT host_id FROM host_auth_digests").fetchall() == [(1,), (2,)]
        file.execute(
            "INSERT INTO hosts (fqdn, api_key_sha256, status, allow_roaming_ips, api_calls, created_at, updated_at)"
            " VALUES ('h4', '4', 'active', 0, 0, '', '')"
        )
        assert file.execute("SELECT MAX(id) FROM hosts").fetchone() == (4,)


def _content(file: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """The columns and rows of each table that holds some."""
    names = [row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    found = {name: file.execute(f"SELECT * FROM {name}").fetchall() for name in ("hosts", "host_auth_digests")}
    return found | {f"columns of {name}": file.execute(f"PRAGMA table_info({name})").fetchall() for name in names}


def _indexes(file: sqlite3.Connection) -> set[tuple[str, ...]]:
    found = file.execute("SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    return set(found.fetchall())


def test_every_table_counts_on(database: sqlite3.Connection) -> None:
    made = dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    automatic = [table for table, _ in schema.automatic_ids()]
    assert "hosts" in automatic
    assert [table for table in automatic if "AUTOINCREMENT" not in made[table]] == []


def test_migration_names_are_numbered() -> None:
    numbers = [int(re.match(r"m(\d{4})_\w+$", name)[1]) for name in migrations.known()]  # type: ignore[index]
    assert numbers == list(range(1, len(numbers) + 1))


RING = sealing.Keyring("a", {"a": b"1" * 32, "b": b"2" * 32})


@given(st.binary(max_size=200), st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_what_is_sealed_opens_again_there_only(plaintext: bytes, context: str) -> None:
    sealed = RING.seal(plaintext, context)
    assert sealed.startswith("cdx1:a:")
    assert RING.open(sealed, context) == plaintext
    assert sealing.Keyring("b", {"a": b"1" * 32, "b": b"2" * 32}).open(sealed, context) == plaintext
    with pytest.raises(Failed):
        RING.open(sealed, context + "x")


def test_sealed_values_that_cannot_be_opened_say_why() -> None:
    sealed = RING.seal(b"secret", "here")
    with pytest.raises(Failed, match="key 'a', which is not in the keyring"):
        sealing.Keyring("b", {"b": b"2" * 32}).open(sealed, "here")
    with pytest.raises(Failed, match="altered, or the key is wrong"):
        sealing.Keyring("a", {"a": b"3" * 32}).open(sealed, "here")
    for bad in ("", "plain text", "cdx1:a", "cdx1:a:***", "cdx1:a:AAAA", sealed[:-4]):
        with pytest.raises(Failed):
            RING.open(bad, "here")


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_mac_is_of_one_message_for_one_purpose_under_one_key(message: bytes, other: bytes) -> None:
    mac = RING.mac(message, "rows")
    assert mac.startswith("a:")
    assert RING.is_mac_of(message, mac, "rows")
    assert RING.is_mac_of(other, mac, "rows") is (other == message)
    assert not RING.is_mac_of(message, mac, "row")
    assert not RING.is_mac_of(message, mac.replace("a:", "b:"), "rows")
    assert not RING.is_mac_of(message, mac[:-1], "rows")
    assert RING.is_mac_of(message, RING.mac(message, "rows", "b"), "rows")
    with pytest.raises(sealing.UnknownKey):
        sealing.Keyring("b", {"b": b"2" * 32}).is_mac_of(message, mac, "rows")


def test_two_seals_of_one_text_differ() -> None:
    assert RING.seal(b"x", "here") != RING.seal(b"x", "here")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"active":"a","keys":{}}', '{"active":"a","keys":{"a":"?"}}'])
def test_keyrings_that_are_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "keyring.json").write_text(content)
    with pytest.raises(Failed, match=r"keyring\.json"):
        keyring_file.read(tmp_path / "keyring.json")


def test_a_new_keyring(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    keyring_file.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    ring = keyring_file.KeyringFile(path)
    assert ring.open(ring.seal(b"x", "here"), "here") == b"x"
