"""Hosts that keep no credentials after a run; and what makes Codex use another login than the fleet's."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.wrapper.src import codex_settings
from tests.support.documents import API_KEY, make_auth, with_auths
from tests.support.fleet import Fleet, free_port, running_fleet
from tests.support.machines import STUB_CODEX, Machine, host
from tests.support.stub_server import StubServer
from tests.support.together import until

OLD, NEW = "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"
# Tells whether it has a login; with HOLD it waits.
CODEX = """#!/bin/sh
case "$1" in --version) echo "codex-cli 0.169.0"; exit 0;; esac
[ -e "$HOME/.codex/auth.json" ] && echo "has a login"
if [ -n "$NEW_AUTH" ]; then cp "$NEW_AUTH" "${CODEX_HOME:-$HOME/.codex}/auth.json"; fi
if [ -n "$HOLD" ]; then touch "$HOLD.ready"; while [ ! -e "$HOLD" ]; do sleep 0.05; done; fi
[ -z "$HOLD" ] || [ -e "$HOME/.codex/auth.json" ] && echo "still has it"
"""


@pytest.fixture(scope="module")
def synced(fleet: Fleet) -> Fleet:
    fleet.upload(make_auth(OLD))
    return fleet


@pytest.fixture
def machine(synced: Fleet, tmp_path: Path) -> Machine:
    """A host that is to keep nothing."""
    made = host(synced, tmp_path, codex=CODEX)
    synced.cli("hosts", "permit", made.env["NAME"], "--keep-auth", "off")
    return made


def test_nothing_stays_after_a_run(synced: Fleet, machine: Machine) -> None:
    for _ in range(2):
        done = machine.run_cdx("exec")
        assert (done.returncode, done.stdout, done.stderr) == (0, "has a login\nstill has it\n", "")
        assert not machine.auth_file.exists()
    assert machine.run_cdx("--wrapper-sync").returncode == 0
    assert not machine.auth_file.exists()
    status = machine.run_cdx("--status")
    assert "none between runs: this host keeps no credentials" in status.stdout
    doctor = machine.run_cdx("--doctor")
    assert doctor.returncode == 0
    assert "this host keeps none" in doctor.stdout
    # Without the server there is nothing to start with.
    done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=f"https://localhost:{free_port()}")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there are no cached credentials" in done.stderr
    synced.cli("hosts", "permit", machine.env["NAME"], "--keep-auth", "on")
    assert machine.run_cdx("exec").returncode == 0
    assert machine.auth_file.exists()


def test_it_goes_when_the_server_is_away_at_the_end(machine: Machine, tmp_path: Path) -> None:
    """What is to be kept is remembered."""
    assert machine.run_cdx("exec").returncode == 0
    machine.put_auth(with_auths(make_auth(OLD)))
    away = f"https://localhost:{free_port()}"
    done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=away)
    assert done.returncode == 1
    assert not machine.auth_file.exists()


def test_it_goes_with_the_last_run(machine: Machine, tmp_path: Path) -> None:
    machine.run_cdx("exec")
    hold = tmp_path / "hold"
    env = machine.env | {"HOLD": str(hold)}
    long = subprocess.Popen([machine.cdx, "exec"], env=env, stdout=subprocess.PIPE, text=True)
    until(Path(f"{hold}.ready").exists)
    for _ in range(2):
        assert machine.run_cdx("exec").stdout == "has a login\nstill has it\n"
        assert machine.auth_file.exists()
    hold.touch()
    assert long.communicate(timeout=60)[0] == "has a login\nstill has it\n"
    assert not machine.auth_file.exists()


@pytest.mark.parametrize("command", ["exec", "--wrapper-sync"])
def test_what_a_killed_run_has_left_goes_with_the_next(machine: Machine, tmp_path: Path, command: str) -> None:
    machine.run_cdx("exec")
    hold = tmp_path / "hold"
    long = subprocess.Popen(
        [machine.cdx, "exec"], env=machine.env | {"HOLD": str(hold)}, stdout=subprocess.DEVNULL, start_new_session=True
    )
    until(Path(f"{hold}.ready").exists)
    os.killpg(long.pid, signal.SIGKILL)
    long.wait()
    assert machine.auth_file.exists()
    machine.run_cdx(command, CODEX_SYNC_BASE_URL=f"https://localhost:{free_port()}")
    assert not machine.auth_file.exists()


def test_a_login_here_is_shared_and_does_not_stay(synced: Fleet, tmp_path: Path) -> None:
    with running_fleet(tmp_path / "home") as fleet:
        fleet.upload(make_auth(OLD))
        machine = host(fleet, tmp_path, codex=CODEX)
        fleet.cli("hosts", "permit", machine.env["NAME"], "--keep-auth", "off")
        machine.run_cdx("exec")
        path = tmp_path / "new.json"
        path.write_text(json.dumps(make_auth(NEW, "new")))
        done = machine.run_cdx("login", NEW_AUTH=str(path))
        assert done.stderr == "cdx: this login is shared with the fleet\n"
        assert not machine.auth_file.exists()
        assert fleet.canonical() == with_auths(make_auth(NEW, "new"))
        assert machine.run_cdx("exec").stdout == "has a login\nstill has it\n"


def test_a_private_login_stays(machine: Machine) -> None:
    """It is not the fleet's to remove."""
    machine.run_cdx("exec")
    private = make_auth(NEW, "private", account="acc-2", user="u2")
    machine.put_auth(private)
    for _ in range(2):
        assert machine.run_cdx("exec").returncode == 0
        assert machine.auth() == private


def test_the_store_of_the_fleet(tmp_path: Path) -> None:
    """Codex is told to use the file, with a server that is away, too; its own arguments come after."""
    codex = STUB_CODEX.replace('echo "ran with: $*"', 'echo "ran with:$(printf " <%s>" "$@")"')
    with running_fleet(tmp_path / "home", env={"CDXSYNC_CODEX_FILE_STORE": "true"}) as fleet:
        fleet.upload(make_auth(OLD))
        machine = host(fleet, tmp_path, codex=codex)
        expected = 'ran with: <-c> <cli_auth_credentials_store="file"> <exec> <a b>\n'
        for env in ({}, {"CODEX_SYNC_BASE_URL": f"https://localhost:{free_port()}"}):
            assert machine.run_cdx("exec", "a b", **env).stdout == expected
        (machine.home / ".codex" / "config.toml").write_text('cli_auth_credentials_store = "keyring"\n')
        assert "keyring" not in machine.run_cdx("--status").stdout


@pytest.mark.parametrize(
    ("env", "config", "says"),
    [
        ({"CODEX_API_KEY": "sk-x"}, "", "CODEX_API_KEY is set"),
        ({"CODEX_ACCESS_TOKEN": "at-x"}, "", "CODEX_ACCESS_TOKEN is set"),
        ({}, 'cli_auth_credentials_store = "keyring"', "cli_auth_credentials_store is keyring"),
    ],
)
def test_another_login_than_the_fleets_is_told(
    synced: Fleet, tmp_path: Path, env: dict[str, str], config: str, says: str
) -> None:
    machine = host(synced, tmp_path)
    assert machine.run_cdx("exec").returncode == 0
    for command in ("--status", "--doctor"):
        assert says not in machine.run_cdx(command).stdout
    (machine.home / ".codex" / "config.toml").write_text(config)
    for command in ("--status", "--doctor"):
        done = machine.run_cdx(command, **env)
        assert done.returncode == 0
        assert says in done.stdout
        assert "sk-x" not in done.stdout
        assert "at-x" not in done.stdout


@pytest.mark.parametrize(
    ("text", "store"),
    [
        ("", "file"),
        ('cli_auth_credentials_store = "keyring"', "keyring"),
        ("cli_auth_credentials_store='auto' # why", "auto"),
        ('"cli_auth_credentials_store"   =   "ephemeral"\r\n', "ephemeral"),
        ('# cli_auth_credentials_store = "keyring"', "file"),
        ('[profiles.x]\ncli_auth_credentials_store = "keyring"', "file"),
        ('notify = """\ncli_auth_credentials_store = "keyring"\n"""', "file"),
        ("text = '''\n[no table]\n'''\ncli_auth_credentials_store = \"keyring\"", "keyring"),
        ('model = "x"\ncli_auth_credentials_store = "keyring"\n[a]\n', "keyring"),
        ('notify = [\n  ["a"], # ]\n  "[x]",\n]\ncli_auth_credentials_store = "keyring"', "keyring"),
        ('a = {b = 1}\ncli_auth_credentials_store = """\nkeyring"""', "keyring"),
        ('cli_auth_credentials_store = "keyring\ncli_auth_credentials_store = "auto"', "auto"),
        ('[[a]]\ncli_auth_credentials_store = "keyring"', "file"),
    ],
)
def test_the_store_in_the_settings_of_codex(tmp_path: Path, text: str, store: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    assert codex_settings.credentials_store(str(tmp_path)) == store


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Where settings may be: of the system, a home, a project that is trusted, and a company."""
    found = {name: tmp_path / f"{name}.toml" for name in ("system", "managed")}
    monkeypatch.setattr(codex_settings, "SYSTEM_SETTINGS", str(found["system"]))
    monkeypatch.setattr(codex_settings, "MANAGED_SETTINGS", (str(found["managed"]),))
    found |= {"home": tmp_path / "home" / "config.toml", "profile": tmp_path / "home" / "x.config.toml"}
    found["project"] = tmp_path / "project" / ".codex" / "config.toml"
    for path in found.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    below = tmp_path / "project" / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    found["home"].write_text(f'[projects."{tmp_path / "project"}"]\ntrust_level = "trusted"\n')
    return found


@pytest.mark.parametrize("name", ["system", "project", "managed", "profile"])
@pytest.mark.parametrize("file_store", [True, False])
def test_settings_are_in_several_files(places: dict[str, Path], name: str, file_store: bool) -> None:
    home = str(places["home"].parent)
    assert codex_settings.other_logins(home, file_store) == []
    places[name].write_text('cli_auth_credentials_store = "keyring"\n')
    found = codex_settings.other_logins(home, file_store)
    assert bool(found) is (name == "managed" or not file_store)
    assert all(str(places[name]) in text for text, _ in found)
    assert codex_settings.credentials_store(home) == ("file" if name == "profile" else "keyring")


def test_a_later_file_decides(places: dict[str, Path]) -> None:
    home = str(places["home"].parent)
    places["system"].write_text('cli_auth_credentials_store = "keyring"\n')
    places["project"].write_text('cli_auth_credentials_store = "file"\n')
    assert codex_settings.credentials_store(home) == "file"
    assert codex_settings.other_logins(home, False) == []
    # A project that is not trusted has no say.
    places["home"].write_text("")
    assert codex_settings.credentials_store(home) == "keyring"


@pytest.mark.parametrize(
    ("setting", "login", "says"),
    [
        ('forced_login_method = "api"', make_auth(OLD), "forced_login_method is api"),
        ('forced_login_method = "chatgpt"', make_auth(OLD), ""),
        ('forced_login_method = "chatgpt"', API_KEY, "forced_login_method is chatgpt"),
        ('forced_login_method = "api"', API_KEY, ""),
        ('forced_chatgpt_workspace_id = "other"', make_auth(OLD), "forced_chatgpt_workspace_id"),
        ('forced_chatgpt_workspace_id = ["other", "acc-1"]', make_auth(OLD), ""),
        ('forced_chatgpt_workspace_id = "other"', API_KEY, ""),
        ('forced_chatgpt_workspace_id = "other"', "no login", ""),
    ],
)
def test_a_login_that_codex_deletes_is_told(places: dict[str, Path], setting: str, login: Any, says: str) -> None:
    places["system"].write_text(setting)
    home = places["home"].parent
    (home / "auth.json").write_text(json.dumps(login))
    found = codex_settings.other_logins(str(home), True)
    assert bool(found) is bool(says)
    assert all(says in text and "deletes" in text for text, _ in found)


@given(st.binary(max_size=200))
def test_no_settings_stop_cdx(text: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.toml").write_bytes(text)
        assert isinstance(codex_settings.credentials_store(folder), str)


def test_an_answer_without_a_login_forgets_nothing(machine: Machine, stub: StubServer) -> None:
    """As of an older server, which a host may be sent to for a while."""
    machine.run_cdx("exec")
    machine.put_auth(with_auths(make_auth(OLD)))
    stub.valid()
    machine.run_cdx("exec", CODEX_SYNC_BASE_URL=stub.url)
    assert machine.note("login.json")["keep"] is False
    assert not machine.auth_file.exists()
