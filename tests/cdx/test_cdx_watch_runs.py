"""What the background sync of cdx does: little when nothing changed, no harm beside other runs, and what it says."""

import hashlib
import json
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.calls import logs
from tests.support.documents import jwt, make_auth, plain_digest, with_auths
from tests.support.fleet import Fleet, free_port, running_fleet
from tests.support.machines import Machine, host, machine_key, write_program
from tests.support.provider import Provider
from tests.support.scheduling import no_scheduler, with_crontab
from tests.support.stub_server import StubServer, with_stub_keys
from tests.support.together import until
from tests.support.upstream import job

OLD, NEW, NEWEST = "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"
# With HOLD it waits, and then writes a session's token counts, as Codex does.
CODEX = """#!/bin/sh
case "$1" in --version) echo "codex-cli 0.169.0"; exit 0;; esac
touch "$HOLD.ready"; while [ ! -e "$HOLD" ]; do sleep 0.05; done
echo "Token usage: total=12 input=10 output=2"
"""
PROMPT = "one\n"


@pytest.fixture
def fleet(fresh_fleet: Fleet) -> Fleet:
    """A fleet of each test alone: what is newest in it matters."""
    return fresh_fleet


def watched(fleet: Fleet, root: Path, **kwargs: Any) -> Machine:
    """A machine that is started by something else, and has synced."""
    machine = host(fleet, root, **kwargs)
    no_scheduler(machine)
    done = machine.run_cdx("--watch", "install", "other")
    assert done.returncode == 0, done.stderr
    return machine


def held_run(machine: Machine) -> tuple[subprocess.Popen[str], Path]:
    """A run of cdx whose Codex has begun and waits, and the file that lets it go on."""
    hold = machine.root / "hold"
    run = subprocess.Popen(
        [str(machine.cdx), "exec"],
        env=machine.env | {"HOLD": str(hold), "CODEX_SYNC_INTERVAL": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: (machine.root / "hold.ready").exists())
    return run, hold


def answer(**data: Any) -> tuple[int, bytes]:
    return 200, json.dumps({"status": "ok", "data": data}).encode()


def valid(**more: Any) -> tuple[int, bytes]:
    """The answer of a server with which a host is in step."""
    return answer(status="valid", versions={}, **more)


def refusal(status: int, code: str, message: str) -> tuple[int, bytes]:
    return status, json.dumps({"status": "error", "code": code, "message": message}).encode()


def test_one_call_is_enough_when_nothing_has_changed(fleet: Fleet, stub: StubServer, tmp_path: Path) -> None:
    fleet.upload(make_auth(OLD))
    machine = watched(fleet, tmp_path)
    env = {"CODEX_SYNC_BASE_URL": stub.url}
    stub.answers["POST", "/auth"] = valid(prompts_etag='"7"')
    stub.answers["GET", "/slash-commands"] = answer(commands=[])
    # Another server: its prompts are asked for, and not noted, as its answer has no tag.
    assert machine.run_cdx("--watch", "run", **env).returncode == 0
    assert stub.calls == [("POST", "/auth"), ("GET", "/slash-commands")]
    notes = machine.home / ".codex" / ".cdx" / "prompts.json"
    notes.write_text(json.dumps(json.loads(notes.read_text()) | {"etag": '"7"'}))
    stub.calls.clear()
    stub.bodies.clear()
    for _ in range(2):
        done = machine.run_cdx("--watch", "run", **env)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stub.calls == [("POST", "/auth")] * 2
    assert json.loads(stub.bodies[0])["background"] == "other"
    assert len(stub.bodies[0]) < 400
    # What is missing here is fetched, whatever the list was.
    notes.write_text(json.dumps(json.loads(notes.read_text()) | {"server": {"gone.md": "0" * 64}}))
    stub.calls.clear()
    machine.run_cdx("--watch", "run", **env)
    assert ("GET", "/slash-commands") in stub.calls


def test_an_older_server_is_asked_for_the_list(fleet: Fleet, stub: StubServer, tmp_path: Path) -> None:
    fleet.upload(make_auth(OLD))
    machine = watched(fleet, tmp_path)
    stub.answers["POST", "/auth"] = valid()
    stub.answers["GET", "/slash-commands"] = (304, b"")
    for _ in range(2):
        assert machine.run_cdx("--watch", "run", CODEX_SYNC_BASE_URL=stub.url).returncode == 0
    assert stub.calls == [("POST", "/auth"), ("GET", "/slash-commands")] * 2


def test_it_brings_and_takes_what_is_new(fleet: Fleet, tmp_path: Path) -> None:
    fleet.upload(make_auth(OLD))
    machine = watched(fleet, tmp_path)
    assert machine.auth() == with_auths(make_auth(OLD))
    fleet.upload(make_auth(NEW, "newer"))
    prompt = {"filename": "shared.md", "prompt": PROMPT}
    fleet.admin_call("POST", "/admin/slash-commands/store", json=prompt)
    spool = machine.home / ".codex" / ".cdx" / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    call = {"key": "waiting", "usages": [{"total": 77}]}
    (spool / "000000000000001-waiting.json").write_text(json.dumps(call))
    done = machine.run_cdx("--watch", "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.auth() == with_auths(make_auth(NEW, "newer"))
    assert (machine.home / ".codex" / "prompts" / "shared.md").read_text() == PROMPT
    assert machine.spooled() == []
    assert fleet.host(machine.env["NAME"])["token_usage"]["total"] == 77
    # What plain Codex has refreshed here.
    machine.put_auth(make_auth(NEWEST, "by plain codex"))
    (machine.home / ".codex" / "prompts" / "mine.md").write_text("mine\n")
    assert machine.run_cdx("--watch", "run").returncode == 0
    assert fleet.canonical() == with_auths(make_auth(NEWEST, "by plain codex"))
    assert "mine.md" in fleet.cli("prompts", "list").stdout


def test_one_that_is_under_way_is_not_joined(fleet: Fleet, stub: StubServer, tmp_path: Path) -> None:
    fleet.upload(make_auth(OLD))
    machine = watched(fleet, tmp_path)
    asked, go_on = threading.Event(), threading.Event()

    def slowly(_: bytes) -> tuple[int, bytes]:
        asked.set()
        assert go_on.wait(30)
        return valid()

    stub.answers["POST", "/auth"] = slowly
    stub.answers["GET", "/slash-commands"] = (304, b"")
    env = {"CODEX_SYNC_BASE_URL": stub.url}
    first = subprocess.Popen(
        [str(machine.cdx), "--watch", "run"], env=with_stub_keys(machine.env | env), stderr=subprocess.PIPE, text=True
    )
    assert asked.wait(30)
    for _ in range(2):
        second = machine.run_cdx("--watch", "run", **env)
        assert (second.returncode, second.stderr) == (0, "")
    assert stub.calls == [("POST", "/auth")]
    # A run of cdx does not wait for it.
    assert machine.run_cdx("--debug", "exec").returncode == 0
    go_on.set()
    assert first.communicate(timeout=30)[1] == ""
    assert first.returncode == 0


def test_beside_a_run_of_cdx(fleet: Fleet, tmp_path: Path) -> None:
    """The run keeps its account, gets what is newer, and its usage is counted once."""
    fleet.upload(make_auth(OLD))
    machine = watched(fleet, tmp_path, codex=CODEX)
    run, hold = held_run(machine)
    assert machine.run_cdx("--watch", "run").returncode == 0
    newer = make_auth(NEW, "newer")
    fleet.upload(newer)
    assert machine.run_cdx("--watch", "run").returncode == 0
    assert machine.auth() == with_auths(newer)
    other = make_auth(NEWEST, "other") | {"tokens": {"access_token": "another-token-0123456789", "account_id": "b"}}
    fleet.upload(other)
    assert machine.run_cdx("--watch", "run").returncode == 0
    hold.touch()
    stdout, stderr = run.communicate(timeout=60)
    assert (run.returncode, stderr) == (0, ""), stdout
    assert fleet.host(machine.env["NAME"])["token_usage"]["total"] == 12
    assert machine.run_cdx("--watch", "run").returncode == 0
    assert machine.auth()["tokens"] == other["tokens"]
    rows = fleet.rows("SELECT COUNT(*) FROM token_usages WHERE total = 12")
    assert rows[0][0] == 1


def test_a_codex_that_was_not_told_of_grants_gets_none(fleet: Fleet, stub: StubServer, tmp_path: Path) -> None:
    """It would send one to OpenAI; what runs after it takes the grant."""
    fleet.upload(make_auth(OLD))
    machine = watched(fleet, tmp_path, codex=CODEX)
    run, hold = held_run(machine)
    before = machine.auth()
    given = make_auth(NEW, "fresh")
    given["tokens"]["refresh_token"] = "cdxr_" + "a" * 64
    stub.answers["POST", "/auth"] = answer(
        status="outdated", versions={}, login={"state": "ok", "refresh": "server"}, auth=given
    )
    stub.answers["GET", "/slash-commands"] = (304, b"")
    env = {"CODEX_SYNC_BASE_URL": stub.url}
    assert machine.run_cdx("--watch", "run", **env).returncode == 0
    assert machine.auth() == before
    hold.touch()
    run.communicate(timeout=60)
    assert machine.run_cdx("--watch", "run", **env).returncode == 0
    assert machine.auth() == given


def test_a_server_that_is_away(fleet: Fleet, tmp_path: Path) -> None:
    fleet.upload(make_auth(OLD))
    machine = watched(fleet, tmp_path)
    before = machine.auth()
    env = {"CODEX_SYNC_BASE_URL": f"https://localhost:{free_port()}"}
    done = machine.run_cdx("--watch", "run", **env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("cdx: the background sync failed: the server at localhost:")
    # It is said once: the same line every few minutes would be all that a log holds.
    assert machine.run_cdx("--watch", "run", **env).stderr == ""
    assert machine.auth() == before
    noted = machine.note("watch-last.json")
    assert noted["since"] < noted["failed_at"]
    assert noted["ok_at"] < noted["since"]
    assert "background   it fails since " in machine.run_cdx("--status", **env).stdout
    assert "warn  the background sync: it fails since " in machine.run_cdx("--doctor").stdout
    status = machine.run_cdx("--watch", "status")
    assert status.returncode == 1
    assert "last failure" in status.stdout
    assert machine.run_cdx("--watch", "run").returncode == 0
    assert machine.note("watch-last.json")["problem"] is None
    assert machine.run_cdx("--watch", "status").returncode == 0


def test_a_host_that_was_disabled(fleet: Fleet, tmp_path: Path) -> None:
    fleet.upload(make_auth(OLD))
    machine = watched(fleet, tmp_path)
    name = machine.env["NAME"]
    fleet.cli("hosts", "disable", name)
    before = machine.auth()
    done = machine.run_cdx("--watch", "run")
    assert done.returncode == 1
    assert f"the server refuses this host: Host is disabled. Ask your admin to run: cdxsync hosts enable {name}" in (
        done.stderr
    )
    assert machine.auth() == before
    assert machine.run_cdx("--watch", "run").stderr == ""
    fleet.cli("hosts", "enable", name)
    assert machine.run_cdx("--watch", "run").returncode == 0


def test_a_file_that_cannot_be_read_keeps_usage_from_nothing(fleet: Fleet, tmp_path: Path) -> None:
    fleet.upload(make_auth(OLD))
    machine = watched(fleet, tmp_path)
    machine.auth_file.unlink()
    machine.auth_file.mkdir()
    spool = machine.home / ".codex" / ".cdx" / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    (spool / "000000000000001-waiting.json").write_text(json.dumps({"key": "waiting", "usages": [{"total": 77}]}))
    done = machine.run_cdx("--watch", "run")
    assert done.returncode == 1
    assert str(machine.auth_file) in done.stderr
    assert machine.spooled() == []
    machine.auth_file.rmdir()
    assert machine.run_cdx("--watch", "run").returncode == 0
    assert machine.auth() == with_auths(make_auth(OLD))


def test_a_folder_that_was_removed_is_not_made_again(fleet: Fleet, tmp_path: Path) -> None:
    fleet.upload(make_auth(OLD))
    machine = watched(fleet, tmp_path)
    machine.run("rm", "-r", str(machine.home / ".codex"))
    done = machine.run_cdx("--watch", "run")
    assert done.returncode == 1
    assert "there is no background sync for" in done.stderr
    assert not (machine.home / ".codex").exists()


def test_a_cdx_that_was_moved_is_named(fleet: Fleet, tmp_path: Path) -> None:
    machine = host(fleet, tmp_path)
    crontab = with_crontab(machine)
    assert machine.run_cdx("--watch", "install").returncode == 0
    old, new = machine.cdx, machine.bin / "cdx"
    old.rename(new)
    shown = machine.run(str(new), "--watch", "status")
    assert shown.returncode == 1
    assert f"background   it starts {old}, which is not there any more\n" in shown.stdout
    assert "to do        cdx --watch install\n" in shown.stdout
    write_program(old, "#!/bin/sh\n")
    assert f"the background sync: it starts {old}, and not this {new}" in machine.run(str(new), "--doctor").stdout
    assert machine.run(str(new), "--watch", "install").returncode == 0
    assert str(old) not in crontab.read_text()
    assert machine.run(str(new), "--watch", "status").returncode == 0


def test_it_takes_the_servers_cdx_and_goes_on(fleet: Fleet, tmp_path: Path) -> None:
    """Where only plain Codex is used, no run would."""
    machine = watched(fleet, tmp_path)
    served = machine.cdx.read_text()
    machine.cdx.write_text(served + "# another build\n")
    done = machine.run_cdx("--watch", "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.cdx.read_text() == served
    assert machine.cdx.stat().st_mode & 0o777 == 0o700
    assert machine.run_cdx("--watch", "status").returncode == 0


def test_a_cdx_that_does_not_work_is_not_fetched_each_time(fleet: Fleet, stub: StubServer, tmp_path: Path) -> None:
    machine = watched(fleet, tmp_path)
    served = machine.cdx.read_text()
    line = f'CODEX_SYNC_BASE_URL_DEFAULT="{fleet.url}"'
    assert line in served
    unsigned = re.sub(r'^CODEX_SYNC_SIGNING_KEYS=".+"$', 'CODEX_SYNC_SIGNING_KEYS=""', served, flags=re.MULTILINE)
    assert unsigned != served
    machine.cdx.write_text(unsigned.replace(line, f'CODEX_SYNC_BASE_URL_DEFAULT="{stub.url}"'))
    bad = b"#!/bin/sh\nexit 1\n"
    offered = {"wrapper_version": "99.0.0", "wrapper_sha256": hashlib.sha256(bad).hexdigest()}
    stub.answers["POST", "/auth"] = answer(status="valid", versions=offered)
    stub.answers["GET", "/slash-commands"] = (304, b"")
    stub.answers["GET", "/wrapper/download"] = (200, bad)
    done = machine.run_cdx("--watch", "run")
    assert done.returncode == 1
    assert "cdx 99.0.0 fails its self-test; the current one stays" in done.stderr
    assert machine.run_cdx("--watch", "run").returncode == 0
    assert stub.calls.count(("GET", "/wrapper/download")) == 1


def test_what_the_server_does_not_take_is_not_offered_all_the_time(fleet: Fleet, tmp_path: Path) -> None:
    fleet.upload(make_auth(OLD))
    machine = watched(fleet, tmp_path)
    fleet.cli("hosts", "permit", machine.env["NAME"], "--store-auth", "off", "--store-prompts", "off")
    machine.put_auth(make_auth(NEW, "not for the fleet"))
    (machine.home / ".codex" / "prompts").mkdir(exist_ok=True)
    (machine.home / ".codex" / "prompts" / "mine.md").write_text("mine\n")
    for _ in range(3):
        assert machine.run_cdx("--watch", "run").returncode == 0
    refused = [row for row in logs(fleet, "auth.store") if row["status"] == "refused"]
    assert len(refused) == 1
    assert len([row for row in logs(fleet, "slash.store") if row["status"] == "refused"]) == 1
    # What is newer is taken all the same.
    fleet.upload(make_auth(NEWEST, "for all"))
    assert machine.run_cdx("--watch", "run").returncode == 0
    assert machine.auth() == with_auths(make_auth(NEWEST, "for all"))


def test_hosts_that_keep_nothing_are_given_nothing(fleet: Fleet, tmp_path: Path) -> None:
    fleet.upload(make_auth(OLD))
    machine = watched(fleet, tmp_path)
    fleet.cli("hosts", "permit", machine.env["NAME"], "--keep-auth", "off")
    for _ in range(2):
        assert machine.run_cdx("--watch", "run").returncode == 0
        assert not machine.auth_file.exists()
    assert fleet.host(machine.env["NAME"])["background_sync"]["by"] == "other"


def test_a_logout_lasts(fleet: Fleet, tmp_path: Path) -> None:
    fleet.upload(make_auth(OLD))
    machine = watched(fleet, tmp_path)
    note = machine.home / ".codex" / ".cdx" / "login.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"logged_out": True}))
    machine.auth_file.unlink()
    assert machine.run_cdx("--watch", "run").returncode == 0
    assert not machine.auth_file.exists()


def expiring(machine: Machine, seconds: float) -> dict[str, Any]:
    """Lay a login with a grant whose access token ends so soon; returns it."""
    token = jwt("held", int(time.time() + seconds))
    tokens = {"access_token": token, "refresh_token": "cdxr_" + "a" * 64, "account_id": "acc-1"}
    machine.put_auth({"auth_mode": "chatgpt", "tokens": tokens, "last_refresh": NEW})
    return machine.auth()


@pytest.mark.parametrize("seconds", [450, 30, -60])
def test_an_access_token_that_is_about_to_end_is_renewed(
    fleet: Fleet, stub: StubServer, tmp_path: Path, seconds: int
) -> None:
    machine = watched(fleet, tmp_path)
    held = expiring(machine, seconds)
    fresh = {**held, "tokens": {**held["tokens"], "access_token": jwt("fresh", int(time.time() + 86400))}}
    told: list[dict[str, Any]] = []

    def auth(_: bytes) -> tuple[int, bytes]:
        if not told:
            return valid(login={"state": "ok", "refresh": "server"})
        return answer(status="outdated", versions={}, login={"state": "ok", "refresh": "server"}, auth=fresh)

    def token(body: bytes) -> tuple[int, bytes]:
        told.append(json.loads(body))
        return 200, json.dumps({"access_token": fresh["tokens"]["access_token"]}).encode()

    stub.answers["POST", "/auth"] = auth
    stub.answers["POST", "/oauth/token"] = token
    stub.answers["GET", "/slash-commands"] = (304, b"")
    done = machine.run_cdx("--watch", "run", CODEX_SYNC_BASE_URL=stub.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.auth() == fresh
    assert told == [
        {
            "grant_type": "refresh_token",
            "refresh_reason": "proactive_expiry",
            "refresh_token": held["tokens"]["refresh_token"],
        }
    ]


def test_one_with_time_to_go_is_left_alone(fleet: Fleet, stub: StubServer, tmp_path: Path) -> None:
    machine = watched(fleet, tmp_path)
    expiring(machine, 660)
    stub.answers["POST", "/auth"] = valid(login={"state": "ok", "refresh": "server"})
    stub.answers["GET", "/slash-commands"] = (304, b"")
    assert machine.run_cdx("--watch", "run", CODEX_SYNC_BASE_URL=stub.url).returncode == 0
    assert ("POST", "/oauth/token") not in stub.calls


def test_a_token_that_the_server_cannot_renew_is_a_failure(fleet: Fleet, stub: StubServer, tmp_path: Path) -> None:
    machine = watched(fleet, tmp_path)
    held = expiring(machine, 200)
    stub.answers["POST", "/auth"] = valid(login={"state": "ok", "refresh": "server"})
    stub.answers["POST", "/oauth/token"] = refusal(503, "refresh_pending", "The login is being refreshed")
    stub.answers["GET", "/slash-commands"] = (304, b"")
    done = machine.run_cdx("--watch", "run", CODEX_SYNC_BASE_URL=stub.url)
    assert done.returncode == 1
    assert "and the server has no newer one (refresh_pending)" in done.stderr
    assert machine.auth() == held


def test_the_real_server_renews_it(tmp_path: Path, provider: Provider) -> None:
    """Whether its own job is first, or the host's question."""
    with running_fleet(tmp_path / "home", env=provider.environment()) as served:
        served.upload(provider.login())
        machine = watched(served, tmp_path)
        provider.plan(status=500)
        served.upload(provider.login(life=480, age=3600))
        until(lambda: provider.calls >= 1)
        done = machine.run_cdx("--watch", "run")
        assert (done.returncode, done.stderr) == (0, "")
        assert provider.left(machine.auth()["tokens"]["access_token"]) < 600
        until(lambda: job(served, "refresh")["state"] != "held")
        assert machine.run_cdx("--watch", "run").returncode == 0
        assert provider.refreshes == 1
        assert machine.auth()["tokens"]["refresh_token"].startswith("cdxr_")
        assert provider.left(machine.auth()["tokens"]["access_token"]) > 600


def test_proxies_of_the_shell_are_kept_and_no_key_is(fleet: Fleet, tmp_path: Path) -> None:
    machine = host(fleet, tmp_path)
    crontab = with_crontab(machine)
    secret = "https://user:secret@proxy.example.net:3128"
    done = machine.run_cdx("--watch", "install", HTTPS_PROXY=secret, CODEX_SYNC_FQDN="elsewhere.example.net")
    assert done.returncode == 0
    assert "CODEX_SYNC_FQDN is of this shell alone" in done.stderr
    note = machine.home / ".codex" / ".cdx" / "watch.json"
    assert note.stat().st_mode & 0o777 == 0o600
    assert json.loads(note.read_text())["environment"]["HTTPS_PROXY"] == secret
    key = machine_key(machine)
    for text in (crontab.read_text(), done.stderr):
        assert "secret" not in text
        assert key not in text
    assert key not in note.read_text()


def test_uninstalling_takes_it_away(fleet: Fleet, tmp_path: Path) -> None:
    fleet.upload(make_auth(OLD))
    machine = host(fleet, tmp_path)
    crontab = with_crontab(machine, "MAILTO=me\n")
    assert machine.run_cdx("--watch", "install").returncode == 0
    done = machine.run_cdx("--uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    assert "the background sync goes: a line of the crontab" in done.stderr
    assert crontab.read_text() == "MAILTO=me\n"
    assert not (machine.home / ".codex").exists()


def test_the_digest_of_what_is_held(fleet: Fleet, tmp_path: Path) -> None:
    """After a document was taken, the server knows that this host holds it."""
    fleet.upload(make_auth(OLD))
    machine = watched(fleet, tmp_path)
    fleet.upload(make_auth(NEW, "newer"))
    assert machine.run_cdx("--watch", "run").returncode == 0
    assert fleet.host(machine.env["NAME"])["canonical_digest"] == plain_digest(with_auths(make_auth(NEW, "newer")))
