"""The command line: first steps, results for people and for scripts, and its refusals."""

import contextlib
import errno
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cdxsync import cli
from cdxsync.base import settings
from cdxsync.base.errors import Conflict, SettingError
from cdxsync.ops import home_owner, homes
from cdxsync.server import processes
from tests.support.documents import make_auth, plain_digest, with_auths
from tests.support.fleet import BASE_ENVIRONMENT, Fleet, free_port, run_cli, running_fleet

ROOT = Path(__file__).parents[2]


def test_the_first_serve_makes_everything_and_says_what(tmp_path: Path) -> None:
    with running_fleet(tmp_path / "new" / "home") as fleet:
        text = "".join(fleet.output)
        home = fleet.home
        for name in ("config.toml", "pki", "keyring.json", "signing.json", "cdxsync.db"):
            assert f"made {home / name}" in text
        assert f"Admin certificate: {home}/pki/admin.pem" in text
        assert "cdxsync hosts register NAME" in text
        assert f"Listening on https://127.0.0.1:{fleet.port}; hosts call {fleet.url}" in text
        assert home.stat().st_mode & 0o777 == 0o700
        for name in ("config.toml", "keyring.json", "signing.json", "cdxsync.db", "pki/ca.key", "pki/admin.key"):
            assert (home / name).stat().st_mode & 0o777 == 0o600
        for path in home.glob("cdxsync.db-*"):
            assert path.stat().st_mode & 0o077 == 0
        keyring = (home / "keyring.json").read_bytes()
        fleet.stop()
        fleet.output.clear()
        fleet.start()
        assert "Initialised" not in "".join(fleet.output)
        assert (home / "keyring.json").read_bytes() == keyring


def test_init_then_serve(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    done = run_cli("--home", home, "init", "--public-url", "https://CDX.example.net:8443/")
    assert "Next: cdxsync serve" in done.stdout
    assert 'public_url = "https://CDX.example.net:8443"' in (tmp_path / "home" / "config.toml").read_text()
    again = run_cli("--home", home, "init", check=False)
    assert again.returncode == 4
    assert "initialised already" in again.stderr
    data = json.loads(run_cli("--home", home, "--json", "hosts", "register", "web1.example.net").stdout)
    assert data["installer"]["url"].startswith("https://CDX.example.net:8443/install/")


def test_an_interrupted_init_goes_on(tmp_path: Path) -> None:
    """The keyring is made last; without it the home counts as unfinished, and what was made is kept."""
    home = tmp_path / "home"
    run_cli("--home", str(home), "init")
    ca = (home / "pki" / "ca.pem").read_bytes()
    (home / "keyring.json").unlink()
    run_cli("--home", str(home), "init")
    assert (home / "pki" / "ca.pem").read_bytes() == ca


def test_the_default_public_url(tmp_path: Path) -> None:
    data = json.loads(run_cli("--home", str(tmp_path / "a"), "--json", "init", "--listen", "127.0.0.1:9443").stdout)
    assert data["public_url"] == "https://127.0.0.1:9443"
    data = json.loads(run_cli("--home", str(tmp_path / "b"), "--json", "init", "--listen", "[::1]:443").stdout)
    assert data["public_url"] == "https://[::1]"
    done = run_cli("--home", str(tmp_path / "z"), "init", "--listen", "127.0.0.1:0", check=False)
    assert done.returncode == 2
    assert "port 0 needs public_url" in done.stderr
    assert not (tmp_path / "z" / "config.toml").exists()
    data = json.loads(run_cli("--home", str(tmp_path / "c"), "--json", "init").stdout)
    assert data["public_url"] == f"https://{os.uname().nodename.lower()}:8443"


@pytest.mark.parametrize(
    "arguments",
    [["hosts", "list"], ["hosts", "register", "a"], ["auth", "show"], ["pki", "list"], ["pki", "issue", "a"]],
)
def test_without_a_home_commands_say_how_to_make_one(tmp_path: Path, arguments: list[str]) -> None:
    done = run_cli("--home", str(tmp_path / "none"), *arguments, check=False)
    assert done.returncode == 1
    assert "is not initialised. Run: cdxsync init" in done.stderr
    assert not (tmp_path / "none").exists()


def test_a_home_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is another user's for this one, who is not root either."""
    home = tmp_path / "home"
    home.mkdir(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 3_999_999_999)
    monkeypatch.setattr(home_owner, "_ROOT", 3_999_999_999)
    with pytest.raises(Conflict, match="belongs to the user") as caught:
        homes.initialise(settings.load(home, environ={}, flags={"public_url": "https://cdx.example.net"}))
    assert caught.value.code == "home_not_own"
    assert list(home.iterdir()) == []


def test_a_home_that_others_could_replace_or_have_written_in_is_refused(tmp_path: Path) -> None:
    def init(home: Path) -> None:
        done = run_cli("--json", "--home", str(home), "init", check=False)
        assert (done.returncode, json.loads(done.stderr)["code"]) == (4, "home_not_own"), done.stderr

    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    init(shared / "home")
    assert not (shared / "home").exists()
    (tmp_path / "link").symlink_to(shared)
    init(tmp_path / "link" / "home")
    shared.chmod(0o1777)  # as /tmp: others rename nothing of ours there
    run_cli("--home", str(tmp_path / "link" / "home"), "init")

    planted = tmp_path / "planted"
    (planted / "pki").mkdir(parents=True)
    for path in (planted / "pki" / "ca.pem", planted / "keyring.json"):  # the latter: as of a home that is there
        path.write_text("{}")
        path.chmod(0o666)
        init(planted)
        path.unlink()
    run_cli("--home", str(planted), "init")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_root_makes_no_home_in_the_folder_of_a_user(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run_cli("--home", str(home), "init")
    for path, owner in ((home, "belongs to the user #12345"), (home / "pki" / "ca.key", "files that other users own")):
        os.chown(path, 12345, 12345)
        before = home.stat()
        done = run_cli("--home", str(home), "init", check=False)
        assert done.returncode == 4
        assert owner in done.stderr
        assert (home.stat().st_mode, home.stat().st_uid) == (before.st_mode, before.st_uid)
        os.chown(path, 0, 0)
    (home / "keyring.json").unlink()
    os.chown(home / "pki", 12345, 12345)
    assert run_cli("--home", str(home), "init", check=False).returncode == 4
    assert not (home / "keyring.json").exists()


def test_home_comes_from_the_environment_too(tmp_path: Path) -> None:
    env = BASE_ENVIRONMENT | {"CDXSYNC_HOME": str(tmp_path / "home")}
    run_cli("init", env=env)
    assert (tmp_path / "home" / "keyring.json").exists()
    assert json.loads(run_cli("--json", "hosts", "list", env=env).stdout) == {"hosts": []}


def test_registering_prints_one_line_for_scripts(fleet: Fleet) -> None:
    done = fleet.cli("hosts", "register", "Web1.Example.NET")
    assert len(done.stdout.splitlines()) == 1
    echo, script, *into = shlex.split(done.stdout)
    assert (echo, into) == ("echo", ["|", "bash"])
    assert "/install/" in script
    assert "Registered web1.example.net" in done.stderr
    assert "Rotated the key of web1.example.net" in fleet.cli("hosts", "register", "--yes", "web1.example.net").stderr
    assert fleet.cli("--quiet", "hosts", "rotate", "--yes", "web1.example.net").stderr == ""
    for arguments in (
        ["--json", "hosts", "rotate", "web1.example.net", "--yes"],
        ["hosts", "rotate", "--yes", "web1.example.net", "--json"],
    ):
        data = json.loads(fleet.cli(*arguments).stdout)
        assert set(data) == {"host", "installer"}
        assert set(data["installer"]) == {"token", "url", "command", "expires_at"}
        assert data["host"]["api_key"].startswith("cdx_")
        assert len(data["host"]["api_key"]) == 68
        with fleet.client(data["host"]["api_key"]) as client:
            assert client.call("GET", "/wrapper").status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "-a",
        "a-",
        "a..b",
        ".a",
        "a_b",
        "x" * 64,
        "1.2.3.4",
        "12",
        "a/b",
        '$(id)"',
        "é.example.net",
        "a\nb",
    ],
)
def test_names_that_are_no_host_names(fleet: Fleet, name: str) -> None:
    done = fleet.cli("hosts", "register", "--", name, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(("cdxsync: fqdn must be ", "cdxsync: fqdn is required"))
    with fleet.client(certificate="admin") as client:
        response = client.call("POST", "/admin/hosts/register", json={"fqdn": name})
    assert response.status_code == 422
    assert set(response.json()["errors"]) == {"fqdn"}


@pytest.mark.parametrize("command", ["register", "rotate"])
def test_a_host_in_use_is_not_cut_off_without_asking(fleet: Fleet, command: str) -> None:
    name = f"{command}d.example.net"
    key = fleet.key(name)
    with fleet.client(key) as client:
        assert client.auth(last_refresh="2000-01-01T00:00:00Z", digest="0" * 64).status_code == 200
        done = fleet.cli("hosts", command, name, check=False)
        assert (done.returncode, done.stdout) == (4, "")
        assert f"{name} is in use, last at " in done.stderr
        assert "its key ends at once" in done.stderr
        assert "add --yes" in done.stderr
        assert client.call("GET", "/wrapper").status_code == 200
        fleet.cli("hosts", "disable", name)
        done = fleet.cli("hosts", command, name, check=False)
        assert f"{name} is disabled: its new key is refused until cdxsync hosts enable {name}" in done.stderr
        fleet.cli("hosts", "enable", name)
        assert fleet.cli("hosts", command, "--yes", name).stdout
        assert client.call("GET", "/wrapper").status_code == 401


def test_hosts_by_id_or_name(fleet: Fleet) -> None:
    registered = json.loads(fleet.cli("--json", "hosts", "register", "byid.example.net").stdout)["host"]
    for reference in (str(registered["id"]), "byid.example.net", "BYID.example.net."):
        data = fleet.host(reference)
        assert data["fqdn"] == "byid.example.net"
        assert data["authed"] is False
    listed = fleet.cli("hosts", "list").stdout
    assert f"{registered['id']}\tbyid.example.net\tactive\t-\tnever\t0\t-\t-\t-\n" in listed
    assert "Host\tbyid.example.net\n" in fleet.cli("hosts", "show", "byid.example.net").stdout
    for command in ("show", "rotate", "delete"):
        for reference in ("nobody.example.net", "99999", "9" * 30):
            done = fleet.cli("hosts", command, reference, check=False)
            assert done.returncode == 3
            assert reference in done.stderr


def test_the_canonical_document(fresh_fleet: Fleet, tmp_path: Path) -> None:
    done = fresh_fleet.cli("auth", "show", check=False)
    assert done.returncode == 3
    assert "cdx login" in done.stderr
    assert "cdxsync auth upload FILE" in done.stderr

    document = make_auth("2026-02-01T00:00:00Z")
    file = tmp_path / "auth.json"
    file.write_text(json.dumps(document, indent=4))
    assert "is canonical now" in fresh_fleet.cli("auth", "upload", str(file)).stderr
    assert "was canonical already" in fresh_fleet.cli("auth", "upload", "-", input=json.dumps(document)).stderr
    shown = fresh_fleet.cli("auth", "show").stdout
    assert plain_digest(with_auths(document)) in shown
    assert "api.openai.com" in shown
    assert document["tokens"]["access_token"] not in shown
    assert json.loads(fresh_fleet.cli("auth", "show", "--include-body").stdout) == with_auths(document)

    older = json.dumps(make_auth("2026-01-01T00:00:00Z", "old"))
    done = fresh_fleet.cli("auth", "upload", "-", input=older, check=False)
    assert done.returncode == 4
    assert "2026-02-01T00:00:00Z" in done.stderr
    assert "--force" in done.stderr
    assert fresh_fleet.canonical() == with_auths(document)
    assert fresh_fleet.cli("auth", "upload", "-", "--force", input=older).returncode == 0
    with fresh_fleet.client(fresh_fleet.key("a")) as client:
        held = {"last_refresh": document["last_refresh"], "digest": plain_digest(with_auths(document))}
        answer = client.auth(**held).json()["data"]
    # A host that holds the later one pulls it: it has the present as its date.
    assert answer["status"] == "outdated"
    assert answer["auth"] == fresh_fleet.canonical()
    assert answer["auth"] | {"last_refresh": ""} == with_auths(json.loads(older)) | {"last_refresh": ""}
    assert answer["auth"]["last_refresh"] > document["last_refresh"]


def test_uploading_in_the_name_of_a_host(fresh_fleet: Fleet) -> None:
    fresh_fleet.register("source.example.net")
    document = json.dumps(make_auth())
    fresh_fleet.cli("auth", "upload", "-", "--host", "source.example.net", input=document)
    shown = json.loads(fresh_fleet.cli("--json", "auth", "show").stdout)
    assert shown["source"] == "source.example.net"
    host = fresh_fleet.host("source.example.net")
    assert host["api_calls"] == 1
    assert host["authed"] is True
    assert (
        fresh_fleet.cli("auth", "upload", "-", "--host", "x.example.net", input=document, check=False).returncode == 3
    )


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("", 2, "-: not valid JSON"),
        ("{", 2, "not valid JSON"),
        ("[]", 2, "auth is required"),
        ("{}", 2, "auth.last_refresh: is required"),
        ('{"last_refresh":"soon"}', 2, "auth.last_refresh: must be an RFC 3339"),
    ],
)
def test_uploads_that_are_no_documents(fleet: Fleet, text: str, code: int, says: str) -> None:
    done = fleet.cli("auth", "upload", "-", input=text, check=False)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_upload_endpoint(fresh_fleet: Fleet) -> None:
    host_id = fresh_fleet.register("up.example.net")["host"]["id"]
    document = make_auth()
    calls: list[tuple[dict[str, Any], str | None, str | None]] = [
        ({"auth": json.dumps(document)}, "updated", None),
        ({"auth": document, "host_id": "system"}, "unchanged", None),
        ({"auth": document, "host_id": host_id}, "unchanged", None),
        ({"auth": make_auth("2025-01-01T00:00:00Z")}, "outdated", None),
        ({"auth": "{"}, None, "auth"),
        ({}, None, "auth"),
        ({"auth": document, "host_id": True}, None, "host_id"),
        ({"auth": document, "host_id": "x"}, None, "host_id"),
    ]
    for body, status, field in calls:
        with fresh_fleet.client(certificate="admin") as client:
            response = client.call("POST", "/admin/auth/upload", json=body)
        if field:
            assert response.status_code == 422
            assert set(response.json()["errors"]) == {field}
        else:
            assert response.json()["data"]["status"] == status
            assert ("host" in response.json()["data"]) == (body.get("host_id") == host_id and status != "unchanged")
    with fresh_fleet.client(certificate="admin") as client:
        assert client.call("POST", "/admin/auth/upload", json={"auth": document, "host_id": 99}).status_code == 404
        assert client.call("DELETE", f"/admin/hosts/{host_id}").json()["data"] == {"deleted": host_id}
        assert client.call("DELETE", f"/admin/hosts/{host_id}").status_code == 404


def test_the_command_line_works_while_the_server_does_not_run(fresh_fleet: Fleet) -> None:
    fresh_fleet.stop()
    key = json.loads(fresh_fleet.cli("--json", "hosts", "register", "early.example.net").stdout)["host"]["api_key"]
    fresh_fleet.start()
    with fresh_fleet.client(key) as client:
        assert client.call("GET", "/wrapper").status_code == 200


def test_a_missing_keyring_is_named(fresh_fleet: Fleet) -> None:
    fresh_fleet.upload(make_auth())
    fresh_fleet.stop()
    (fresh_fleet.home / "keyring.json").write_text("{}")
    done = fresh_fleet.cli("hosts", "list", check=False)
    assert done.returncode == 1
    assert "keyring.json" in done.stderr


def test_a_database_of_a_newer_version_is_left_alone(fresh_fleet: Fleet) -> None:
    import sqlite3

    fresh_fleet.stop()
    with contextlib.closing(sqlite3.connect(fresh_fleet.home / "cdxsync.db")) as database, database:
        database.execute("INSERT INTO schema_migrations (name, applied_at) VALUES ('m9999_future', '2030-01-01')")
    done = fresh_fleet.cli("hosts", "list", check=False)
    assert done.returncode == 1
    assert "newer cdxsync" in done.stderr


def test_a_database_that_is_none(fresh_fleet: Fleet) -> None:
    fresh_fleet.stop()
    for path in fresh_fleet.home.glob("cdxsync.db*"):
        path.unlink()
    (fresh_fleet.home / "cdxsync.db").write_bytes(b"not a database at all" * 100)
    done = fresh_fleet.cli("hosts", "list", check=False)
    assert done.returncode == 5
    assert "Traceback" not in done.stderr


def test_usage_errors(fleet: Fleet) -> None:
    for arguments in (["dance"], ["hosts", "dance"], ["hosts"], ["hosts", "list", "--nope"], ["hosts", "show"]):
        done = fleet.cli(*arguments, check=False)
        assert done.returncode == 2 or "Usage" in done.stdout
    assert run_cli("--version").stdout.startswith("cdxsync 0.")


def test_both_launchers(tmp_path: Path) -> None:
    for command in ([sys.executable, "-m", "cdxsync"], [sys.executable, str(ROOT / "cli.py")]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, cwd=ROOT)
        assert done.stdout.startswith("cdxsync 0.")


def test_help_is_there_for_every_command() -> None:
    from typer.main import get_command

    from cdxsync.cli.main import app

    def walk(command: Any, path: list[str]) -> None:
        assert command.help, path
        for name, child in getattr(command, "commands", {}).items():
            walk(child, [*path, name])

    walk(get_command(app), ["cdxsync"])


def test_help_loads_no_server_code() -> None:
    code = "import sys; import cdxsync.cli.main; print([m for m in sys.modules if m.split('.')[0] in sys.argv[1:]])"
    heavy = ["bottle", "cheroot", "peewee", "cryptography", "msgspec"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_serving_twice_is_refused_clearly(fleet: Fleet) -> None:
    done = fleet.cli("serve", "--listen", f"127.0.0.1:{fleet.port}", "--public-url", fleet.url, check=False)
    assert done.returncode == 1
    assert "cannot listen on" in done.stderr


def test_plain_http_keeps_to_loopback(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text(f'listen = "0.0.0.0:{port}"\nplain_http = true\n')
    command = [sys.executable, "-m", "cdxsync", "--home", str(tmp_path / "home"), "serve"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=BASE_ENVIRONMENT)
    assert process.stderr is not None
    line = next(line for line in process.stderr if line.startswith("Listening on "))
    assert line.startswith(f"Listening on http://127.0.0.1:{port};")
    process.terminate()
    process.communicate(timeout=30)


def test_without_a_command_it_says_what_to_type_first(tmp_path: Path) -> None:
    home = tmp_path / "home"
    new = run_cli("--home", str(home), check=False)
    assert (new.returncode, new.stdout) == (2, "")
    assert f"There is no server in {home} yet" in new.stderr
    typed = re.findall(r"^  cdxsync ([a-z ]+)", new.stderr, re.MULTILINE)
    assert [words.split()[0] for words in typed] == ["serve", "serve", "auth", "hosts"]
    assert not home.exists()
    run_cli("--home", str(home), "init", "--public-url", "https://localhost")
    made = run_cli("--home", str(home), check=False)
    assert made.returncode == 2
    assert f"Its home is {home}" in made.stderr
    assert "cdxsync doctor" in made.stderr


def test_somebody_elses_home_is_named_with_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SettingError, match=rf"{tmp_path} belongs to the user {tmp_path.owner()}; .* sudo -u"):
        settings.check_readable(tmp_path)
    settings.check_readable(tmp_path / "none")


def test_the_home_of_the_service_is_hinted_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "SERVICE_HOME", tmp_path / "service")
    assert settings.hint_of_service(tmp_path / "mine") == ""
    (tmp_path / "service").mkdir()
    assert f"cdxsync --home {tmp_path}/service" in settings.hint_of_service(tmp_path / "mine")
    assert settings.hint_of_service(tmp_path / "service") == ""


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EADDRINUSE, "--listen HOST:PORT"),
        (errno.EACCES, "CAP_NET_BIND_SERVICE"),
        (errno.EADDRNOTAVAIL, "address"),
    ],
)
def test_why_it_cannot_listen(number: int, advice: str) -> None:
    error = processes.cannot_listen(settings.Listen("10.0.0.1", 443), OSError(number, os.strerror(number)))
    assert error.message.startswith(f"cannot listen on 10.0.0.1:443: {os.strerror(number)}; ")
    assert advice in error.message


def test_homes_are_opened_in_one_place() -> None:
    """All commands go through `State.opened`; `serve` opens and closes the home by its own rules."""
    folder = Path(cli.__file__).parent
    found = {path.name for path in folder.glob("*.py") if ".open_fleet(" in path.read_text()}
    assert found == {"command.py", "server.py"}


def test_usage_in_a_pipe_has_the_same_columns_whatever_it_says(fleet: Fleet) -> None:
    key = fleet.key("piped.example.net")
    with fleet.client(key) as client:
        for entry in ({"total": 1}, {"total": 2, "outside": True}):
            assert client.call("POST", "/usage", json=entry).status_code == 200
            rows = [line.split("\t") for line in fleet.cli("usage", "list").stdout.splitlines()]
            assert {len(row) for row in rows} == {8}
    assert [(row[3], row[-1]) for row in rows[:2]] == [("2", "outside cdx"), ("1", "cdx")]
    fleet.cli("hosts", "delete", "piped.example.net", "--yes")
    assert fleet.cli("usage", "list", "--limit", "1").stdout.split("\t")[1] == "(deleted)"
