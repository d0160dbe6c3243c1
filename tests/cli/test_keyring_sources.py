"""A keyring from outside the home: a systemd credential, or the environment."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.documents import make_auth, with_auths
from tests.support.fleet import BASE_ENVIRONMENT, Fleet, run_cli, running_fleet

MARK = '{"keyring": "outside", "rows_have_macs": true}\n'


class Place:
    """Where a keyring lies outside of the home, and the environment that has it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.text = ""
        folder.mkdir()

    def put(self, text: str) -> None:
        self.text = text
        if self.kind == "credential":
            (self.folder / "cdxsync-keyring").write_text(text)

    @property
    def env(self) -> dict[str, str]:
        if self.kind == "credential":
            return BASE_ENVIRONMENT | {"CREDENTIALS_DIRECTORY": str(self.folder)}
        return BASE_ENVIRONMENT | {"CDXSYNC_KEYRING": self.text}

    @property
    def name(self) -> str:
        return "systemd credential" if self.kind == "credential" else "CDXSYNC_KEYRING"


@pytest.fixture(params=["credential", "environment"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(request.param, tmp_path / "credentials")


@pytest.fixture
def ring(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A good keyring."""
    home = str(tmp_path_factory.mktemp("other") / "home")
    run_cli("--home", home, "init", "--public-url", "https://localhost:1")
    return run_cli("--home", home, "keys", "export", "-").stdout


def keys(home: Path, env: dict[str, str]) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = json.loads(
        run_cli("--home", str(home), "--json", "keys", "list", env=env).stdout
    )["keys"]
    return listed


def test_a_new_home_with_a_keyring_from_outside(place: Place, ring: str, tmp_path: Path) -> None:
    """It is used, never written, and the whole life of keys works, with the steps that only an admin can do."""
    place.put(ring)
    home = tmp_path / "home"
    active = json.loads(ring)["active"]
    with running_fleet(home, env=place.env) as fleet:
        fleet.upload(make_auth())
        fleet.key("a.example.net")
        assert fleet.canonical() == with_auths(make_auth())
        fleet.stop()
        assert (home / "keyring.json").read_text() == MARK

        # A change of keys: first it is said how, then it is done, and nothing is lost in between.
        done = fleet.cli("keys", "rotate", check=False)
        assert done.returncode == 4
        assert place.name in done.stderr
        assert "cdxsync keys export FILE --new-key" in done.stderr
        assert [key["id"] for key in keys(home, place.env)] == [active]
        new = tmp_path / "new"
        fleet.cli("keys", "export", str(new), "--new-key")
        assert new.stat().st_mode & 0o777 == 0o600
        assert fleet.cli("keys", "export", str(new), check=False).returncode == 4
        place.put(new.read_text())
        fleet.env = place.env
        fleet.start()
        changed = json.loads(fleet.cli("--json", "keys", "rotate").stdout)
        assert (changed["added"], changed["unreadable"]) == (False, [])
        assert changed["resealed"] == 3
        assert fleet.canonical() == with_auths(make_auth())
        done = fleet.cli("keys", "retire", active, "--yes", check=False)
        assert done.returncode == 4
        assert f"cdxsync keys export FILE --without {active}" in done.stderr
        place.put(fleet.cli("keys", "export", "-", "--without", active).stdout)
        fleet.env = place.env
        fleet.stop()
        fleet.start()
        assert [key["id"] for key in keys(home, place.env)] == [changed["active"]]
        assert fleet.canonical() == with_auths(make_auth())
        assert fleet.cli("keys", "export", "-", "--without", changed["active"], check=False).returncode == 4
    assert (home / "keyring.json").read_text() == MARK
    report = json.loads(run_cli("--home", str(home), "--json", "doctor", check=False, env=place.env).stdout)
    finding = next(one for one in report["checks"] if one["check"] == "keyring")
    assert finding["level"] == "ok"
    assert place.name in finding["text"]


def test_without_it_and_with_a_wrong_one(place: Place, ring: str, tmp_path: Path) -> None:
    place.put(ring)
    home = tmp_path / "home"
    env = place.env
    active = json.loads(ring)["active"]
    run_cli("--home", str(home), "init", "--public-url", "https://localhost:1", env=env)
    run_cli("--home", str(home), "auth", "upload", "-", input=json.dumps(make_auth()), env=env)
    before = (home / "cdxsync.db").read_bytes()

    def starts(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return run_cli("--home", str(home), "serve", "--listen", "127.0.0.1:1", env=env, check=False)

    done = starts(BASE_ENVIRONMENT)
    assert done.returncode == 1
    assert f"Needed: key '{active}'" in done.stderr
    assert "comes from outside, but none was given" in done.stderr
    # What needs no key works; what needs one says why not.
    assert run_cli("--home", str(home), "hosts", "list").returncode == 0
    done = run_cli("--home", str(home), "hosts", "register", "a.example.net", check=False)
    assert "comes from outside, but none was given" in done.stderr
    assert run_cli("--home", str(home), "--json", "hosts", "list").stdout.count("fqdn") == 0
    report = json.loads(run_cli("--home", str(home), "--json", "doctor", check=False).stdout)
    finding = next(one for one in report["checks"] if one["check"] == "keyring")
    assert (finding["level"], active in finding["text"]) == ("fail", True)

    other = json.loads(ring)
    other["keys"] = {"0000": other["keys"][active]}
    other["active"] = "0000"
    place.put(json.dumps(other))
    done = starts(place.env)
    assert done.returncode == 1
    assert f"Needed: key '{active}'" in done.stderr
    secret = json.loads(ring)["keys"][active]
    for garbage in ("{}", "garbage", ring.replace(secret, "AAAA")):
        place.put(garbage)
        done = starts(place.env)
        assert done.returncode == 1
        assert "not a keyring" in done.stderr
        assert secret not in done.stderr
    assert (home / "cdxsync.db").read_bytes() == before


def test_moving_the_keys_out_and_back(fresh_fleet: Fleet, place: Place, tmp_path: Path) -> None:
    fresh_fleet.upload(make_auth())
    fresh_fleet.stop()
    file = fresh_fleet.home / "keyring.json"
    place.put(fresh_fleet.cli("keys", "export", "-").stdout)
    # Two keyrings would drift apart.
    done = run_cli("--home", str(fresh_fleet.home), "hosts", "list", env=place.env, check=False)
    assert done.returncode == 4
    assert "There are two keyrings" in done.stderr
    keys_of_file = file.read_bytes()
    file.unlink()
    # Another one is not taken for it.
    right = place.text
    wrong = json.loads(right)
    wrong["keys"] = dict.fromkeys(wrong["keys"], "A" * 43 + "=")
    place.put(json.dumps(wrong))
    done = run_cli("--home", str(fresh_fleet.home), "init", env=place.env, check=False)
    assert done.returncode == 1
    assert "does not open the stored values" in done.stderr
    assert not file.exists()
    place.put(right)
    fresh_fleet.env = place.env
    fresh_fleet.start()
    assert file.read_text() == MARK
    assert fresh_fleet.canonical() == with_auths(make_auth())

    # A backup has the mark, and is restored where the keys are.
    data = json.loads(fresh_fleet.cli("--json", "db", "backup", str(tmp_path / "b.zip")).stdout)
    assert (data["keyring"], "keyring.json" in data["files"]) == (False, True)
    home = tmp_path / "restored"
    done = run_cli("--home", str(home), "db", "restore", str(tmp_path / "b.zip"), check=False)
    assert "comes from outside, but none was given" in done.stderr
    assert not home.exists()
    run_cli("--home", str(home), "db", "restore", str(tmp_path / "b.zip"), env=place.env)
    shown = run_cli("--home", str(home), "auth", "show", "--include-body", env=place.env).stdout
    assert json.loads(shown) == with_auths(make_auth())

    fresh_fleet.stop()
    file.write_bytes(keys_of_file)
    fresh_fleet.env = BASE_ENVIRONMENT
    fresh_fleet.start()
    assert fresh_fleet.canonical() == with_auths(make_auth())
