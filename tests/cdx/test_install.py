"""The main job: installers piped to bash on two hosts, whose auth.json stays in step."""

import grp
import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import make_auth, with_auths
from tests.support.fleet import Fleet, running_fleet
from tests.support.installing import fetch, install_without_codex
from tests.support.machines import STUB_CODEX, Machine, write_program
from tests.support.quiet_http import QuietHandler
from tests.support.scheduling import no_scheduler, with_crontab
from tests.support.together import at_once, until

NEWER = "2026-03-01T00:00:00Z"


def test_two_hosts_install_and_hold_the_newest_document(fresh_fleet: Fleet, tmp_path: Path) -> None:
    fresh_fleet.upload(make_auth())
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    for machine, name in ((one, "one.example.net"), (two, "two.example.net")):
        done = machine.shell(fresh_fleet.cli("hosts", "register", name).stdout)
        assert done.returncode == 0, done.stderr
        assert f"Installing Codex for {name} via {fresh_fleet.url}" in done.stdout
        assert machine.auth() == with_auths(make_auth())
        assert machine.auth_file.stat().st_mode & 0o777 == 0o600
        assert machine.cdx.stat().st_mode & 0o777 == 0o700

    newer = make_auth(NEWER, "two")
    (tmp_path / "new.json").write_text(json.dumps(newer))
    done = one.run_cdx("exec", "say hi", NEW_AUTH=str(tmp_path / "new.json"))
    assert done.returncode == 0
    assert done.stdout == "ran with: exec say hi\n"
    assert fresh_fleet.canonical() == with_auths(newer)
    done = two.run_cdx("exec", "say hi")
    assert done.returncode == 0
    assert two.auth() == with_auths(newer)
    # Codex left its own form on the first host; it is not sent to and fro.
    assert one.auth() == newer
    for machine in (one, two, one):
        assert machine.run_cdx("exec", "again", CODEX_DEBUG="1").stderr.count("the server says valid") == 1
    digests = {
        host["canonical_digest"] for host in json.loads(fresh_fleet.cli("--json", "hosts", "list").stdout)["hosts"]
    }
    assert len(digests) == 1


@pytest.fixture(scope="module")
def installed(fleet: Fleet) -> dict[str, Any]:
    return fleet.register("script.example.net")


def test_the_script_and_the_baked_wrapper_say_what_other_tools_read(fleet: Fleet, tmp_path: Path) -> None:
    data = fleet.register("texts.example.net")
    key = data["host"]["api_key"]
    response = fetch(fleet, data["installer"]["url"])
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/x-shellscript; charset=utf-8"
    assert response.headers["X-Installer-Expires-At"] == data["installer"]["expires_at"]
    assert "no-store" in response.headers["Cache-Control"]
    script = response.text
    assert f"Installing Codex for texts.example.net via {fleet.url}" in script
    assert f'curl -fsSL "{fleet.url}/wrapper/download"' in script  # a function, which adds -q
    assert f"X-API-Key: {key}" in script
    assert "@@" not in script
    write_program(tmp_path / "install.sh", script)
    if subprocess.run(["which", "shellcheck"], capture_output=True).returncode == 0:
        done = subprocess.run(["shellcheck", str(tmp_path / "install.sh")], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    lines = fleet.wrapper("texts.example.net", key, tmp_path / "cdx").read_text().splitlines()
    assert f'CODEX_SYNC_BASE_URL_DEFAULT="{fleet.url}"' in lines
    assert f'CODEX_SYNC_API_KEY="{key}"' in lines
    assert 'CODEX_SYNC_FQDN="texts.example.net"' in lines
    assert any(line.startswith('WRAPPER_VERSION="') and "__" not in line for line in lines)
    assert any(line.startswith('CODEX_SYNC_CA_PEM="-----BEGIN CERTIFICATE-----\\n') for line in lines)


@pytest.mark.every_engine
def test_a_used_installer_says_so(fleet: Fleet, tmp_path: Path) -> None:
    data = fleet.register("used.example.net")
    assert fetch(fleet, data["installer"]["url"]).status_code == 200
    response = fetch(fleet, data["installer"]["url"])
    assert response.status_code == 410
    done = subprocess.run(["sh", "-c", response.text], capture_output=True, text=True)
    assert done.returncode == 1
    assert "used already" in done.stderr
    assert "cdxsync hosts register used.example.net" in done.stderr
    machine = Machine(tmp_path / "m")
    assert machine.shell(data["installer"]["command"]).returncode != 0
    assert not machine.cdx.exists()


def test_an_expired_installer_says_so(tmp_path: Path) -> None:
    with running_fleet(tmp_path / "home", env={"INSTALL_TOKEN_TTL_SECONDS": "1"}) as fleet:
        data = fleet.register("late.example.net")
        # The stamps have whole seconds: asking until it has expired takes at most two.
        until(lambda: fetch(fleet, data["installer"]["url"], "HEAD").status_code != 200)
        assert fetch(fleet, data["installer"]["url"], "HEAD").status_code == 410
        assert "expired" in fetch(fleet, data["installer"]["url"]).text


@pytest.mark.every_engine
def test_unknown_installers(fleet: Fleet) -> None:
    response = fetch(fleet, f"{fleet.url}/install/00000000-0000-4000-8000-000000000000")
    assert response.status_code == 404
    assert response.text.startswith("#!/bin/sh")
    response = fetch(fleet, f"{fleet.url}/install/nonsense")
    assert response.status_code == 404
    assert response.json()["message"] == "Route not found"


@pytest.mark.parametrize(
    "headers",
    [
        {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64)"},
        {"User-Agent": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"},
        {"User-Agent": "facebookexternalhit/1.1"},
        {"Accept": "text/html,application/xhtml+xml"},
        {"Sec-Fetch-Mode": "navigate"},
        {"Purpose": "prefetch"},
    ],
)
@pytest.mark.every_engine
def test_a_look_does_not_use_the_installer_up(fleet: Fleet, headers: dict[str, str]) -> None:
    data = fleet.register("look.example.net")
    url = data["installer"]["url"]
    assert fetch(fleet, url, "HEAD").status_code == 200
    assert fetch(fleet, url, **headers).status_code == 406
    assert fetch(fleet, url, **{"User-Agent": "curl/7.88.1", "Accept": "*/*"}).status_code == 200


@pytest.mark.every_engine
def test_registering_again_ends_the_old_key_binding_and_installer(fleet: Fleet) -> None:
    first = fleet.register("again.example.net")
    with fleet.client(first["host"]["api_key"]) as client:
        assert client.call("GET", "/wrapper").status_code == 200
    second = fleet.register("AGAIN.example.net.")
    assert second["host"]["id"] == first["host"]["id"]
    assert second["host"]["fqdn"] == "again.example.net"
    assert fetch(fleet, first["installer"]["url"]).status_code == 404
    with fleet.client(first["host"]["api_key"]) as client:
        assert client.call("GET", "/wrapper").json()["message"] == "Invalid API key"
    host = fleet.host("again.example.net")
    assert host["ip"] is None
    assert fetch(fleet, second["installer"]["url"]).status_code == 200


def test_the_cdx_of_another_host_is_not_replaced_in_silence(fleet: Fleet, tmp_path: Path) -> None:
    fleet.upload(make_auth())
    machine = Machine(tmp_path / "m")
    said = []
    for name in ("first.example.net", "first.example.net", "second.example.net"):
        done = machine.shell(fleet.cli("hosts", "register", "--yes", name).stdout)
        assert done.returncode == 0, done.stderr
        said.append("it was the cdx of first.example.net, whose key is gone with it" in done.stderr)
    assert said == [False, False, True]


@pytest.mark.every_engine
def test_thirty_two_clients_fetch_one_installer(fleet: Fleet) -> None:
    url = fleet.register("rush.example.net")["installer"]["url"]
    barrier = threading.Barrier(32, timeout=60)
    answers: list[tuple[int, str]] = []

    def rush() -> None:
        with fleet.client() as client:
            barrier.wait()
            response = client.call("GET", url.removeprefix(fleet.url))
            answers.append((response.status_code, response.text))

    at_once([rush] * 32)
    scripts = [text for status, text in answers if status == 200]
    assert len(answers) == 32
    assert len(scripts) == 1
    assert "X-API-Key: cdx_" in scripts[0]
    assert {status for status, _ in answers} == {200, 410}


def test_a_fresh_fleet_gives_an_instruction_and_takes_the_first_login(fresh_fleet: Fleet, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    done = machine.shell(fresh_fleet.register("first.example.net")["installer"]["command"])
    assert done.returncode == 0, done.stderr
    assert "cdx login" in done.stderr
    assert "cdxsync auth upload FILE" in done.stderr
    assert not machine.auth_file.exists()
    (tmp_path / "login.json").write_text(json.dumps(make_auth()))
    done = machine.run_cdx("login", NEW_AUTH=str(tmp_path / "login.json"))
    assert done.returncode == 0
    assert done.stderr == "cdx: this login is shared with the fleet\n"
    assert fresh_fleet.canonical() == with_auths(make_auth())


def test_a_tampered_wrapper_is_not_installed(fleet: Fleet, tmp_path: Path) -> None:
    data = fleet.register("tampered.example.net")
    script = fetch(fleet, data["installer"]["url"]).text
    sha = next(line for line in script.splitlines() if line.startswith("WRAPPER_SHA256="))
    machine = Machine(tmp_path / "m")
    write_program(tmp_path / "install.sh", script.replace(sha, "WRAPPER_SHA256=" + "0" * 64))
    done = machine.run("bash", str(tmp_path / "install.sh"))
    assert done.returncode == 1
    assert "checksum" in done.stderr
    assert not machine.cdx.exists()


@pytest.mark.parametrize(
    ("missing", "says"), [("curl", "curl is missing"), ("python3", "python3 is missing"), ("old", "needs 3.8 or later")]
)
def test_missing_programs_are_named(fleet: Fleet, tmp_path: Path, missing: str, says: str) -> None:
    script = fetch(fleet, fleet.register(f"no-{missing}.example.net")["installer"]["url"]).text
    write_program(tmp_path / "install.sh", script)
    tools = tmp_path / "tools"
    for tool in ("curl", "python3"):
        if tool != missing:
            write_program(tools / tool, "#!/bin/sh\nexit 1\n" if missing == "old" else "#!/bin/sh\nexit 0\n")
    for tool in ("mktemp", "rm", "sh", "bash"):
        (tools / tool).symlink_to(Path("/bin") / tool)
    machine = Machine(tmp_path / "m", path=str(tools))
    machine.env["PATH"] = str(tools)
    done = machine.run("bash", str(tmp_path / "install.sh"))
    assert done.returncode == 1
    assert says in done.stderr
    assert not machine.cdx.exists()


class Release:
    """GitHub's API with one release of Codex."""

    def __init__(self) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name in ("codex-x86_64-unknown-linux-musl", "codex-aarch64-unknown-linux-musl"):
                if name.startswith(f"codex-{self.machine()}"):
                    info = tarfile.TarInfo(name)
                    info.size, info.mode = len(STUB_CODEX), 0o755
                    archive.addfile(info, io.BytesIO(STUB_CODEX.encode()))
        self.archive = buffer.getvalue()
        self.checksum: str | None = f"sha256:{hashlib.sha256(self.archive).hexdigest()}"
        release = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:
                body = json.dumps(release.describe()).encode() if "releases" in self.path else release.archive
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @staticmethod
    def machine() -> str:
        import platform

        return platform.machine()

    def describe(self) -> dict[str, Any]:
        name = f"codex-{self.machine()}-unknown-linux-musl.tar.gz"
        asset = {"name": name, "browser_download_url": f"{self.url}/{name}", "digest": self.checksum}
        return {"tag_name": "rust-v0.169.0", "assets": [{"name": "other"}, asset]}


@pytest.fixture
def release() -> Iterator[Release]:
    started = Release()
    yield started
    started.server.shutdown()
    started.server.server_close()


@pytest.mark.parametrize("checksum", ["right", "wrong", "absent"])
def test_codex_comes_from_its_release_when_npm_is_not_there(tmp_path: Path, release: Release, checksum: str) -> None:
    if checksum != "right":
        release.checksum = None if checksum == "absent" else "sha256:" + "0" * 64
    with running_fleet(tmp_path / "server", env={"GITHUB_API_URL": release.url}) as fleet:
        fleet.upload(make_auth())
        machine, done = install_without_codex(fleet, tmp_path, "bare.example.net")
        assert done.returncode == 0, done.stderr
        if checksum == "right":
            done = machine.run_cdx("exec", "hi")
            assert done.stdout == "ran with: exec hi\n"
        else:
            assert "checksum" in done.stderr
            assert "npm install -g @openai/codex" in done.stderr
            done = machine.run_cdx("exec", "hi")
            assert done.returncode == 127
            assert "Codex is not installed" in done.stderr


def test_codex_comes_from_npm_when_npm_is_there(fleet: Fleet, tmp_path: Path) -> None:
    npm = f"""#!/bin/sh
case "$*" in "install --global"*"--prefix $HOME/.local @openai/codex") ;; *) echo "unexpected: $*" >&2; exit 1;; esac
cat >"$HOME/.local/bin/codex" <<'CODEX'
{STUB_CODEX}
CODEX
chmod +x "$HOME/.local/bin/codex"
"""
    machine, done = install_without_codex(fleet, tmp_path, "npm.example.net", npm=npm)
    assert done.returncode == 0, done.stderr
    assert "Installing Codex with npm" in done.stdout
    assert machine.run_cdx("exec", "hi").stdout == "ran with: exec hi\n"


def test_a_foreign_server_is_not_trusted(fleet: Fleet, tmp_path: Path) -> None:
    """The command's own CA decides, so another server at the address gets nothing."""
    with running_fleet(tmp_path / "other") as other:
        command = fleet.register("foreign.example.net")["installer"]["command"].replace(fleet.url, other.url)
        machine = Machine(tmp_path / "m")
        done = machine.shell(command)
        assert done.returncode != 0
        assert "certificate" in done.stderr.lower()
        assert not machine.cdx.exists()


def test_a_group_may_share_cdx(fleet: Fleet, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    group = grp.getgrgid(os.getgid()).gr_name
    command = fleet.register("group.example.net")["installer"]["command"]
    done = machine.shell(command, CDX_GROUP=group, SHELL="/usr/bin/fish")
    assert done.returncode == 0, done.stderr
    assert machine.cdx.stat().st_mode & 0o777 == 0o750
    assert machine.cdx.group() == group
    assert f"fish_add_path {machine.cdx.parent}" in done.stdout
    done = Machine(tmp_path / "n").shell(
        fleet.register("nogroup.example.net")["installer"]["command"], CDX_GROUP="no-such"
    )
    assert done.returncode != 0
    assert "cannot give cdx to the group no-such" in done.stderr
    assert "then paste the same line again" in done.stderr
    assert "then ask your admin for a new installer: cdxsync hosts register nogroup.example.net" in done.stderr


def test_it_installs_the_background_sync_where_that_is_asked_for(fleet: Fleet, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    crontab = with_crontab(machine)
    command = fleet.register("watched.example.net")["installer"]["command"]
    done = machine.shell(f"export CDX_WATCH=1; {command}")
    assert done.returncode == 0, done.stderr
    assert "Installing the background sync" in done.stdout
    assert f"'{machine.cdx}' --watch run" in crontab.read_text()
    assert fleet.host("watched.example.net")["background_sync"]["by"] == "cron"
    # Without a scheduler all else is installed, and it is said.
    other = Machine(tmp_path / "n")
    no_scheduler(other)
    done = other.shell(fleet.register("unwatched.example.net")["installer"]["command"], CDX_WATCH="1")
    assert done.returncode == 0, done.stderr
    assert f"the background sync is not installed (see above). To try again: {other.cdx} --watch install" in done.stderr
    other = Machine(tmp_path / "o")
    crontab = with_crontab(other)
    done = other.shell(fleet.register("unasked.example.net")["installer"]["command"], CDX_WATCH="0")
    assert done.returncode == 0, done.stderr
    assert not crontab.exists()
