"""`cdxsync doctor`: real things are broken, and it names the remedies."""

import base64
import contextlib
import json
import os
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cdxsync.ops import doctor, home_lock
from cdxsync.ops.doctor.model import Check, examine_with, fail, ok
from tests.support import macs
from tests.support.documents import jwt, make_auth
from tests.support.fleet import BASE_ENVIRONMENT, Fleet, free_port, run_cli, running_fleet
from tests.support.quiet_http import QuietHandler

HOSTS_REFRESH = {"CDXSYNC_REFRESH": "hosts"}
"""Nothing outside is needed then; `tests/api/test_token_endpoint.py` has a provider."""


def examine(home: Path, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, dict[str, list[Any]]]:
    """The exit code, and by check what it found: level, text, and mend."""
    arguments = ("--home", str(home), "--json", "doctor", *arguments)
    done = run_cli(*arguments, check=False, env=BASE_ENVIRONMENT | HOSTS_REFRESH | (env or {}))
    assert "Traceback" not in done.stderr
    data = json.loads(done.stdout)
    levels = [row["level"] for row in data["checks"]]
    assert data["level"] == max(levels, key=["ok", "warn", "fail"].index)
    assert (data["level"] == "fail") == (done.returncode == 1)
    found: dict[str, list[Any]] = {}
    for row in data["checks"]:
        found.setdefault(row["check"], []).append((row["level"], row["text"], row["mend"]))
    return done.returncode, found


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A running server with a document and a host that has called."""
    with running_fleet(tmp_path_factory.mktemp("healthy") / "home", env=HOSTS_REFRESH) as fleet:
        (fleet.home / "config.toml").write_text(f'public_url = "{fleet.url}"\nlisten = "127.0.0.1:{fleet.port}"\n')
        stamp = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        fleet.upload(make_auth(stamp))
        registered = fleet.register("called.example.net")
        with fleet.client() as client:
            client.call("GET", registered["installer"]["url"].removeprefix(fleet.url))
        with fleet.client(registered["host"]["api_key"]) as client:
            client.auth(last_refresh="2000-01-01T00:00:00Z", digest="0" * 64)
        yield fleet


@pytest.fixture
def home(healthy: Fleet, tmp_path: Path) -> Path:
    """A copy of that home, to break. Its public URL is served by the original."""
    copy = tmp_path / "home"
    shutil.copytree(healthy.home, copy, ignore=shutil.ignore_patterns("cdxsync.db*", "throttle.db*"))
    with (
        contextlib.closing(sqlite3.connect(healthy.home / "cdxsync.db")) as source,
        contextlib.closing(sqlite3.connect(copy / "cdxsync.db")) as target,
    ):
        source.backup(target)
    for path in copy.glob("cdxsync.db*"):
        path.chmod(0o600)
    return copy


def execute(home: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(home / "cdxsync.db")) as database, database:
        database.execute(statement, values)
    if macs.concerns(statement):
        macs.renew(home, {})


def test_all_is_well(healthy: Fleet) -> None:
    code, found = examine(healthy.home)
    assert code == 0
    assert {name: level for name, rows in found.items() for level, _, _ in rows if level != "ok"} == {}
    assert set(found) == set(doctor.names())
    lines = healthy.cli("doctor").stdout.splitlines()
    assert all(line.startswith("ok\t") for line in lines)


def test_a_home_that_is_missing(tmp_path: Path) -> None:
    code, found = examine(tmp_path / "none")
    assert code == 1
    assert "cdxsync init" in found["home"][0][2]
    assert found["database"] == [("warn", "not checked: home failed", None)]
    assert not (tmp_path / "none").exists()
    (tmp_path / "empty").mkdir()
    assert examine(tmp_path / "empty")[1]["home"] == [("fail", f"{tmp_path}/empty is not initialised", "cdxsync init")]
    assert list((tmp_path / "empty").iterdir()) == []
    (tmp_path / "file").touch()
    assert examine(tmp_path / "file")[1]["home"][0][0] == "fail"


def test_what_is_mended_by_its_command(home: Path) -> None:
    """The commands that it names are run as they stand, and then all is well."""
    home.chmod(0o755)
    (home / "keyring.json").chmod(0o644)
    (home / "pki" / "ca.key").chmod(0o640)
    old = time.time() - 3 * 86400
    left = home / ".backup-x y"
    left.mkdir()
    os.utime(left, (old, old))
    code, found = examine(home)
    assert code == 1
    assert [row[0] for row in found["files"]] == ["fail", "fail"]
    assert "keyring.json, ca.key" in found["files"][1][1]
    assert found["leftovers"][0][0] == "warn"
    for _, _, mend in found["files"] + found["leftovers"]:
        assert os.system(mend) == 0
    code, found = examine(home)
    assert code == 0
    assert not left.exists()
    assert {row[0] for rows in found.values() for row in rows} == {"ok"}


@pytest.mark.parametrize(
    ("statement", "check", "level", "says"),
    [
        ("DELETE FROM schema_migrations", "migrations", "fail", "cdxsync db restore"),
        (
            "INSERT INTO schema_migrations (name, applied_at) VALUES ('m9999_x', '2030')",
            "migrations",
            "fail",
            "newer cdxsync",
        ),
        (
            "UPDATE logs SET created_at = '2099-01-01T00:00:00+00:00' WHERE id = 1",
            "clock-database",
            "fail",
            "timedatectl",
        ),
        ("UPDATE hosts SET last_seen_at = '2099-01-01T00:00:00+00:00'", "clock-database", "fail", "hosts is of 2099"),
        ("UPDATE hosts SET last_seen_at = NULL", "hosts", "warn", "never called: called.example.net"),
        ("UPDATE hosts SET last_seen_at = '2026-01-01T00:00:00+00:00'", "hosts", "warn", "silent for 7 days: called"),
        ("UPDATE hosts SET status = 'disabled'", "hosts", "warn", "no host is active"),
        ("UPDATE auth_payloads SET sha256 = 'x'", "canonical", "fail", "is not served"),
        ("UPDATE auth_payloads SET body = 'cdx1:gone:AAAA'", "keyring", "fail", "Needed: key 'gone'"),
        ("DELETE FROM auth_payloads", "canonical", "warn", "no auth.json yet"),
        (
            "UPDATE install_tokens SET used_at = NULL, expires_at = '2026-01-01T00:00:00+00:00'",
            "installers",
            "warn",
            "cdxsync hosts register called.example.net",
        ),
    ],
)
def test_rows_that_tell_of_trouble(home: Path, statement: str, check: str, level: str, says: str) -> None:
    execute(home, statement)
    code, found = examine(home)
    assert [row[0] for row in found[check]] == [level]
    assert says in "".join(map(str, found[check][0]))
    assert code == (level == "fail")


def test_how_long_hosts_may_be_silent(home: Path) -> None:
    at = (datetime.now(UTC) - timedelta(days=10)).isoformat(timespec="seconds")
    execute(home, "UPDATE hosts SET last_seen_at = ?", at)
    assert examine(home, "--silent-days", "9")[1]["hosts"][0][0] == "warn"
    assert examine(home, "--silent-days", "11")[1]["hosts"][0][0] == "ok"


def test_a_pending_migration(home: Path) -> None:
    execute(home, "DELETE FROM schema_migrations WHERE name = (SELECT max(name) FROM schema_migrations)")
    level, text, mend = examine(home)[1]["migrations"][0]
    assert (level, mend) == ("warn", "cdxsync db migrate")
    assert "have not run" in text


def test_a_database_that_is_broken_or_gone(home: Path) -> None:
    text = bytearray((home / "cdxsync.db").read_bytes())
    for page in (10, 1, 0):
        text[4096 * page :] = b"\xff" * (len(text) - 4096 * page)
        (home / "cdxsync.db").write_bytes(text)
        code, found = examine(home)
        assert code == 1
        assert found["database"][0][0] == "fail"
        assert "cdxsync db restore FILE" in found["database"][0][2]
        assert found["hosts"] == [("warn", "not checked: migrations failed", None)]
        assert found["certificates"][0][0] == "ok"
    for path in home.glob("cdxsync.db*"):
        path.unlink()
    assert "is missing" in examine(home)[1]["database"][0][1]
    assert not (home / "cdxsync.db").exists()


def test_keyrings(home: Path) -> None:
    ring = home / "keyring.json"
    content = json.loads(ring.read_text())
    ring.write_text(json.dumps(content | {"resealing": True}))
    assert examine(home)[1]["keyring"] == [("warn", "a rotation of keys is unfinished", "cdxsync keys rotate")]
    ring.write_text("{}")
    code, found = examine(home)
    assert (code, found["keyring"][0][0]) == (1, "fail")
    assert found["access-token"] == [("warn", "not checked: canonical failed", None)]
    ring.unlink()
    level, text, mend = examine(home)[1]["home"][0]
    assert (level, text) == ("fail", f"{ring} is missing")
    assert "from a backup" in mend


def test_a_restore_that_was_cut_off(home: Path) -> None:
    with home_lock.exclusive(home) as lock:
        home_lock.replacing(lock).__enter__()
    assert "a restore was interrupted" in examine(home)[1]["home"][0][1]


def test_settings_that_cannot_be_read(home: Path) -> None:
    (home / "config.toml").write_text('public_urll = "x"\n')
    code, found = examine(home)
    assert code == 1
    assert "did you mean 'public_url'" in found["settings"][0][1]
    assert found["database"] == [("warn", "not checked: settings failed", None)]
    assert found["disk"][0][0] == "ok"


def test_the_clock_is_behind_what_was_written(home: Path) -> None:
    ahead = time.time() + 86400
    os.utime(home / "keyring.json", (ahead, ahead))
    level, text, mend = examine(home)[1]["clock"][0]
    assert (level, "keyring.json was written" in text, "timedatectl" in mend) == ("fail", True, True)


def make_certificates(folder: Path, days: int, made: datetime) -> None:
    """Replace the server's and the admin's certificate by ones that the same CA made at another time."""
    from cdxsync.security import pki

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pki, "_now", lambda: made.replace(microsecond=0))
        patch.setattr(pki, "LEAF_DAYS", days)
        pki.renew_server(folder, ["localhost"])
        pki._write_client(folder / "admin.pem", pki._load_authority(folder), "admin", days)


def test_certificates_that_expire(home: Path) -> None:
    pki = home / "pki"
    now = datetime.now(UTC)
    make_certificates(pki, 20, now)
    found = examine(home)[1]["certificates"]
    assert [row[0] for row in found] == ["ok", "warn", "warn"]
    assert found[1][2].startswith("cdxsync pki renew   then reload the server")
    assert found[2][2] == "cdxsync pki revoke admin --yes && cdxsync pki issue admin"
    make_certificates(pki, 20, now - timedelta(days=30))
    found = examine(home)[1]["certificates"]
    assert [row[0] for row in found] == ["ok", "fail", "fail"]
    assert "expired on" in found[1][1]
    assert found[2][1:] == ("no admin has a valid certificate", "cdxsync pki issue NAME")
    (pki / "server.pem").write_text("nothing")
    assert "server.pem: cannot be read" in examine(home)[1]["certificates"][0][1]


def test_revocation_lists_that_cannot_be_used(home: Path) -> None:
    crl = home / "pki" / "crl.pem"
    for content in ("", "nothing"):
        crl.write_text(content)
        level, text, mend = examine(home)[1]["revocation"][0]
        assert (level, "the server refuses every admin" in text, "db restore" in mend) == ("fail", True, True)


def test_own_certificates(home: Path) -> None:
    pki = home / "pki"
    tls = {"CDXSYNC_TLS_CERTIFICATE": str(pki / "server.pem"), "CDXSYNC_TLS_KEY": str(pki / "server.key")}
    trusted = tls | {"CDXSYNC_HOST_CA": str(pki / "ca.pem")}
    code, found = examine(home, env=trusted)
    assert (code, [row[0] for row in found["certificates"]]) == (0, ["ok", "ok", "ok"])
    # Without host_ca hosts trust what their system trusts, and that is not this one.
    code, found = examine(home, env=tls)
    assert found["public-url"][0][0] == "fail"
    assert "certificate that hosts do not trust" in found["public-url"][0][1]
    code, found = examine(home, env=trusted | {"CDXSYNC_TLS_KEY": str(pki / "admin.key")})
    assert (code, found["certificates"][-2][0]) == (1, "fail")


class _Other(QuietHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>somebody else</html>")


@pytest.mark.slow
def test_public_urls_that_do_not_answer(healthy: Fleet, home: Path) -> None:
    def finding(url: str) -> tuple[str, str]:
        level, text, mend = examine(home, env={"PUBLIC_BASE_URL": url})[1]["public-url"][0]
        assert mend or level == "ok"
        return level, text

    port = free_port()
    assert finding(f"https://localhost:{port}") == ("fail", f"nothing listens at https://localhost:{port}")
    assert "cannot be resolved" in finding("https://nowhere.invalid")[1]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "did not answer within 5 seconds" in finding(f"https://localhost:{silent.getsockname()[1]}")[1]
    other = ThreadingHTTPServer(("127.0.0.1", 0), _Other)
    threading.Thread(target=other.serve_forever, args=(0.02,), daemon=True).start()
    try:
        assert "not a cdxsync server" in finding(f"http://localhost:{other.server_port}")[1]
        assert "refuses the TLS handshake" in finding(f"https://localhost:{other.server_port}")[1]
    finally:
        other.shutdown()
        other.server_close()
    assert examine(home, "--skip", "public-url")[0] == 0
    done = run_cli("--home", str(home), "doctor", "--skip", "nonsense", check=False)
    assert done.returncode == 2
    assert "No check 'nonsense' to skip; there are: settings, home" in done.stderr


def test_the_canonical_document_and_its_token(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth("2026-01-01T00:00:00Z"))
    code, found = examine(fresh_fleet.home, "--skip", "public-url")
    assert code == 0
    assert "no host has refreshed it since" in found["canonical"][0][1]
    assert found["access-token"] == [("ok", "it expires at 2100-01-01T00:00:00+00:00", None)]
    document = make_auth((datetime.now(UTC) - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ"))
    document["tokens"]["access_token"] = jwt("expired", expires=1_700_000_000)
    fresh_fleet.upload(document)
    found = examine(fresh_fleet.home)[1]
    assert found["canonical"][0][0] == "ok"
    assert found["access-token"][0][:2] == ("warn", "it expired at 2023-11-14T22:13:20+00:00")
    odd = base64.urlsafe_b64encode(b'{"exp": "never"}').decode()
    for number, token in enumerate(
        ["sk-abcdefghijklmnopqrstuvwxyz", f"abcdef.{odd}.abcdefghijkl", "abcdefgh.%%%.ijklmnop-qrstuvwxyz"]
    ):
        at = (datetime.now(UTC) - timedelta(seconds=30 - number)).strftime("%Y-%m-%dT%H:%M:%SZ")
        fresh_fleet.upload({"last_refresh": at, "OPENAI_API_KEY": token})
        assert examine(fresh_fleet.home)[1]["access-token"] == [("ok", "no token has an expiry date", None)]
    # A key is not refreshed, so its age is no sign of anything.
    level, text, _ = examine(fresh_fleet.home)[1]["canonical"][0]
    assert (level, "has an API key of" in text) == ("ok", True)
    execute(fresh_fleet.home, "UPDATE auth_payloads SET created_at = '2099-01-01T00:00:00+00:00'")
    assert examine(fresh_fleet.home)[1]["clock-database"][0][0] == "fail"


def test_a_check_that_breaks_is_a_finding_and_ends_nothing() -> None:
    def broken(subject: doctor.Subject) -> Iterator[doctor.Finding]:
        yield ok("so far")
        raise ZeroDivisionError("by nought")

    def failing(subject: doctor.Subject) -> Iterator[doctor.Finding]:
        yield fail("no")

    checks = [
        Check("one", broken),
        Check("two", failing),
        Check("three", failing, ("two",)),
        Check("four", failing, ("three",)),
        Check("five", lambda subject: [ok("yes")]),
    ]
    found = examine_with(checks, doctor.Subject(Path("/"), None))
    assert [(finding.check, finding.level, finding.text) for finding in found] == [
        ("one", "ok", "so far"),
        ("one", "fail", "the check failed: ZeroDivisionError: by nought"),
        ("two", "fail", "no"),
        ("three", "warn", "not checked: two failed"),
        ("four", "warn", "not checked: three failed"),
        ("five", "ok", "yes"),
    ]
