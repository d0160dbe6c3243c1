"""Rows that give rights: which columns those are, and that no write forgets their MACs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdxsync
from cdxsync.base import settings
from cdxsync.base.errors import Failed
from cdxsync.ops import homes
from cdxsync.store import rights, tables
from cdxsync.store.database import Database, write
from cdxsync.store.rights import RowAltered
from cdxsync.store.table import Guarded
from cdxsync.wrapper import baking
from tests.support.fleet import run_cli

FREE: dict[str, set[str]] = {
    "hosts": {
        *("last_refresh", "auth_digest", "client_version", "wrapper_version", "api_calls", "last_seen_at"),
        *("created_at", "updated_at", "usage_total", "latest_usage_id", "blocked_at", "background_by", "background_at"),
    },
    "auth_payloads": {"source_host", "body"},
    "host_grants": {"holds", "payload_id", "given_at"},
    "login_offers": {"first_seen_at", "seen_at"},
    "install_tokens": {"api_key", "created_at"},
    "versions": {"updated_at"},
    "slash_commands": {"prompt", "source_host", "created_at", "updated_at"},
    "slash_command_versions": {"prompt"},
}
"""Columns that others may change: counts and times for display, what the database itself sets to NULL, texts whose
digest the MAC covers, and sealed values, which have a tag of their own."""
WITHOUT_RIGHTS = {
    *("auth_entries", "host_auth_states", "host_auth_digests", "document_sights", "idempotency_keys", "host_budgets"),
    *("token_usages", "usage_days", "usage_fleet_days", "usage_lines"),
    *("chatgpt_usage_snapshots", "pricing_snapshots", "runner_events", "refresh_intents", "jobs"),
    *("logs", "log_checkpoints"),  # have a chain of their own
}
"""Tables of what hosts and services have said, and of work: nothing is allowed by them."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home without rows, in the scope of its database."""
    run_cli("--home", str(tmp_path / "home"), "init")
    fleet = homes.open_fleet(settings.load(tmp_path / "home", environ={}))
    with fleet.database.scope():
        yield tmp_path / "home"
    fleet.database.close()


def test_each_column_gives_rights_or_is_declared_free() -> None:
    assert {table._meta.table_name for table in rights.tables()} == FREE.keys()
    for table in rights.tables():
        columns = set(table._meta.fields) - {rights.key_of(table), "mac"}
        free = FREE[table._meta.table_name]
        assert columns == {*table.RIGHTS, *free}, f"{table._meta.table_name}: is what is new a right?"
        assert free.isdisjoint(table.RIGHTS)
    others = {table._meta.table_name for table in tables.insertion_order()} - FREE.keys()
    assert others <= WITHOUT_RIGHTS, "does a row of a new table give rights?"


def test_nothing_that_the_database_sets_to_null_is_a_right() -> None:
    for table in rights.tables():
        for column in table._meta.refs:
            assert column.name not in table.RIGHTS or column.on_delete == "CASCADE", column


@pytest.mark.parametrize("table", rights.tables(), ids=lambda table: table._meta.table_name)
def test_a_write_that_forgets_the_mac_fails(table: type[Guarded]) -> None:
    for name in (*table.RIGHTS, "mac"):
        with pytest.raises(RuntimeError, match=r"store\.rights"):
            table.update({name: "x"})
        with pytest.raises(RuntimeError, match=r"store\.rights"):
            table.update({getattr(table, name): "x"})
        with pytest.raises(RuntimeError, match=r"store\.rights"):
            table.update(**{name: "x"})
    calls: list[Any] = [table.insert, table.insert_many, table.insert_from, table.replace, table.replace_many]
    for call in calls:
        with pytest.raises(RuntimeError, match=r"store\.rights"):
            call({})
    with pytest.raises(RuntimeError, match=r"store\.rights"):
        table.create()


def test_no_sql_goes_past_the_tables() -> None:
    names = "|".join(table._meta.table_name for table in rights.tables())
    writes = re.compile(rf"\b(UPDATE|INTO)\s+[\"`]?({names})\b", re.IGNORECASE)
    source = Path(cdxsync.__file__).parent
    found = [
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        if "migrations" not in path.parts and "wrapper" not in path.parts and writes.search(path.read_text())
    ]
    assert found == []


values = st.none() | st.booleans() | st.integers(-9, 9) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


@given(st.lists(values, min_size=2, max_size=2), st.lists(values, min_size=2, max_size=2))
def test_two_rows_have_one_message_only_if_they_are_equal(one: list[Any], other: list[Any]) -> None:
    columns = rights._of(tables.Version)
    first, second = (rights._message(columns, dict(zip(columns.names, row, strict=True))) for row in (one, other))
    same = [(type(value), value) for value in one] == [(type(value), value) for value in other]
    assert (first == second) is same


def add_host(**more: Any) -> Any:
    row = {"fqdn": "a.net", "api_key_sha256": "1", "created_at": "", "updated_at": ""} | more
    return write(lambda: rights.insert(tables.Host, **row))


@pytest.mark.usefixtures("home")
def test_a_change_of_a_part_looks_at_the_whole_first() -> None:
    host_id = add_host()
    rights.check(tables.Host.get_by_id(host_id))
    database = tables.Host._meta.database
    write(lambda: database.execute_sql("UPDATE hosts SET allow_roaming_ips = 1"))
    assert not rights.is_good(tables.Host.get_by_id(host_id))
    with pytest.raises(RowAltered, match=r"hosts row 1 \(a.net\) was changed in the database past cdxsync"):
        write(lambda: rights.update(tables.Host, host_id, ip="192.0.2.1"))
    assert write(lambda: rights.update(tables.Host, host_id, api_calls=3)), "no right"
    assert not rights.is_good(tables.Host.get_by_id(host_id))
    whole = {name: getattr(tables.Host.get_by_id(host_id), name) for name in tables.Host.RIGHTS}
    write(lambda: rights.update(tables.Host, host_id, **whole | {"allow_roaming_ips": False}))
    assert rights.is_good(tables.Host.get_by_id(host_id)), "all of it was replaced"
    assert not write(lambda: rights.update(tables.Host, 99, ip=None))


@pytest.mark.usefixtures("home")
def test_altered_rows_are_told_of_once() -> None:
    add_host()
    database = tables.Host._meta.database
    write(lambda: database.execute_sql("UPDATE hosts SET mac = NULL"))
    for _ in range(3):
        assert not rights.is_good(tables.Host.get_by_id(1))
        rights.audit_altered()
    rows = tables.LogEntry.select().where(tables.LogEntry.action == "row.altered")
    assert [row.details for row in rows] == ['{"table": "hosts", "row": 1, "name": "a.net"}']
    assert [(row.shown, row.has_mac) for row in rights.altered()] == [("hosts row 1 (a.net)", False)]


@pytest.mark.usefixtures("home")
def test_a_row_that_is_read_in_part_is_a_mistake() -> None:
    add_host()
    with pytest.raises(KeyError):
        rights.is_good(tables.Host.select(tables.Host.id).get())


def test_writing_without_a_keyring_is_a_mistake(home: Path) -> None:
    database = Database.open("", home)
    with database.scope(), pytest.raises(RuntimeError, match="find_keyring"):
        add_host()
    database.close()


@pytest.mark.parametrize(
    "fqdn", ["a.net; touch /tmp/x", "a.net\ntouch /tmp/x", "A.net", "", "a..net", "1.2.3.4", "a.net$(x)"]
)
def test_what_is_no_name_is_not_rendered(fqdn: str) -> None:
    with pytest.raises(Failed, match="is not as it was stored"):
        baking.bake("https://cdx.example.net", "cdx_0", fqdn, "", "https://api.github.com")


@pytest.mark.parametrize(
    "address", ["https://a.net/$(x)", "https://a.net\n", "javascript:x", "https://a.net/", "https://u@a.net"]
)
def test_what_is_no_address_is_not_rendered(address: str) -> None:
    with pytest.raises(Failed, match="is not as it was stored"):
        baking.bake(address, "cdx_0", "a.net", "", "https://api.github.com")
