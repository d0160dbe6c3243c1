"""cdx with grants: what Codex is told of the server, and that nothing else of the user's settings changes."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documents import jwt, make_auth, with_auths
from tests.support.fleet import Fleet, running_fleet
from tests.support.machines import Machine, host
from tests.support.provider import Provider, running_provider
from tests.support.stub_server import StubServer
from tests.support.together import until

GRANT = "cdxr_" + "a" * 64
SHOW = """#!/bin/sh
case "$1" in --version) echo "codex-cli 0.169.0"; exit 0;; esac
if [ -n "$NEW_AUTH" ]; then cp "$NEW_AUTH" "$HOME/.codex/auth.json"; fi
env | grep -E '^(CODEX_REFRESH|CODEX_REVOKE|CODEX_CA|CODEX_SYNC_API|SSL_|HTTPS_PROXY|NO_PROXY)' | sort
echo "arguments: $*"
"""

BACKGROUND = """#!/bin/sh
case "$1" in --version) echo "codex-cli 0.169.0"; exit 0;; esac
setsid sh -c '
    while ! [ -e "$HOLD" ]; do sleep 0.05; done
    printf "%s\\n%s\\n" "$CODEX_REFRESH_TOKEN_URL_OVERRIDE" "$CODEX_CA_CERTIFICATE" >"$OUT.new"
    mv "$OUT.new" "$OUT"
' >/dev/null 2>&1 </dev/null &
echo done
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running_provider() as started:
        yield started


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Fleet]:
    """A server that refreshes, with a login."""
    home = tmp_path_factory.mktemp("served") / "home"
    with running_fleet(home, env=provider.environment()) as started:
        started.upload(provider.login())
        yield started


def telling(fleet: Fleet, root: Path) -> Machine:
    """A machine whose Codex tells what it was told."""
    machine = host(fleet, root, codex=SHOW)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY"):
        machine.env.pop(name, None)
    return machine


def told(machine: Machine, **env: str) -> dict[str, str]:
    """What Codex was told by the environment, and its arguments."""
    done = machine.run_cdx("exec", **env)
    assert (done.returncode, done.stderr) == (0, "")
    *lines, arguments = done.stdout.splitlines()
    return dict(line.split("=", 1) for line in lines) | {"arguments": arguments}


def bundle(machine: Machine) -> Path:
    return machine.home / ".codex" / ".cdx" / "ca.pem"


def test_codex_is_told_where_to_exchange_a_grant(served: Fleet, tmp_path: Path) -> None:
    machine = telling(served, tmp_path)
    seen = told(machine)
    assert machine.auth()["tokens"]["refresh_token"].startswith("cdxr_")
    assert seen == {
        "CODEX_REFRESH_TOKEN_URL_OVERRIDE": f"{served.url}/oauth/token",
        "CODEX_CA_CERTIFICATE": str(bundle(machine)),
        "NO_PROXY": "*",
        "arguments": "arguments: exec",
    }
    assert bundle(machine).read_text() == served.ca_file.read_text()
    assert bundle(machine).stat().st_mode & 0o777 == 0o600
    # It is written when it changes, and only then.
    identity = bundle(machine).stat().st_ino
    told(machine)
    assert bundle(machine).stat().st_ino == identity
    bundle(machine).write_text("not a certificate")
    told(machine)
    assert bundle(machine).read_text() == served.ca_file.read_text()


def test_what_codex_starts_in_the_background_is_told_too(served: Fleet, tmp_path: Path) -> None:
    """It outlives Codex and cdx, and what it was told holds on."""
    machine = host(served, tmp_path, codex=BACKGROUND)
    hold, out = tmp_path / "hold", tmp_path / "out"
    done = machine.run_cdx("exec", HOLD=str(hold), OUT=str(out))
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert not out.exists()
    hold.touch()
    until(out.exists)
    assert out.read_text().splitlines() == [
        f"{served.url}/oauth/token",
        str(bundle(machine)),
    ]
    assert bundle(machine).read_text() == served.ca_file.read_text()


def test_what_the_user_trusts_and_how_he_connects_stays(served: Fleet, tmp_path: Path) -> None:
    machine = telling(served, tmp_path)
    own = tmp_path / "own.pem"
    own.write_text("-----BEGIN CERTIFICATE-----\nthe user's own\n-----END CERTIFICATE-----")
    more = {"SSL_CERT_FILE": "/somewhere.pem", "SSL_CERT_DIR": "/somewhere", "HTTPS_PROXY": "http://127.0.0.1:9"}
    seen = told(machine, CODEX_CA_CERTIFICATE=str(own), NO_PROXY="localhost", **more)
    assert seen.items() >= more.items() | {("NO_PROXY", "localhost")}
    assert bundle(machine).read_text() == own.read_text() + "\n" + served.ca_file.read_text()
    assert seen["CODEX_CA_CERTIFICATE"] == str(bundle(machine))
    # One that cannot be read stays as it is, so that Codex can say so.
    done = machine.run_cdx("exec", CODEX_CA_CERTIFICATE="/no/such/file")
    assert "CODEX_CA_CERTIFICATE=/no/such/file\n" in done.stdout
    assert "/no/such/file cannot be read" in done.stderr
    # A grant goes to its server alone.
    seen = told(machine, CODEX_REFRESH_TOKEN_URL_OVERRIDE="http://x/t", CODEX_REVOKE_TOKEN_URL_OVERRIDE="http://x/r")
    assert seen["CODEX_REFRESH_TOKEN_URL_OVERRIDE"] == f"{served.url}/oauth/token"
    assert "CODEX_REVOKE_TOKEN_URL_OVERRIDE" not in seen


def test_another_ca_file_is_handed_on(served: Fleet, tmp_path: Path) -> None:
    machine = telling(served, tmp_path)
    text = machine.cdx.read_text()
    line = next(line for line in text.splitlines() if line.startswith("CODEX_SYNC_CA_PEM="))
    machine.cdx.write_text(text.replace(line, 'CODEX_SYNC_CA_PEM=""'))
    other = tmp_path / "other.pem"
    other.write_text("# the same\n" + served.ca_file.read_text())
    told(machine, CODEX_SYNC_CA_FILE=str(other))
    assert bundle(machine).read_text() == other.read_text()


def test_a_real_refresh_token_is_not_sent_to_the_server(served: Fleet, tmp_path: Path, stub: StubServer) -> None:
    """As an older server gives it: then nothing is set."""
    machine = telling(served, tmp_path)
    document = with_auths(make_auth())
    stub.valid()
    stub.answer("POST", "/auth", {"status": "outdated", "auth": document, "api_calls": 1})
    seen = told(machine, CODEX_SYNC_BASE_URL=stub.url, CODEX_REFRESH_TOKEN_URL_OVERRIDE="http://127.0.0.1:9/t")
    assert seen == {
        "CODEX_REFRESH_TOKEN_URL_OVERRIDE": "http://127.0.0.1:9/t",
        "NO_PROXY": "*",
        "arguments": "arguments: exec",
    }
    assert machine.auth() == document
    sent = [json.loads(body) for body in stub.bodies if b'"command"' in body]
    assert sent[0]["accepts"] == ["grant"]


def test_a_server_without_tls_of_this_machine(served: Fleet, tmp_path: Path, stub: StubServer) -> None:
    machine = telling(served, tmp_path)
    document = make_auth()
    document["tokens"]["refresh_token"] = GRANT
    machine.put_auth(document)
    stub.answer("POST", "/below/auth", {"status": "valid", "api_calls": 1})
    stub.answer("GET", "/below/slash-commands", {"commands": []})
    seen = told(machine, CODEX_SYNC_BASE_URL=stub.url + "/below/")
    assert seen["CODEX_REFRESH_TOKEN_URL_OVERRIDE"] == f"{stub.url}/below/oauth/token"
    assert "CODEX_CA_CERTIFICATE" not in seen


def test_what_codex_has_refreshed_comes_back_in_the_form_of_the_server(
    served: Fleet, tmp_path: Path, provider: Provider
) -> None:
    """Codex writes the file without `auths` and with its own date, which may be far off. Nothing is said of it."""
    machine = telling(served, tmp_path)
    told(machine)
    given = machine.auth()
    for date in ("2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z"):
        rewritten = {name: value for name, value in given.items() if name != "auths"} | {"last_refresh": date}
        machine.put_auth(rewritten)
        told(machine)
        assert machine.auth() == given
    # So does one of before, as the server gave it: of a login that a host whose clock is ahead had brought.
    ahead = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 250))
    machine.put_auth(given | {"last_refresh": ahead})
    told(machine)
    assert machine.auth() == given
    # In the same run as well.
    path = tmp_path / "rewritten.json"
    path.write_text(json.dumps(rewritten))
    told(machine, NEW_AUTH=str(path))
    assert machine.auth() == given
    assert provider.refreshes == 0


def test_a_stored_login_is_replaced_by_the_hosts_form(tmp_path: Path, provider: Provider) -> None:
    with running_fleet(tmp_path / "home", env=provider.environment()) as fleet:
        machine = telling(fleet, tmp_path)
        login = provider.login()
        machine.put_auth(login)
        seen = told(machine)
        # Codex has never seen the real token again: it was exchanged before it started.
        assert seen["CODEX_REFRESH_TOKEN_URL_OVERRIDE"] == f"{fleet.url}/oauth/token"
        grant = machine.auth()["tokens"]["refresh_token"]
        assert grant.startswith("cdxr_")
        assert machine.auth() == with_auths({**login, "tokens": {**login["tokens"], "refresh_token": grant}})
        assert fleet.canonical() == with_auths(login)
        assert "the server says valid" in machine.run_cdx("exec", CODEX_DEBUG="1").stderr
        assert login["tokens"]["refresh_token"] not in "".join(
            path.read_text(errors="replace") for path in (machine.home / ".codex").rglob("*") if path.is_file()
        )


def test_a_running_codex_that_was_not_told_gets_no_grant(tmp_path: Path, provider: Provider) -> None:
    """One that logs in within a run could not exchange it. The next run has one."""
    with running_fleet(tmp_path / "home", env=provider.environment()) as fleet:
        codex = (
            SHOW
            + 'if [ -n "$WAIT" ]; then while [ ! -e "$WAIT" ]; do sleep 0.05; done; cat "$HOME/.codex/auth.json"; fi\n'
        )
        machine = host(fleet, tmp_path, codex=codex)
        login = provider.login()
        path, stop = tmp_path / "new.json", tmp_path / "stop"
        path.write_text(json.dumps(login))

        def settle() -> None:
            until(lambda: fleet.host(machine.env["NAME"])["api_calls"] >= 5)
            stop.touch()

        waiting = threading.Thread(target=settle)
        waiting.start()
        done = machine.run_cdx("exec", NEW_AUTH=str(path), WAIT=str(stop), CODEX_SYNC_INTERVAL="0.1")
        waiting.join()
        assert login["tokens"]["refresh_token"] in done.stdout
        assert machine.auth()["tokens"]["refresh_token"].startswith("cdxr_")
        assert fleet.canonical() == with_auths(login)


def test_a_dead_login_is_said_once_before_a_run(served: Fleet, tmp_path: Path, stub: StubServer) -> None:
    machine = host(served, tmp_path)
    machine.put_auth(make_auth())
    login = {"state": "dead", "refresh": "server", "code": "x", "since": "y", "message": "It has ended. Do something"}
    stub.valid(login=login)
    done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=stub.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran with: exec\n", "cdx: It has ended. Do something\n")


def test_the_doctor_names_an_access_token_that_the_server_did_not_refresh(
    served: Fleet, tmp_path: Path, stub: StubServer
) -> None:
    machine = host(served, tmp_path)
    document = make_auth()
    document["tokens"] |= {"refresh_token": GRANT, "access_token": jwt("own", expires=1_700_000_000)}
    machine.put_auth(document)
    stub.valid(login={"state": "ok", "refresh": "server"})
    found = machine.run_cdx("--doctor", CODEX_SYNC_BASE_URL=stub.url).stdout
    assert "warn  the access token expired at 2023-11-14 " in found
    assert "cdxsync doctor" in found
    machine.run_cdx("--wrapper-sync", CODEX_SYNC_BASE_URL=stub.url)
    shown = machine.run_cdx("--status", CODEX_SYNC_BASE_URL=stub.url).stdout
    assert "the fleet's; the access token expired at 2023-11-14 " in shown
    assert "An admin runs on the server: cdxsync doctor" in shown


def test_a_grant_without_a_login_of_the_fleet_is_no_login_to_offer(
    served: Fleet, tmp_path: Path, stub: StubServer
) -> None:
    machine = host(served, tmp_path)
    document = make_auth()
    document["tokens"] |= {"refresh_token": GRANT, "access_token": jwt("own")}
    machine.put_auth(document)
    stub.answer("POST", "/auth", {"status": "missing", "action": "store", "api_calls": 1})
    stub.answer("GET", "/slash-commands", {"commands": []})
    done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=stub.url)
    assert done.returncode == 0
    assert "the fleet has no auth.json yet" in done.stderr
    assert machine.auth() == document
    assert all(json.loads(body)["command"] == "retrieve" for body in stub.bodies if b'"command"' in body)


def test_what_codex_is_told_does_not_hang_on_its_folder(served: Fleet, tmp_path: Path) -> None:
    """Codex and what it starts may go elsewhere; the home may be named from here."""
    machine = telling(served, tmp_path)
    done = machine.shell(f"cd '{tmp_path}' && CODEX_HOME=below '{machine.cdx}' exec")
    assert done.returncode == 0, done.stderr
    assert f"CODEX_CA_CERTIFICATE={tmp_path}/below/.cdx/ca.pem\n" in done.stdout
