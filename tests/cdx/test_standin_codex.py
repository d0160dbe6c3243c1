"""The stand-in for Codex does with auth.json what the real one does: the same tests, with either."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import jwt
from tests.support.machines import write_program
from tests.support.provider import Provider
from tests.support.real_codex import write_config
from tests.support.world_hosts import environment, standin

EXPIRED = 1_700_000_000
MEMBERS = ["auth_mode", "OPENAI_API_KEY", "tokens", "last_refresh"]


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.codex)])
def home(request: pytest.FixtureRequest, tmp_path: Path, provider: Provider) -> "Home":
    if request.param == "real":
        return Home(tmp_path, provider, request.getfixturevalue("codex").program)
    return Home(tmp_path, provider, str(write_program(tmp_path / "codex", standin())))


class Home:
    """A home of Codex, or of its stand-in."""

    def __init__(self, root: Path, provider: Provider, program: str) -> None:
        self.provider, self.root = provider, root
        self.folder = root / ".codex"
        self.folder.mkdir()
        self.file = self.folder / "auth.json"
        self.program = program
        write_config(self.folder, provider.url, provider.url)

    def lay(self, document: dict[str, Any], **tokens: str) -> None:
        self.file.write_text(json.dumps({**document, "tokens": {**document["tokens"], **tokens}}))
        self.file.chmod(0o600)

    def auth(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.file.read_text())
        return document

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "CODEX_HOME": str(self.folder),
            "CODEX_REFRESH_TOKEN_URL_OVERRIDE": self.provider.token_url,
            "NO_PROXY": "*",
            **environment(self.provider, margin=300),
        }
        return subprocess.run(
            [self.program, *arguments],
            env=env,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def say_hi(self) -> subprocess.CompletedProcess[str]:
        return self.run("exec", "--skip-git-repo-check", "say hi")


def test_a_fresh_token_is_used_and_nothing_written(home: Home) -> None:
    document = home.provider.login()
    home.lay(document)
    done = home.say_hi()
    assert (done.returncode, done.stdout) == (0, "hi there\n"), done.stderr
    assert home.auth() == document
    assert home.provider.asked == []


def test_an_expired_token_is_refreshed_and_the_file_rewritten(home: Home) -> None:
    document = home.provider.login()
    home.lay({**document, "auths": {"api.openai.com": {"token": "x" * 30}}}, access_token=jwt("old", expires=EXPIRED))
    done = home.say_hi()
    assert done.returncode == 0, done.stderr
    [asked] = home.provider.asked
    assert {name: asked[name] for name in ("grant_type", "refresh_token", "refresh_reason")} == {
        "grant_type": "refresh_token",
        "refresh_token": document["tokens"]["refresh_token"],
        "refresh_reason": "proactive_expiry",
    }
    written = home.auth()
    assert list(written) == MEMBERS
    assert list(written["tokens"]) == list(document["tokens"])
    assert home.provider.is_alive(written["tokens"]["refresh_token"])
    assert home.file.stat().st_mode & 0o777 == 0o600
    assert len(written["last_refresh"].partition(".")[2]) == len("123456789Z")
    assert home.file.read_text() == json.dumps(written, indent=2)


def test_a_refused_token_is_replaced_once(home: Home) -> None:
    document = home.provider.login()
    home.lay(document, access_token=jwt("of another world"))
    done = home.say_hi()
    assert done.returncode == 0, done.stderr
    assert [asked["refresh_reason"] for asked in home.provider.asked] == ["unauthorized_recovery"]


def test_a_refresh_token_that_the_answer_leaves_out_stays(home: Home) -> None:
    home.provider.rotates = False
    document = home.provider.login()
    home.lay(document, access_token=jwt("old", expires=EXPIRED))
    assert home.say_hi().returncode == 0
    assert home.auth()["tokens"]["refresh_token"] == document["tokens"]["refresh_token"]


def test_a_dead_login_ends_with_1_and_the_file_stays(home: Home) -> None:
    document = home.provider.login()
    home.provider.revoke({"token": document["tokens"]["refresh_token"]})
    home.lay(document, access_token=jwt("old", expires=EXPIRED))
    done = home.say_hi()
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert home.file.exists()


def test_logout_revokes_and_deletes(home: Home) -> None:
    document = home.provider.login()
    home.lay(document)
    assert home.run("logout").returncode == 0
    assert [body["token"] for body in home.provider.revoked] == [document["tokens"]["refresh_token"]]
    assert not home.file.exists()


def test_a_login_with_a_key_revokes_nothing(home: Home) -> None:
    home.lay(home.provider.login())
    done = subprocess.run(
        [home.program, "login", "--with-api-key"],
        env={"PATH": os.environ["PATH"], "HOME": str(home.root), "CODEX_HOME": str(home.folder)},
        input="sk-0123456789abcdefghijklmn\n",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert home.auth() == {"auth_mode": "apikey", "OPENAI_API_KEY": "sk-0123456789abcdefghijklmn"}
    assert home.provider.revoked == []
