"""cdx on a host: what it does with the server's answers, and that Codex runs untouched."""

import json
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import jwt, make_auth, with_auths, without_expiry
from tests.support.fleet import Fleet, free_port, running_fleet
from tests.support.machines import Machine, everyday_programs, host, machine_key, only_its_own_codex, write_program
from tests.support.scheduling import with_crontab
from tests.support.stub_server import StubServer

OLD, NEW = "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"


@pytest.fixture(scope="module")
def synced(fleet: Fleet) -> Fleet:
    """A fleet that has a document."""
    fleet.upload(make_auth(OLD))
    return fleet


def ago(**delta: float) -> str:
    return (datetime.now(UTC) - timedelta(**delta)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize("minor", [8, 9, 10, 11, 12, 13])
def test_it_runs_on_other_pythons(synced: Fleet, tmp_path: Path, minor: int) -> None:
    installed = Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3.{minor}")
    named = [f"python3.{minor}", *map(str, installed)]
    python = next((name for name in named if shutil.which(name) and subprocess.run([name, "-V"]).returncode == 0), None)
    if python is None:
        pytest.skip(f"no Python 3.{minor} here")
    codex = """#!/bin/sh
case "$1" in --version) echo "codex-cli 0.169.0"; exit;; esac
mkdir -p "$HOME/.codex/prompts" && echo "$0" >"$HOME/.codex/prompts/python.md"
echo "Token usage: total=12 input=7 output=5"
"""
    machine = host(synced, tmp_path, codex=codex)
    with_crontab(machine)
    (machine.bin / "python3").unlink()
    write_program(machine.bin / "python3", f'#!/bin/sh\nexec "{python}" -W error "$@"\n')
    done = machine.run_cdx("exec")
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.auth() == with_auths(make_auth(OLD))
    assert "python.md" in synced.cli("--json", "prompts", "list").stdout
    assert machine.spooled() == []
    assert machine.run_cdx("--status").returncode == 0
    done = machine.run_cdx("--doctor")
    assert done.returncode == 0, done.stdout
    assert f"on Python 3.{minor}." in done.stdout
    for arguments in (["install"], ["run"], ["status"], ["remove"]):
        done = machine.run_cdx("--watch", *arguments)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
    assert machine.run_cdx("--uninstall", "--yes").returncode == 0


def test_own_options(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    version = machine.run_cdx("--wrapper-version")
    assert version.stdout == machine.run_cdx("-W").stdout == "cdx wrapper 0.1.0\n"
    assert "--wrapper-sync" in machine.run_cdx("--wrapper-help").stdout
    assert not machine.auth_file.exists()
    assert machine.run_cdx("exec", "--wrapper-version").stdout == "ran with: exec --wrapper-version\n"
    machine.auth_file.unlink()
    done = machine.run_cdx("--wrapper-sync")
    assert (done.returncode, done.stdout) == (0, "")
    assert machine.auth() == with_auths(make_auth(OLD))


def test_help_and_version_of_codex_need_no_server(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    before = ("-c a=b --version", "-mx help", "--image=a.png completion bash", "exec hello --help", "hello -h")
    for words in ("--version", "--help", "-h", "-V", "help", *before):
        done = machine.run_cdx(*words.split(), CODEX_SYNC_BASE_URL="https://localhost:1")
        assert done.returncode == 0
        assert done.stderr == ""
    assert not machine.auth_file.exists()
    for words in ("exec -- --help", "sandbox ls --help"):
        machine.run_cdx(*words.split())
        assert machine.auth_file.exists(), words
        machine.auth_file.unlink()


def test_a_quiet_run_says_nothing(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    for _ in range(2):
        done = machine.run_cdx("exec", "a b", "--flag=$HOME", CODEX_EXIT="7")
        assert (done.returncode, done.stdout, done.stderr) == (7, "ran with: exec a b --flag=$HOME\n", "")
    shown = synced.host(machine.env["NAME"])
    assert shown["client_version"] == "0.169.0"
    assert shown["wrapper_version"] == "0.1.0"


def test_codex_home_and_symbolic_links_are_kept(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "real.json").write_text("{}")
    (tmp_path / "codex home").mkdir()
    link = tmp_path / "codex home" / "auth.json"
    link.symlink_to(other / "real.json")
    assert machine.run_cdx("exec", CODEX_HOME=str(link.parent)).returncode == 0
    assert link.is_symlink()
    assert json.loads((other / "real.json").read_text()) == with_auths(make_auth(OLD))
    assert (other / "real.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in other.iterdir()] == ["real.json"]


def test_a_newer_local_document_is_pushed_before_the_run(fresh_fleet: Fleet, tmp_path: Path) -> None:
    fresh_fleet.upload(make_auth(OLD))
    machine = host(fresh_fleet, tmp_path)
    assert machine.run_cdx("--wrapper-sync").returncode == 0
    machine.put_auth(make_auth(NEW, "new"))
    before = machine.auth_file.read_bytes()
    assert machine.run_cdx("exec").returncode == 0
    assert fresh_fleet.canonical() == with_auths(make_auth(NEW, "new"))
    assert machine.auth_file.read_bytes() == before


def test_an_older_local_document_is_replaced(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    machine.put_auth(make_auth("2025-06-01T00:00:00Z", "stale"))
    assert machine.run_cdx("exec").returncode == 0
    assert machine.auth() == with_auths(make_auth(OLD))
    shown = synced.host(machine.env["NAME"])
    assert shown["last_refresh"] == OLD


def test_a_file_that_others_are_writing_is_looked_at_again(synced: Fleet, tmp_path: Path, stub: StubServer) -> None:
    """Runs beside this one in the same home, and their Codex, write it, too."""
    machine = host(synced, tmp_path)
    assert machine.run_cdx("--wrapper-sync").returncode == 0
    newest = with_auths(make_auth(NEW, "new"))
    asked: list[str] = []

    def answer(body: bytes) -> tuple[int, bytes]:
        asked.append(json.loads(body)["last_refresh"])
        if asked[-1] == NEW:
            data: dict[str, Any] = {"status": "valid"}
        else:
            data = {"status": "outdated", "auth": newest}
            if len(asked) <= 5:
                machine.put_auth(make_auth(f"2025-06-01T00:00:0{len(asked)}Z", "another run's"))
        return 200, json.dumps({"status": "ok", "data": {**data, "api_calls": 1}}).encode()

    stub.valid()
    stub.answers["POST", "/auth"] = answer
    done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=stub.url)
    assert (done.returncode, done.stdout) == (0, "ran with: exec\n"), done.stderr
    assert machine.auth() == newest
    assert asked[:7] == [OLD, *(f"2025-06-01T00:00:0{turn}Z" for turn in range(1, 6)), NEW]


@pytest.mark.parametrize("content", ["{torn", "[]", "null"])
def test_an_unreadable_file_is_kept_aside(synced: Fleet, tmp_path: Path, content: str) -> None:
    machine = host(synced, tmp_path)
    machine.auth_file.parent.mkdir()
    machine.auth_file.write_text(content)
    done = machine.run_cdx("exec")
    assert done.returncode == 0
    assert "auth.json.unreadable" in done.stderr
    kept = machine.auth_file.with_name("auth.json.unreadable")
    assert kept.read_text() == content
    assert kept.stat().st_mode & 0o777 == 0o600
    assert machine.auth() == with_auths(make_auth(OLD))


def test_a_login_by_api_key_has_no_date(fresh_fleet: Fleet, tmp_path: Path) -> None:
    """The date of its file would make an old copy the newest login."""
    machine = host(fresh_fleet, tmp_path)
    login = {"auth_mode": "apikey", "OPENAI_API_KEY": "sk-abcdefghijklmnopqrstuvwxyz"}
    machine.put_auth(login)
    assert machine.run_cdx("exec").returncode == 0
    canonical = fresh_fleet.canonical()
    assert canonical is not None
    assert canonical["last_refresh"] == "2000-01-01T00:00:00Z"
    assert canonical["OPENAI_API_KEY"] == login["OPENAI_API_KEY"]
    assert machine.auth() == login
    machine.put_auth(login)
    assert "the server says valid" in machine.run_cdx("exec", CODEX_DEBUG="1").stderr


def test_a_login_that_the_fleet_does_not_take_works_on_its_host(fresh_fleet: Fleet, tmp_path: Path) -> None:
    machine = host(fresh_fleet, tmp_path)
    machine.put_auth({"OPENAI_API_KEY": "sk-short"})
    done = machine.run_cdx("exec")
    assert done.returncode == 0
    assert "auth.auths.api.openai.com.token is too short" in done.stderr
    assert "stays on this host" in done.stderr
    assert fresh_fleet.canonical() is None


def test_logging_out_does_not_bring_the_file_back_at_once(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex='#!/bin/sh\nrm -f "${CODEX_HOME:-$HOME/.codex}/auth.json"\n')
    assert machine.run_cdx("logout").returncode == 0
    assert not machine.auth_file.exists()


def refused(machine: Machine, **env: str) -> str:
    """Codex must not start; the local file must survive."""
    before = machine.auth_file.read_bytes()
    done = machine.run_cdx("exec", **env)
    assert (done.returncode, done.stdout) == (1, "")
    assert machine.auth_file.read_bytes() == before
    # A broken login can still be repaired.
    assert machine.run_cdx("login", **env).returncode == 0
    return done.stderr


def test_a_refusal_names_its_mending_and_deletes_nothing(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    name = machine.env["NAME"]
    machine.put_auth(make_auth(ago(hours=1)))
    text = refused(machine, CODEX_SYNC_API_KEY="cdx_" + "0" * 64)
    assert "Invalid API key" in text
    assert f"cdxsync hosts register {name}" in text
    assert "0" * 64 not in text

    synced.execute("UPDATE hosts SET ip = '192.0.2.1' WHERE fqdn = ?", name)
    assert f"Ask your admin to run: cdxsync hosts unbind {name}" in refused(machine)
    synced.execute("UPDATE hosts SET ip = NULL, status = 'disabled' WHERE fqdn = ?", name)
    assert f"cdxsync hosts enable {name}" in refused(machine)
    done = machine.run_cdx("--wrapper-sync")
    assert done.returncode == 1
    assert "Host is disabled" in done.stderr


@pytest.fixture
def answering(stub: StubServer) -> Callable[[int, bytes], str]:
    """A server of one fixed answer, for those that the real one does not give."""

    def answer(status: int, body: bytes) -> str:
        stub.otherwise = (status, body)
        return stub.url

    return answer


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (500, b"<html>oops", "HTTP status 500"),
        (503, b'{"status":"error","message":"The database cannot be used now"}', "The database cannot be used now"),
        (429, b"{}", "HTTP status 429"),
        (200, b"hello", "HTTP status 200"),
        (200, b'{"status":"ok","data":{"status":"surprise"}}', "surprise"),
        (200, b'{"status":"ok","data":null}', "HTTP status 200"),
        (404, b'{"status":"error","message":"Route not found"}', "refuses the request: Route not found"),
        (422, b'{"message":"Validation failed","errors":{"digest":["is odd"]}}', "Validation failed: digest is odd"),
    ],
)
def test_a_server_in_trouble_leaves_fresh_credentials_usable(
    synced: Fleet, tmp_path: Path, answering: Callable[[int, bytes], str], status: int, body: bytes, says: str
) -> None:
    machine = host(synced, tmp_path)
    url = answering(status, body)
    machine.put_auth(make_auth(ago(hours=1)))
    done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=url)
    assert (done.returncode, done.stdout) == (0, "ran with: exec\n")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    machine.put_auth(without_expiry(make_auth(ago(hours=30))))
    assert "30 hours old" in refused(machine, CODEX_SYNC_BASE_URL=url)


@pytest.mark.parametrize(("minutes", "starts"), [(24 * 60 - 2, True), (24 * 60 + 1, False), (-4, True), (-10, False)])
def test_the_offline_limit(synced: Fleet, tmp_path: Path, minutes: int, starts: bool) -> None:
    machine = host(synced, tmp_path)
    machine.put_auth(without_expiry(make_auth(ago(minutes=minutes))))
    done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=f"https://localhost:{free_port()}")
    assert done.returncode == (0 if starts else 1)
    assert "cannot be reached" in done.stderr
    assert "using the cached credentials" in done.stderr if starts else "credentials are" in done.stderr


@pytest.mark.parametrize(("minutes", "starts"), [(60 * 24 * 8, True), (12, True), (9, False), (-60, False)])
def test_offline_an_access_token_is_good_until_it_ends(
    synced: Fleet, tmp_path: Path, minutes: int, starts: bool
) -> None:
    """However old the file is, or whatever its date: the token says when it ends."""
    machine = host(synced, tmp_path)
    expires = int(datetime.now(UTC).timestamp()) + 60 * minutes
    for date in (OLD, ago(hours=-1)):
        document = make_auth(date)
        document["tokens"]["access_token"] = jwt("life", expires=expires)
        machine.put_auth(document)
        done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=f"https://localhost:{free_port()}")
        assert done.returncode == (0 if starts else 1)
        assert ("using the cached credentials" if starts else "have expired, or do so within 10 min") in done.stderr


def test_offline_a_key_is_good_for_a_day_after_the_last_sync(fresh_fleet: Fleet, tmp_path: Path) -> None:
    machine = host(fresh_fleet, tmp_path)
    machine.put_auth({"auth_mode": "apikey", "OPENAI_API_KEY": "sk-abcdefghijklmnopqrstuvwxyz"})
    away = {"CODEX_SYNC_BASE_URL": f"https://localhost:{free_port()}"}
    assert machine.run_cdx("exec", **away).returncode == 1
    assert machine.run_cdx("exec").returncode == 0
    assert machine.run_cdx("exec", **away).returncode == 0
    notes = machine.home / ".codex" / ".cdx" / "contact.json"
    notes.write_text(json.dumps({"synced_at": (datetime.now(UTC) - timedelta(hours=25)).timestamp()}))
    done = machine.run_cdx("exec", **away)
    assert done.returncode == 1
    assert "25 hours old" in done.stderr


def test_offline_without_credentials(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=f"https://localhost:{free_port()}")
    assert done.returncode == 1
    assert "there are no cached credentials" in done.stderr
    assert "cdx --doctor" in done.stderr


def test_a_server_that_is_not_ours_is_not_talked_to(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    machine.put_auth(make_auth(ago(hours=1)))
    with running_fleet(tmp_path / "other") as other:
        done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=other.url)
        assert done.returncode == 0
        assert "certificate cannot be verified" in done.stderr
        assert json.loads(other.cli("--json", "hosts", "list").stdout) == {"hosts": []}
        # With the other's CA named it is a server like any; that it does not know the key is another matter.
        done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=other.url, CODEX_SYNC_CA_FILE=str(other.ca_file))
        assert "Invalid API key" in done.stderr


def test_the_key_does_not_travel_in_the_clear(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL="http://cdx.example.net")
    assert done.returncode == 1
    assert "not encrypted" in done.stderr


def test_a_changed_file_is_pushed_even_when_codex_fails_or_dies(fresh_fleet: Fleet, tmp_path: Path) -> None:
    fresh_fleet.upload(make_auth(OLD))
    for number, ending in enumerate(["exit 3", "kill -9 $$", "kill -TERM $$"], 1):
        machine = host(fresh_fleet, tmp_path, codex=f'#!/bin/sh\ncp "$NEW_AUTH" "$HOME/.codex/auth.json"\n{ending}\n')
        document = make_auth(f"2026-03-0{number}T00:00:00Z", ending)
        (tmp_path / "new.json").write_text(json.dumps(document))
        done = machine.run_cdx("exec", NEW_AUTH=str(tmp_path / "new.json"))
        assert done.returncode == {1: 3, 2: -signal.SIGKILL, 3: -signal.SIGTERM}[number]
        assert fresh_fleet.canonical() == with_auths(document)


def test_a_server_that_goes_away_during_the_run_costs_a_line(fresh_fleet: Fleet, tmp_path: Path) -> None:
    fresh_fleet.upload(make_auth(OLD))
    (tmp_path / "new.json").write_text(json.dumps(make_auth(NEW, "late")))
    codex = """#!/bin/sh
cp "$NEW_AUTH" "$HOME/.codex/auth.json"
kill $SERVER
while kill -0 $SERVER 2>/dev/null; do sleep 0.05; done
exit 4
"""
    machine = host(fresh_fleet, tmp_path, codex=codex)
    machine.run_cdx("--wrapper-sync")
    watcher = threading.Thread(target=fresh_fleet.processes[0].wait)  # reaps it, so that its number goes away
    watcher.start()
    env = {"NEW_AUTH": str(tmp_path / "new.json"), "SERVER": str(fresh_fleet.processes[0].pid)}
    done = machine.run_cdx("exec", **env)
    watcher.join()
    assert done.returncode == 4
    assert "the next run tries again" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    fresh_fleet.processes.clear()
    fresh_fleet.start()
    assert machine.run_cdx("--wrapper-sync").returncode == 0
    assert fresh_fleet.canonical() == with_auths(make_auth(NEW, "late"))


def test_codex_is_never_cdx_itself(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    first = tmp_path / "first"
    first.mkdir()
    (first / "codex").symlink_to(machine.cdx)
    machine.env["PATH"] = f"{first}:{machine.env['PATH']}"
    assert machine.run_cdx("exec").stdout == "ran with: exec\n"
    (machine.bin / "codex").unlink()
    machine.env["PATH"] = f"{first}:{machine.bin}:{everyday_programs(tmp_path)}"
    done = only_its_own_codex(machine).run_cdx("exec")
    assert done.returncode == 127
    assert "npm install -g @openai/codex" in done.stderr


def test_the_version_of_codex_is_asked_once(synced: Fleet, tmp_path: Path) -> None:
    log = tmp_path / "asked"
    codex = f'#!/bin/sh\nif [ "$1" = --version ]; then echo x >>"{log}"; echo "codex-cli 2.5.1"; fi\n'
    machine = host(synced, tmp_path, codex=codex)
    for _ in range(3):
        machine.run_cdx("exec")
    assert log.read_text() == "x\n"
    write_program(machine.bin / "codex", codex.replace("2.5.1", "2.5.10"))
    machine.run_cdx("exec")
    shown = synced.host(machine.env["NAME"])
    assert shown["client_version"] == "2.5.10"


def test_no_secret_is_said(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    text = ""
    for env in ({}, {"CODEX_SYNC_BASE_URL": "https://localhost:1"}, {"CODEX_SYNC_API_KEY": "cdx_wrong"}):
        for arguments in (["exec"], ["--wrapper-sync"], ["login"]):
            done = machine.run_cdx(*arguments, CODEX_DEBUG="1", **env)
            text += done.stdout + done.stderr
    for secret in (machine_key(machine), "cdx_wrong", *make_auth(OLD)["tokens"].values()):
        assert secret == "acc-1" or secret not in text
