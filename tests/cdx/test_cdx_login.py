"""cdx login and cdx logout: nothing of the fleet's can be revoked, and no login is lost, however they end."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, cast

import pytest

from cdxsync.wrapper.src.api import Api
from cdxsync.wrapper.src.codex_command import command_index, login_command
from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.login_note import LoginNote
from cdxsync.wrapper.src.sync import Sync
from tests.support.calls import logs
from tests.support.documents import ACCESS_TOKEN, API_KEY, jwt, make_auth, with_auths
from tests.support.fleet import Fleet, free_port
from tests.support.machines import Machine, Terminal, host
from tests.support.stub_server import StubServer
from tests.support.together import until

OLD, NEW, NEWEST = "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"
# As Codex: login and logout delete the file first, and tell what they found in it. HOLD waits then, HANG for ever.
CODEX = """#!/bin/sh
case "$1" in --version) echo "codex-cli 0.169.0"; exit 0;; esac
home="${CODEX_HOME:-$HOME/.codex}"
case "$*" in
*status*|*--help*|exec*) echo "ran with: $*"; exit 0;;
*logout*)
    echo "found $(cat "$home/auth.json")"
    [ -n "$FAIL" ] && exit 1
    rm -f "$home/auth.json"
    echo "logged out"
    exit 0;;
esac
[ -e "$home/auth.json" ] && echo "found $(cat "$home/auth.json")"
rm -f "$home/auth.json"
echo "with $* and $(cat "$home/config.toml" 2>/dev/null)"
if [ -n "$HOLD" ]; then touch "$HOLD.ready"; while [ ! -e "$HOLD" ]; do sleep 0.05; done; fi
[ -n "$NEW_AUTH" ] && cp "$NEW_AUTH" "$home/auth.json"
if [ -n "$HANG" ]; then touch "$HANG"; while :; do sleep 0.05; done; fi
exit "${CODEX_EXIT:-0}"
"""


def left_alone(machine: Machine) -> bool:
    """Whether no process is in the folder of a login any more; what Codex has started may outlive it a little."""
    for path in (machine.home / ".codex" / ".cdx" / "logins").iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
    return True


@pytest.fixture
def synced(fresh_fleet: Fleet) -> Fleet:
    fresh_fleet.upload(make_auth(OLD))
    return fresh_fleet


@pytest.fixture
def machine(synced: Fleet, tmp_path: Path) -> Machine:
    """A host in step with its fleet."""
    made = host(synced, tmp_path, codex=CODEX)
    assert made.run_cdx("--wrapper-sync").returncode == 0
    (made.home / ".codex" / "config.toml").write_text("of this home")
    return made


def document(root: Path, value: dict[str, Any]) -> str:
    path = root / "new.json"
    path.write_text(json.dumps(value))
    return str(path)


def nothing_is_left(machine: Machine) -> None:
    """No folder of a login stays."""
    assert not list((machine.home / ".codex" / ".cdx").glob("logins/*"))


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["login"], "login"),
        (["logout"], "logout"),
        (["-c", "a=b", "login", "--with-api-key"], "login"),
        (["--config=a", "--search", "-m", "x", "logout"], "logout"),
        (["login", "status"], ""),
        (["login", "-c", "a=b", "status"], ""),
        (["-m", "login"], ""),
        (["-i", "a.png", "login"], ""),
        (["-i", "a.png", "--search", "login"], "login"),
        (["--", "login"], ""),
        (["exec", "login"], ""),
        (["hello", "login"], "login"),
        (["hello", "-m", "x", "logout"], "logout"),
        (["-", "login"], "login"),
        (["-i", "a.png", "b.png", "-", "login"], ""),
        (["--image=a.png", "login"], "login"),
        (["-ia.png", "login"], "login"),
        (["-mx", "-C=/tmp", "--add-dir", "a", "logout"], "logout"),
        (["--enable", "login", "logout"], "logout"),
        (["--", "hello", "login"], ""),
        (["hello", "--", "login"], ""),
        (["hello", "there", "login"], ""),
        (["mcp", "login", "server"], ""),
        (["help", "login"], ""),
        (["resume", "login"], ""),
        (["login", "--with-api-key", "status"], ""),
        (["hello", "login", "status"], ""),
        (["login", "-c", "status"], "login"),
        (["login", "--experimental_client-id", "status"], "login"),
        (["logout", "status"], "logout"),
        (["log in, please"], ""),
        ([], ""),
    ],
)
def test_what_is_a_login(arguments: list[str], command: str) -> None:
    assert login_command(arguments) == command
    index = command_index(arguments)
    assert not command or arguments[index or 0] == command


def test_a_login_is_shared(synced: Fleet, machine: Machine, tmp_path: Path) -> None:
    login = make_auth(NEW, "new")
    done = machine.run_cdx("login", "--with", NEW_AUTH=document(tmp_path, login))
    assert (done.returncode, done.stdout) == (0, "with login --with and of this home\n")
    assert done.stderr == "cdx: this login is shared with the fleet\n"
    assert synced.canonical() == with_auths(login)
    assert machine.auth() == login
    nothing_is_left(machine)
    assert "the server says valid" in machine.run_cdx("exec", CODEX_DEBUG="1").stderr


@pytest.mark.parametrize("date", ["2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z", None], ids=["past", "future", "none"])
def test_the_clock_of_a_host_does_not_matter(synced: Fleet, machine: Machine, tmp_path: Path, date: str | None) -> None:
    login = {**make_auth(OLD, "by a clock that is wrong"), "last_refresh": date}
    done = machine.run_cdx("login", NEW_AUTH=document(tmp_path, login))
    assert done.stderr == "cdx: this login is shared with the fleet\n"
    canonical = synced.canonical() or {}
    assert canonical["tokens"] == login["tokens"]
    assert machine.auth()["tokens"] == login["tokens"]
    assert machine.auth()["last_refresh"] == canonical["last_refresh"]
    assert "the server says valid" in machine.run_cdx("exec", CODEX_DEBUG="1").stderr


@pytest.mark.parametrize("code", [0, 1])
def test_a_login_that_is_given_up_changes_nothing(synced: Fleet, machine: Machine, code: int) -> None:
    before = machine.auth_file.read_bytes()
    calls = synced.host(machine.env["NAME"])["api_calls"]
    done = machine.run_cdx("login", CODEX_EXIT=str(code))
    assert (done.returncode, done.stdout, done.stderr) == (code, "with login and of this home\n", "")
    assert machine.auth_file.read_bytes() == before
    assert synced.host(machine.env["NAME"])["api_calls"] == calls
    nothing_is_left(machine)


def test_a_login_that_is_interrupted_changes_nothing(machine: Machine, tmp_path: Path) -> None:
    before = machine.auth_file.read_bytes()
    terminal = Terminal(machine, "login", HOLD=str(tmp_path / "hold"))
    until((tmp_path / "hold.ready").exists)
    terminal.type(b"\x03")
    assert os.waitstatus_to_exitcode(terminal.wait()) == -signal.SIGINT
    assert machine.auth_file.read_bytes() == before
    nothing_is_left(machine)


@pytest.mark.parametrize("made", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("codex_too", [False, True], ids=["cdx", "both"])
def test_a_login_whose_cdx_is_killed(
    synced: Fleet, machine: Machine, tmp_path: Path, made: bool, codex_too: bool
) -> None:
    """The file stays in its place. A login that Codex makes, be it later, is taken up by the next run."""
    before = machine.auth_file.read_bytes()
    login = make_auth(NEW, "new")
    hold, hang = tmp_path / "hold", tmp_path / "hang"
    more = {"HANG": str(hang)} if made else {"HOLD": str(hold)}
    env = machine.env | more | {"NEW_AUTH": document(tmp_path, login)}
    process = subprocess.Popen([machine.cdx, "login"], env=env, stdout=subprocess.DEVNULL, start_new_session=True)
    until((hang if made else Path(f"{hold}.ready")).exists)
    [codex] = (int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    process.kill()
    process.wait()
    if codex_too:
        os.kill(codex, signal.SIGKILL)
        until(lambda: left_alone(machine))
    assert machine.auth_file.read_bytes() == before
    if not codex_too:
        # Codex goes on: its folder is left alone meanwhile.
        assert machine.run_cdx("exec").stderr == ""
        assert machine.auth_file.read_bytes() == before
        hold.touch()
        if made:
            os.kill(codex, signal.SIGTERM)
        until(lambda: left_alone(machine))
    expected = login if made or not codex_too else make_auth(OLD)
    done = machine.run_cdx("exec")
    assert done.returncode == 0
    assert ("a login that was cut off is taken up" in done.stderr) is (expected is login)
    assert synced.canonical() == with_auths(expected)
    nothing_is_left(machine)


def test_a_login_while_the_server_is_away_is_sent_by_the_next_run(
    synced: Fleet, machine: Machine, tmp_path: Path
) -> None:
    login = {**make_auth(OLD, "later"), "last_refresh": "2020-01-01T00:00:00Z"}
    away = {"CODEX_SYNC_BASE_URL": f"https://localhost:{free_port()}"}
    done = machine.run_cdx("login", NEW_AUTH=document(tmp_path, login), **away)
    assert done.returncode == 0
    assert "this login stays on this host for now" in done.stderr
    assert "the next run sends it" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "not sent to the server yet" in machine.run_cdx("--status", **away).stdout
    assert machine.run_cdx("exec", **away).returncode == 0
    # It is not dropped with the host, either.
    assert machine.run_cdx("exec").returncode == 0
    assert (synced.canonical() or {})["tokens"] == login["tokens"]
    assert "brought" not in machine.note("login.json")


def test_a_login_that_was_not_sent_is_not_uninstalled(synced: Fleet, machine: Machine, tmp_path: Path) -> None:
    login = make_auth(NEW, "later")
    away = {"CODEX_SYNC_BASE_URL": f"https://localhost:{free_port()}"}
    machine.run_cdx("login", NEW_AUTH=document(tmp_path, login), **away)
    machine.run_cdx("--uninstall", "--yes")
    assert machine.auth() == login
    assert synced.canonical() == with_auths(make_auth(OLD))


def test_a_login_of_another_account_stays_here(synced: Fleet, machine: Machine, tmp_path: Path) -> None:
    login = make_auth(NEW, "other", account="acc-2", user="u2")
    done = machine.run_cdx("login", NEW_AUTH=document(tmp_path, login))
    assert done.returncode == 0
    assert done.stderr.startswith("cdx: auth.json is a login of another account (ChatGPT ")
    assert "cdxsync auth accept" in done.stderr
    assert done.stderr.endswith("; this login stays on this host\n")
    assert done.stderr.count("\n") == 1
    assert machine.auth() == login
    assert machine.run_cdx("exec").stderr == ""
    assert machine.auth() == login
    # A login with the fleet's account leads back; the private one is kept.
    again = make_auth(NEWEST, "fleet's")
    done = machine.run_cdx("login", NEW_AUTH=document(tmp_path, again))
    assert "this login is shared with the fleet" in done.stderr
    assert synced.canonical() == with_auths(again)
    assert json.loads(machine.auth_file.with_name("auth.json.before-cdx").read_text()) == login


def test_the_state_of_another_accounts_login_is_no_matter_of_age(machine: Machine, tmp_path: Path) -> None:
    machine.run_cdx("login", NEW_AUTH=document(tmp_path, make_auth(NEW, "other", account="acc-2", user="u2")))
    assert "auth.json    another login than the server's" in machine.run_cdx("--status").stdout


def test_a_login_of_plain_codex_that_was_not_seen_yet_is_kept(machine: Machine, tmp_path: Path) -> None:
    private = make_auth(NEW, "other", account="acc-2", user="u2")
    machine.put_auth(private)
    assert machine.run_cdx("login", NEW_AUTH=document(tmp_path, make_auth(NEWEST, "new"))).returncode == 0
    assert json.loads(machine.auth_file.with_name("auth.json.before-cdx").read_text()) == private


def test_the_last_of_several_logins_that_were_cut_off_is_the_one(synced: Fleet, machine: Machine) -> None:
    logins = machine.home / ".codex" / ".cdx" / "logins"
    last = make_auth(NEWEST, "last")
    for number, name in enumerate(("b", "a", "c")):
        (logins / name).mkdir(mode=0o700, parents=True)
        made = last if name == "a" else make_auth(NEW, name)
        (logins / name / "auth.json").write_text(json.dumps(made))
        os.utime(logins / name, (100 + number % 2, 100 + number % 2))
    assert machine.run_cdx("exec").returncode == 0
    assert synced.canonical() == with_auths(last)
    nothing_is_left(machine)


def test_a_file_that_cannot_be_written_may_do_for_a_while(synced: Fleet, machine: Machine) -> None:
    """A newer login has come, and the disk takes nothing."""
    synced.upload(make_auth(NEWEST, "newer"))
    held = make_auth(NEW, "held")
    run = f"ulimit -f 0; exec {machine.cdx} exec"
    held["tokens"]["access_token"] = jwt("held", expires=int(time.time()))
    machine.put_auth(held)
    done = machine.shell(run)
    assert (done.returncode, done.stdout) == (1, "")
    assert ": File too large, and the cached credentials have expired" in done.stderr
    held["tokens"]["access_token"] = jwt("held", expires=int(time.time()) + 7200)
    machine.put_auth(held)
    done = machine.shell(run)
    assert (done.returncode, done.stdout) == (0, "ran with: exec\n")
    assert ": File too large; using the cached credentials\n" in done.stderr
    assert machine.auth() == held


@pytest.mark.parametrize("command", ["login", "logout"])
def test_a_codex_that_cannot_be_started(machine: Machine, command: str) -> None:
    held = machine.auth()
    program = machine.bin / "codex"
    program.write_text("#!/nowhere/sh\n")
    done = machine.run_cdx(command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"cdx: cannot start {program}: No such file or directory. Run: cdx --doctor\n"
    assert machine.auth() == held
    nothing_is_left(machine)


def test_a_run_that_ends_in_step_does_not_undo_a_logout_beside_it(machine: Machine) -> None:
    home = str(machine.home / ".codex")
    note = LoginNote(home)
    held = machine.auth()
    assert machine.run_cdx("logout").returncode == 0
    note.in_step(held)
    assert LoginNote(home).logged_out
    # Nor does it fetch the fleet's login for the file that it misses.
    sync = Sync(cast(Api, None), home, "0.171.0")
    with pytest.raises(SyncError, match="logged out meanwhile"):
        sync.run()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_root_in_a_users_home_leaves_the_file_to_the_user(synced: Fleet, machine: Machine) -> None:
    os.chown(machine.auth_file, 65534, 65534)
    synced.upload(make_auth(NEWEST, "newer"))
    assert machine.run_cdx("exec").returncode == 0
    assert machine.auth()["last_refresh"] == NEWEST
    found = machine.auth_file.stat()
    assert (found.st_uid, found.st_mode & 0o777) == (65534, 0o600)


def test_a_login_that_cannot_be_written_is_not_lost(synced: Fleet, machine: Machine, tmp_path: Path) -> None:
    place = machine.home / "elsewhere"
    machine.auth_file.unlink()
    machine.auth_file.symlink_to(place / "auth.json")
    login = make_auth(NEW, "new")
    done = machine.run_cdx("login", NEW_AUTH=document(tmp_path, login))
    assert done.returncode == 1
    assert done.stderr.endswith("; the new login is kept, and the next run takes it up\n")
    done = machine.run_cdx("exec")
    assert "a login that was cut off waits in " in done.stderr
    place.mkdir()
    assert "a login that was cut off is taken up" in machine.run_cdx("exec").stderr
    assert synced.canonical() == with_auths(login)
    nothing_is_left(machine)


@pytest.mark.parametrize("command", ["logout", "--uninstall"])
def test_a_linked_file_goes_with_its_link(machine: Machine, command: str) -> None:
    place = machine.home / "elsewhere.json"
    machine.auth_file.rename(place)
    machine.auth_file.symlink_to(place)
    assert machine.run_cdx(command, *(["--yes"] if command == "--uninstall" else [])).returncode == 0
    assert not place.exists()


@pytest.mark.parametrize("command", ["logout", "--uninstall"])
def test_a_folder_that_a_link_leads_to_is_left_alone(machine: Machine, command: str) -> None:
    place = machine.home / "elsewhere"
    place.mkdir()
    (place / "file").touch()
    machine.auth_file.unlink()
    machine.auth_file.symlink_to(place)
    machine.run_cdx(command, *(["--yes"] if command == "--uninstall" else []))
    assert (place / "file").exists()


def test_a_login_that_may_not_be_shared_stays_here(synced: Fleet, machine: Machine, tmp_path: Path) -> None:
    synced.cli("hosts", "permit", machine.env["NAME"], "--store-auth", "off")
    login = make_auth(NEW, "new")
    done = machine.run_cdx("login", NEW_AUTH=document(tmp_path, login))
    assert "--store-auth on; this login stays on this host\n" in done.stderr
    assert machine.auth() == login
    synced.cli("hosts", "disable", machine.env["NAME"])
    done = machine.run_cdx("login", NEW_AUTH=document(tmp_path, login))
    assert "this login stays on this host until the server takes it" in done.stderr


@pytest.mark.parametrize("login", [API_KEY, ACCESS_TOKEN], ids=["key", "access token"])
def test_keys_and_tokens_of_a_login_are_shared(fresh_fleet: Fleet, tmp_path: Path, login: dict[str, Any]) -> None:
    """Also in the place of another one of that kind: then the admin says so."""
    one, two = host(fresh_fleet, tmp_path, codex=CODEX), host(fresh_fleet, tmp_path, codex=CODEX)
    done = one.run_cdx("login", NEW_AUTH=document(tmp_path, login))
    assert done.stderr == "cdx: this login is shared with the fleet\n"
    assert two.run_cdx("exec").stderr == ""
    assert two.auth().items() >= login.items()
    for machine in (one, two):
        assert "the server says valid" in machine.run_cdx("exec", CODEX_DEBUG="1").stderr


def test_the_first_thing_on_a_host_may_be_a_login(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=CODEX)
    private = make_auth(OLD, "private", account="acc-2", user="u2")
    machine.put_auth(private)
    login = make_auth(NEW, "new")
    done = machine.run_cdx("login", NEW_AUTH=document(tmp_path, login))
    assert "the login that was here is kept in" in done.stderr
    assert "this login is shared with the fleet" in done.stderr
    assert json.loads(machine.auth_file.with_name("auth.json.before-cdx").read_text()) == private
    assert synced.canonical() == with_auths(login)


def test_a_login_that_older_servers_get_is_dated(machine: Machine, tmp_path: Path, stub: StubServer) -> None:
    """They know nothing of logins, and take the newest."""
    stub.answer("POST", "/auth", {"status": "updated", "auth": {}, "api_calls": 1})
    machine.run_cdx("login", NEW_AUTH=document(tmp_path, API_KEY), CODEX_SYNC_BASE_URL=stub.url)
    sent = json.loads(stub.bodies[0])
    assert (sent["command"], sent["brought"]) == ("store", "login")
    assert sent["auth"]["last_refresh"] > "2026-05"


def test_a_logout_stays(synced: Fleet, machine: Machine) -> None:
    done = machine.run_cdx("logout")
    assert (done.returncode, done.stdout) == (0, "found {}\nlogged out\n")
    assert done.stderr.startswith("cdx: this host is logged out until: cdx login")
    assert not machine.auth_file.exists()
    nothing_is_left(machine)
    for _ in range(2):
        done = machine.run_cdx("exec", CODEX_SYNC_INTERVAL="0.05")
        assert (done.returncode, done.stdout) == (0, "ran with: exec\n")
        assert done.stderr.startswith("cdx: this host is logged out.")
        assert done.stderr.count("\n") == 1
        assert not machine.auth_file.exists()
    status = machine.run_cdx("--status")
    assert status.returncode == 0
    assert "logged out on this host" in status.stdout
    doctor = machine.run_cdx("--doctor")
    assert doctor.returncode == 0
    assert "logged out on this host" in doctor.stdout
    assert synced.canonical() == with_auths(make_auth(OLD))
    assert logs(synced, "oauth.revoke") == []
    assert machine.run_cdx("--wrapper-sync").returncode == 0
    assert machine.auth() == with_auths(make_auth(OLD))
    assert machine.run_cdx("exec").stderr == ""


def test_a_login_ends_a_logout(synced: Fleet, machine: Machine, tmp_path: Path) -> None:
    machine.run_cdx("logout")
    # One that is given up does not.
    machine.run_cdx("login", CODEX_EXIT="1")
    assert "this host is logged out" in machine.run_cdx("exec").stderr
    machine.run_cdx("login", NEW_AUTH=document(tmp_path, make_auth(NEW, "new")))
    assert machine.run_cdx("exec").stderr == ""
    assert synced.canonical() == with_auths(make_auth(NEW, "new"))


@pytest.mark.parametrize("how", ["--help", "fail"])
def test_what_is_no_logout_changes_nothing(machine: Machine, how: str) -> None:
    before = machine.auth_file.read_bytes()
    more, env = ([], {"FAIL": "1"}) if how == "fail" else ([how], {})
    done = machine.run_cdx("logout", *more, **env)
    assert done.returncode == (1 if env else 0)
    assert done.stderr == ""
    assert machine.auth_file.read_bytes() == before
    assert not machine.note("login.json").get("logged_out")


def test_logging_out_of_a_private_login_leads_back(synced: Fleet, machine: Machine) -> None:
    machine.put_auth(make_auth(NEW, "other", account="acc-2", user="u2"))
    machine.run_cdx("exec")
    assert machine.run_cdx("logout").returncode == 0
    assert not machine.auth_file.exists()
    assert machine.run_cdx("--wrapper-sync").returncode == 0
    assert machine.auth() == with_auths(make_auth(OLD))


def test_the_state_of_a_login_is_asked_in_the_home_itself(machine: Machine) -> None:
    done = machine.run_cdx("login", "status")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran with: login status\n", "")


def test_another_store_of_credentials(synced: Fleet, machine: Machine, tmp_path: Path) -> None:
    """The login goes to a file, from where it is shared; that this Codex keeps its own elsewhere is said."""
    (machine.home / ".codex" / "config.toml").write_text('cli_auth_credentials_store = "keyring"')
    done = machine.run_cdx("-c", "a=b", "login", NEW_AUTH=document(tmp_path, make_auth(NEW, "new")))
    assert 'with -c a=b -c cli_auth_credentials_store="file" login' in done.stdout
    assert "this login is shared with the fleet" in done.stderr
    assert "cli_auth_credentials_store is keyring" in done.stderr
    with contextlib.suppress(FileNotFoundError):
        assert synced.canonical() == with_auths(make_auth(NEW, "new"))
    done = machine.run_cdx("logout")
    assert "`codex logout` removes it" in done.stderr


@pytest.mark.parametrize("words", ["-c a=b login", "--image=a.png hello login --device-auth"])
def test_a_login_after_options_or_a_prompt_revokes_nothing(
    synced: Fleet, machine: Machine, tmp_path: Path, words: str
) -> None:
    login = make_auth(NEW, "new")
    done = machine.run_cdx(*words.split(), NEW_AUTH=document(tmp_path, login))
    assert (done.returncode, done.stdout) == (0, f"with {words} and of this home\n")
    assert done.stderr == "cdx: this login is shared with the fleet\n"
    assert synced.canonical() == with_auths(login)


def test_a_logout_after_options_revokes_nothing(machine: Machine) -> None:
    done = machine.run_cdx("-c", "a=b", "logout")
    assert (done.returncode, done.stdout) == (0, "found {}\nlogged out\n")
    assert not machine.auth_file.exists()
