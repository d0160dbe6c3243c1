"""TLS to database servers: what a connection beyond this machine is worth, and who is told."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from cdxsync.base import settings
from cdxsync.base.errors import DatabaseAway, SettingError
from cdxsync.ops import doctor, homes
from cdxsync.security import pki
from cdxsync.server import service
from cdxsync.store.database import Database
from cdxsync.store.engines import base, mysql_url, postgres
from tests.support import engines
from tests.support.database_servers import DatabaseServer, MariaDb, Postgres
from tests.support.fleet import PKI_NAMES

MODES = {
    "postgresql": {
        "": base.UNVERIFIED,
        "sslmode=disable": base.IN_CLEAR,
        "sslmode=require": base.UNVERIFIED,
        "sslmode=verify-ca&sslrootcert={ca}": base.UNNAMED,
        "sslmode=verify-full&sslrootcert={ca}": None,
    },
    "mysql": {
        "": base.IN_CLEAR,
        "ssl_mode=DISABLED": base.IN_CLEAR,
        "ssl_mode=REQUIRED": base.UNVERIFIED,
        "ssl_mode=VERIFY_CA&ssl_ca={ca}": base.UNNAMED,
        "ssl_ca={ca}": None,
    },
}


@pytest.fixture(scope="module", params=[Postgres, MariaDb])
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    with engines.skipping():
        started = request.param(tls=True)
    yield started
    started.stop()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback counts as another machine."""
    for module in (postgres, mysql_url):
        monkeypatch.setattr(module, "leaves_machine", bool)


def url_of(server: DatabaseServer, options: str) -> str:
    return f"{server.fresh()}?{options.format(ca=server.ca_file)}"


def load(home: Path, url: str) -> settings.Settings:
    environ = {"CDXSYNC_DATABASE_URL": url.removesuffix("?"), "PUBLIC_BASE_URL": "https://cdx.example.net"}
    return settings.load(home, environ=environ)


def exposure(url: str, tmp_path: Path) -> base.Exposure | None:
    database = Database.open(url.removesuffix("?"), tmp_path)
    try:
        with database.scope():
            return database.engine.exposure(database.peewee)
    finally:
        database.close()


@pytest.mark.parametrize(
    ("address", "leaves"),
    [
        *((here, False) for here in ("", "127.0.0.1", "127.9.9.9", "::1", "/run/postgresql")),
        *((there, True) for there in ("10.0.0.1", "192.0.2.7", "fe80::1%eth0", "2001:db8::1", "::ffff:10.0.0.1")),
    ],
)
def test_only_loopback_and_sockets_stay_on_this_machine(address: str, leaves: bool) -> None:
    assert base.leaves_machine(address) is leaves


def test_what_a_connection_is_worth(server: DatabaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in MODES[server.scheme]:
        assert exposure(url_of(server, options), tmp_path) is None, options
    for module in (postgres, mysql_url):
        monkeypatch.setattr(module, "leaves_machine", bool)
    for options, text in MODES[server.scheme].items():
        found = exposure(url_of(server, options), tmp_path)
        assert (found and found.text) == text, options


def test_a_server_that_another_ca_has_signed_is_refused(server: DatabaseServer, tmp_path: Path) -> None:
    pki.create(tmp_path / "foreign", PKI_NAMES)
    for options in [options for options in MODES[server.scheme] if options.endswith("={ca}")]:
        url = f"{server.fresh()}?{options.format(ca=tmp_path / 'foreign' / 'ca.pem')}"
        with pytest.raises(DatabaseAway):
            exposure(url, tmp_path)


@pytest.mark.usefixtures("elsewhere")
def test_a_new_fleet_verifies_or_says_that_it_does_not(
    server: DatabaseServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, (options, text) in enumerate(MODES[server.scheme].items()):
        given = load(tmp_path / str(number), url_of(server, options))
        if not options:
            with pytest.raises(SettingError, match=r"without TLS|not verified") as refused:
                homes.initialise(given)
            assert "VERIFY" in refused.value.message.upper()
            assert not homes.is_initialised(given.home)
            continue
        homes.initialise(given)
        assert told(given, caplog) == ([text] if text else []), options


def test_an_old_fleet_goes_on_and_is_told(
    server: DatabaseServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = load(tmp_path / "home", server.fresh())
    homes.initialise(given)
    for module in (postgres, mysql_url):
        monkeypatch.setattr(module, "leaves_machine", bool)
    assert told(given, caplog) == [MODES[server.scheme][""]]


def told(given: settings.Settings, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the start of a server and `doctor` say alike."""
    caplog.clear()
    fleet = homes.open_fleet(given, check_keys=True)
    with caplog.at_level(logging.WARNING):
        service.tell_exposure(fleet)
    fleet.database.close()
    skip = set(doctor.names()) - {"settings", "home", "database", "database-tls"}
    found = doctor.examine(doctor.Subject(given.home, given), skip)
    warned = [one.text for one in found if one.check == "database-tls" and one.level is doctor.Level.WARN]
    assert [record.getMessage().split(". To verify")[0] for record in caplog.records] == warned
    return warned


def test_no_password_goes_to_a_mysql_that_offers_no_tls_where_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engines.skipping():
        server = MariaDb()  # or one in between, which has struck TLS out of the greeting
    url = server.fresh()

    def sent(self: Any) -> None:
        raise AssertionError("the driver goes on")

    monkeypatch.setattr(pymysql.connections.Connection, "_request_authentication", sent)
    try:
        for mode in ("REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"):
            with pytest.raises(DatabaseAway, match="TLS handshake"):
                exposure(f"{url}?ssl_mode={mode}", tmp_path)
    finally:
        monkeypatch.undo()
        server.stop()
