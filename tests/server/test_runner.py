"""The local runner with a stand-in for Codex: what it is given, what it may do, and servers that die meanwhile."""

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cdxsync.auth import canonical, refresh, runner
from cdxsync.background import checking, status
from cdxsync.base import settings
from cdxsync.base.errors import SettingError
from cdxsync.ops import homes
from cdxsync.store import database
from cdxsync.store.fleet import Fleet as OpenedFleet
from tests.support.documents import jwt, make_auth
from tests.support.fleet import Fleet
from tests.support.machines import write_program
from tests.support.together import at_once, until

REFRESH = """#!/bin/sh
echo run >> "$STAND_IN_LOG"
cp "$STAND_IN_AUTH" "$CODEX_HOME/auth.json"
"""


def expired(token_seed: str = "old") -> dict[str, Any]:
    document = make_auth("2026-01-01T00:00:00Z", token_seed)
    document["tokens"]["access_token"] = jwt(token_seed, expires=1_700_000_000)
    return document


SERVER_REFRESHES = {"CDXSYNC_REFRESH": "server", "CDXSYNC_TOKEN_URL": "http://127.0.0.1:9/oauth/token"}


class Local:
    """A home without a server, whose local runner starts a script of the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "log"
        self.newer = root / "newer.json"
        self.newer.write_text(json.dumps(make_auth("2026-02-01T00:00:00Z", "newer")))
        self.codex = root / "bin" / "codex"
        self.fleet = Fleet(
            root / "home",
            env={
                "CDXSYNC_REFRESH": "hosts",
                "CDXSYNC_RUNNER": "local",
                "CDXSYNC_RUNNER_CODEX": str(self.codex),
                "AUTH_RUNNER_TIMEOUT": "30",
                "OPENAI_API_KEY": "sk-of-the-server",
                "CODEX_HOME": str(root / "of-the-server"),
                "DASHBOARD_ADMIN_KEY": "admin-key-of-the-server",
                "HTTPS_PROXY": "http://proxy.example.net:3128",
            },
        )
        self.fleet.cli("init", "--public-url", "https://localhost:1")

    def stand_in(self, text: str) -> None:
        text = text.replace("$STAND_IN_LOG", str(self.log)).replace("$STAND_IN_AUTH", str(self.newer))
        write_program(self.codex, text)

    def upload(self, document: dict[str, Any]) -> None:
        path = self.root / "auth.json"
        path.write_text(json.dumps(document))
        self.fleet.cli("auth", "upload", str(path))

    def run(self, **env: str) -> subprocess.CompletedProcess[str]:
        self.fleet.env |= env
        return self.fleet.cli("runner", "run", check=False)

    def start(self, **env: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "cdxsync", "--home", str(self.fleet.home), "runner", "run"]
        return subprocess.Popen(command, env=self.fleet.env | env, stderr=subprocess.DEVNULL)

    def status(self) -> dict[str, Any]:
        with self.opened() as fleet:
            shown: dict[str, Any] = msgspec.to_builtins(runner.status(fleet))
            return shown

    def canonical_date(self) -> str | None:
        with self.opened() as fleet:
            found = database.write(lambda: canonical.current(fleet))
            return found[1].last_refresh if found is not None else None

    def homes(self) -> list[Path]:
        return list((self.fleet.home / "runner").glob("*"))

    def recovers(self) -> int:
        with self.opened() as fleet:
            return checking.recover(fleet)

    def findings(self) -> list[str]:
        with self.opened() as fleet:
            return [finding.code for finding in status.doctor_findings(fleet)]

    @contextlib.contextmanager
    def opened(self) -> Iterator[OpenedFleet]:
        """The fleet within this process, with the settings of the runs."""
        environ = {
            name: value for name, value in self.fleet.env.items() if name not in ("CODEX_HOME", "OPENAI_API_KEY")
        }
        fleet = homes.open_fleet(settings.load(self.fleet.home, environ=environ))
        with contextlib.closing(fleet.database), fleet.database.scope():
            yield fleet

    def lease_is_over(self) -> None:
        with contextlib.closing(sqlite3.connect(self.fleet.home / "cdxsync.db", timeout=30)) as opened, opened:
            opened.execute("UPDATE jobs SET lease_until = last_started_at WHERE name = 'runner'")


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    local = Local(tmp_path)
    yield local
    Path(f"{local.log}.go").touch()  # a stand-in that still waits ends


def test_what_codex_is_given(local: Local) -> None:
    local.upload(make_auth())
    local.stand_in(
        f"""#!{sys.executable}
import json, os, stat, sys
home = os.path.dirname(os.environ["CODEX_HOME"])
facts = {{
    "arguments": sys.argv[1:], "environment": dict(os.environ), "cwd": os.listdir("."), "stdin": sys.stdin.read(),
    "mode": stat.S_IMODE(os.stat(home).st_mode), "auth_mode": stat.S_IMODE(os.stat(home + "/.codex/auth.json").st_mode),
    "auth": json.load(open(home + "/.codex/auth.json")), "home": home,
}}
json.dump(facts, open("$STAND_IN_LOG", "w"))
"""
    )
    done = local.run(CDXSYNC_RUNNER_MODEL="gpt-5.1")
    assert (done.returncode, done.stdout.startswith("ok (")) == (0, True), done.stderr
    facts = json.loads(local.log.read_text())
    assert facts["arguments"][:2] == ["exec", "--skip-git-repo-check"]
    assert (facts["cwd"], facts["stdin"], facts["mode"], facts["auth_mode"]) == ([], "", 0o700, 0o600)
    assert facts["auth"]["tokens"] == make_auth()["tokens"]
    environment = facts["environment"]
    assert "server" not in json.dumps({**environment, "PATH": ""})
    assert environment["HTTPS_PROXY"] == "http://proxy.example.net:3128"
    assert environment["CODEX_HOME"].startswith(str(local.fleet.home / "runner"))
    assert environment["HOME"] == facts["home"]
    assert local.homes() == []


def test_a_login_that_codex_cannot_use(local: Local) -> None:
    document = make_auth()
    local.upload(document)
    said = f"ERROR: 401 for {document['tokens']['access_token']}"
    local.stand_in(f"#!/bin/sh\necho '{said}' >&2\nprintf '\\033[31m\\n' >&2\nexit 1\n")
    done = local.run()
    assert done.returncode == 1
    assert done.stdout.startswith("fail: ERROR: 401 for … (")
    assert "Log in again on one host: cdx login" in done.stderr
    assert local.findings() == ["runner_failed"]
    status = local.status()
    assert status["latest_validation"]["reason"] == "ERROR: 401 for …"
    local.stand_in("#!/bin/sh\nexit 0\n")
    assert local.run().returncode == 0
    assert local.findings() == []


@pytest.mark.parametrize(
    "said",
    [
        "ERROR: stream disconnected before completion: error sending request for url (https://chatgpt.com/backend-api)",
        "ERROR: exceeded retry limit, last status: 503 Service Unavailable",
        "ERROR: You've hit your usage limit. Try again in 4011 minutes",
        "",
    ],
)
def test_what_does_not_tell_of_the_login_is_no_refusal(local: Local, said: str) -> None:
    local.upload(make_auth())
    local.stand_in(f'#!/bin/sh\necho "{said}" >&2\nexit 1\n')
    done = local.run()
    assert done.returncode == 1
    assert done.stdout.startswith("unknown: ")
    assert "cdx login" not in done.stderr
    assert local.findings() == []
    assert local.status()["latest_validation"]["status"] == "unknown"


def test_nothing_spends_tokens_that_was_not_switched_on(local: Local) -> None:
    local.upload(make_auth())
    local.stand_in('#!/bin/sh\necho run >> "$STAND_IN_LOG"\n')
    del local.fleet.env["CDXSYNC_RUNNER"]
    assert local.run().returncode == 1
    assert not local.log.exists()
    assert "nothing was switched on" in str(local.status()["off_reason"])


@pytest.mark.parametrize("wanted", ["local", "auto"])
def test_a_server_says_at_its_start_what_it_spends(local: Local, wanted: str) -> None:
    local.stand_in("#!/bin/sh\nexit 0\n")
    local.fleet.env["CDXSYNC_RUNNER"] = wanted
    local.fleet.start()
    if wanted == "local":
        local.fleet.wait_for("The login is checked daily and when it is new, by .*/codex exec, which spends tokens")
    local.fleet.stop()
    assert ("spends tokens" in "".join(local.fleet.output)) == (wanted == "local")


def test_codex_has_a_time_limit_with_all_that_it_starts(local: Local) -> None:
    local.upload(make_auth())
    local.stand_in("#!/bin/sh\nsleep 600 & echo $! > $STAND_IN_LOG\nsleep 600\n")
    done = local.run(AUTH_RUNNER_TIMEOUT="2")
    assert (done.returncode, "did not answer within 2 s" in done.stdout) == (1, True)
    child = int(local.log.read_text())
    until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2])
    assert local.homes() == []


def test_codex_that_is_not_there(local: Local) -> None:
    local.upload(make_auth())
    done = local.run()
    assert done.returncode == 1
    assert "no program" in str(local.status()["off_reason"])
    write_program(local.codex, "not a program")
    done = local.run()
    assert (done.returncode, "cannot be started" in done.stderr) == (1, True)
    assert local.findings() == ["job_failed"]


def test_a_file_that_codex_left_torn_changes_nothing(local: Local) -> None:
    local.upload(make_auth())
    local.stand_in('#!/bin/sh\nprintf "{" > "$CODEX_HOME/auth.json"\n')
    done = local.run()
    assert (done.returncode, "auth.json that cannot be read" in done.stderr) == (1, True)
    assert local.canonical_date() == make_auth()["last_refresh"]
    assert local.homes() == []


def test_a_refreshed_document_becomes_canonical(local: Local) -> None:
    local.upload(expired())
    local.stand_in(REFRESH)
    done = local.run()
    assert "canonical is that of 2026-02-01T00:00:00Z now" in done.stdout
    status = local.status()
    assert (status["latest_runner_store"]["status"], status["latest_validation"]["status"]) == ("applied", "ok")
    assert [intent["outcome"] for intent in status["refresh"]["intents"]] == ["stored"]
    assert status["latest_validation"]["digest"] == status["latest_runner_store"]["digest"]


def test_where_the_server_refreshes_a_check_gets_no_refresh_token(local: Local) -> None:
    """So it cannot spend it, nor end the login; what it writes is not taken. Where hosts refresh it gets all."""
    document = make_auth("2026-01-01T00:00:00Z")
    local.upload(document)
    local.stand_in(REFRESH.replace("cp ", 'cp "$CODEX_HOME/auth.json" $STAND_IN_LOG.laid\ncp '))
    assert local.run(**SERVER_REFRESHES).returncode == 0
    laid = json.loads(Path(f"{local.log}.laid").read_text())
    assert laid["tokens"] == {**document["tokens"], "refresh_token": "cdxr_" + "0" * 64}
    assert local.canonical_date() == document["last_refresh"]
    assert local.status()["refresh"]["intents"] == []

    assert local.run(CDXSYNC_REFRESH="hosts").returncode == 0
    assert json.loads(Path(f"{local.log}.laid").read_text())["tokens"] == document["tokens"]
    assert local.canonical_date() == "2026-02-01T00:00:00Z"


def test_where_the_server_refreshes_an_expired_login_is_not_checked(local: Local) -> None:
    local.upload(expired())
    local.stand_in(REFRESH)
    assert local.run(**SERVER_REFRESHES).returncode == 0
    assert not local.log.exists()
    assert local.canonical_date() == expired()["last_refresh"]


def test_a_host_that_was_quicker_wins(local: Local) -> None:
    local.upload(expired())
    local.newer.write_text(json.dumps(make_auth("2026-02-01T00:00:00Z", "of codex")))
    other = local.root / "host.json"
    other.write_text(json.dumps(make_auth("2026-02-02T00:00:00Z", "of a host")))
    local.stand_in(
        REFRESH
        + f"\nenv -u CODEX_HOME {sys.executable} -m cdxsync --home {local.fleet.home} auth upload {other} 2>/dev/null\n"
    )
    local.run()
    assert local.canonical_date() == "2026-02-02T00:00:00Z"
    status = local.status()
    assert status["latest_runner_store"]["status"] == "skipped"
    assert [intent["outcome"] for intent in status["refresh"]["intents"]] == ["superseded"]


def test_two_never_refresh_at_once(local: Local) -> None:
    local.upload(expired())
    local.stand_in(REFRESH.replace("cp ", "while [ ! -e $STAND_IN_LOG.go ]; do sleep 0.05; done\ncp "))
    outcomes: list[subprocess.CompletedProcess[str]] = []

    def second() -> None:
        until(local.log.exists)
        command = [sys.executable, "-m", "cdxsync", "--home", str(local.fleet.home), "runner", "run"]
        process = subprocess.Popen(
            command, env=local.fleet.env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        line = process.stderr.readline()
        Path(f"{local.log}.go").touch()
        process.communicate(timeout=60)
        assert "waiting for it to end" in line
        assert process.returncode == 0

    at_once([lambda: outcomes.append(local.run()), second])
    assert outcomes[0].returncode == 0
    assert local.log.read_text() == "run\n"
    assert len(local.status()["refresh"]["intents"]) == 1


def test_what_codex_wrote_when_its_server_died_is_not_lost(local: Local) -> None:
    local.upload(expired())
    local.stand_in(REFRESH + "touch $STAND_IN_LOG.done\nwhile [ ! -e $STAND_IN_LOG.go ]; do sleep 0.05; done\n")
    killed = local.start()
    until(Path(f"{local.log}.done").exists)
    killed.send_signal(signal.SIGKILL)
    killed.wait(30)
    assert local.findings() == []  # its lease still stands
    local.lease_is_over()
    assert local.findings() == ["refresh_open"]

    local.stand_in("#!/bin/sh\nexit 0\n")
    waits = local.run()
    assert (waits.returncode, "still runs" in waits.stderr) == (1, True)
    Path(f"{local.log}.go").touch()
    until(lambda: local.run().returncode == 0)
    assert local.canonical_date() == "2026-02-01T00:00:00Z"
    assert [intent["outcome"] for intent in local.status()["refresh"]["intents"]] == ["none", "recovered"]
    assert local.homes() == []
    assert local.findings() == []


def test_what_was_given_up_is_stored_when_it_is_found_after_all(local: Local) -> None:
    """As when another machine has taken over the lease, and the server that had died comes back."""
    local.upload(expired())
    local.stand_in(REFRESH + "touch $STAND_IN_LOG.done\nwhile [ ! -e $STAND_IN_LOG.go ]; do sleep 0.05; done\n")
    killed = local.start()
    until(Path(f"{local.log}.done").exists)
    killed.send_signal(signal.SIGKILL)
    killed.wait(30)
    Path(f"{local.log}.go").touch()
    local.lease_is_over()
    with local.opened():
        refresh.give_up()
    assert local.findings() == ["refresh_lost"]
    until(local.recovers)
    assert local.canonical_date() == "2026-02-01T00:00:00Z"
    assert [intent["outcome"] for intent in local.status()["refresh"]["intents"]] == ["recovered"]
    assert (local.homes(), local.findings()) == ([], [])


def test_a_torn_file_does_not_hide_what_codex_said(local: Local) -> None:
    local.upload(make_auth())
    local.stand_in('#!/bin/sh\nrm "$CODEX_HOME/auth.json"\necho "error: login revoked" >&2\nexit 1\n')
    assert local.run().stdout.startswith("fail: error: login revoked (")
    assert local.canonical_date() == make_auth()["last_refresh"]


def test_ctrl_c_does_not_break_a_refresh(local: Local) -> None:
    local.upload(expired())
    local.stand_in(REFRESH.replace("cp ", "while [ ! -e $STAND_IN_LOG.go ]; do sleep 0.05; done\ncp "))
    interrupted = local.start()
    until(local.log.exists)
    interrupted.send_signal(signal.SIGINT)
    assert interrupted.wait(30) != 0
    assert local.findings() == []  # the lease still stands, as Codex is still at work
    local.lease_is_over()
    assert local.findings() == ["refresh_open"]
    Path(f"{local.log}.go").touch()
    local.stand_in("#!/bin/sh\nexit 0\n")
    until(lambda: local.run().returncode == 0)
    assert local.canonical_date() == "2026-02-01T00:00:00Z"


def cut_off(local: Local) -> None:
    """Kill a check in the middle of Codex, and let the next one run to its end."""
    local.stand_in("#!/bin/sh\ntouch $STAND_IN_LOG\nwhile [ ! -e $STAND_IN_LOG.go ]; do sleep 0.05; done\n")
    killed = local.start()
    until(local.log.exists)
    killed.send_signal(signal.SIGKILL)
    killed.wait(30)
    Path(f"{local.log}.go").touch()
    local.lease_is_over()
    local.stand_in("#!/bin/sh\nexit 0\n")
    until(lambda: local.run().returncode == 0)


def test_a_check_that_was_cut_off_leaves_nothing(local: Local) -> None:
    local.upload(make_auth())
    cut_off(local)
    assert [intent["outcome"] for intent in local.status()["refresh"]["intents"]] == ["none", "none"]
    assert local.canonical_date() == make_auth()["last_refresh"]
    assert (local.homes(), local.findings()) == ([], [])


def test_a_refresh_whose_answer_is_lost_shows_until_there_is_a_new_login(local: Local) -> None:
    local.upload(expired())
    cut_off(local)
    assert [intent["outcome"] for intent in local.status()["refresh"]["intents"]] == ["none", "lost"]
    assert local.findings() == ["refresh_lost"]
    local.upload(make_auth("2026-05-01T00:00:00Z", "new login"))
    assert "refresh_lost" not in local.findings()
    assert local.homes() == []


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    for env, text in (
        ({"CDXSYNC_RUNNER": "remote"}, "set auth_runner_url"),
        ({"CDXSYNC_RUNNER": "sometimes"}, "must be auto, remote, local or off"),
        ({"AUTH_RUNNER_URL": "http://runner.example.net/verify"}, "must be an https URL, or http on loopback"),
        ({"AUTH_RUNNER_URL": "https://runner.example.net/verify"}, "needs auth_runner_secret"),
        ({"CDXSYNC_TOKEN_URL": "http://auth.example.net/oauth/token"}, "must be an https URL, or http on loopback"),
        ({"CHATGPT_BASE_URL": "http://chatgpt.example.net"}, "must be an https URL, or http on loopback"),
        ({"GPT51_INPUT_PER_1K": "-1"}, "must be a price"),
        ({"GPT51_INPUT_PER_1K": "nan"}, "must be a price"),
        ({"AUTH_RUNNER_TIMEOUT": "0"}, "must be a number of seconds"),
    ):
        with pytest.raises(SettingError, match=text):
            settings.load(tmp_path, environ=env)
