"""The real Codex with grants for refresh tokens, and this server as its token endpoint."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.calls import OLD, ZERO, logs
from tests.support.documents import jwt
from tests.support.fleet import Fleet
from tests.support.provider import Provider
from tests.support.real_codex import RealCodex, write_config

pytestmark = pytest.mark.codex


class Host:
    """A home of Codex with a document as the server gives it to a host that accepts a grant."""

    def __init__(self, codex: RealCodex, fleet: Fleet, provider: Provider, root: Path, fqdn: str) -> None:
        self.real = codex
        self.fleet, self.fqdn, self.root = fleet, fqdn, root
        self.home = root / ".codex"
        self.home.mkdir(parents=True)
        write_config(self.home, provider.url, provider.url)
        self.auth_file = self.home / "auth.json"
        with fleet.client(fleet.key(fqdn)) as host:
            data = host.auth(last_refresh=OLD, digest=ZERO, accepts=["grant"]).json()["data"]
        self.given: dict[str, Any] = data["auth"]
        self.write(self.given)

    def write(self, document: dict[str, Any]) -> None:
        self.auth_file.write_text(json.dumps(document))
        self.auth_file.chmod(0o600)

    def expire(self) -> None:
        """As after a token life: the host has an access token that is over."""
        tokens = {**self.given["tokens"], "access_token": jwt("expired", expires=1_700_000_000)}
        self.write({name: value for name, value in self.given.items() if name != "auths"} | {"tokens": tokens})

    def auth(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.auth_file.read_text())
        return document

    def codex(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": self.real.path(os.environ["PATH"]),
            "HOME": str(self.root),
            "CODEX_HOME": str(self.home),
            "CODEX_REFRESH_TOKEN_URL_OVERRIDE": f"{self.fleet.url}/oauth/token",
            "CODEX_CA_CERTIFICATE": str(self.fleet.ca_file),
            "NO_PROXY": "*",
        }
        return subprocess.run(
            ["codex", *arguments],
            env=environment,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def say_hi(self) -> subprocess.CompletedProcess[str]:
        return self.codex("exec", "--skip-git-repo-check", "say hi")


def hosts(codex: RealCodex, fleet: Fleet, provider: Provider, folder: Path, count: int) -> list[Host]:
    return [Host(codex, fleet, provider, folder / f"host{n}", f"host{n}.example.net") for n in range(count)]


def test_codex_logs_out_and_nothing_ends(codex: RealCodex, served: Fleet, provider: Provider, tmp_path: Path) -> None:
    login = provider.login()
    served.upload(login)
    one, two = hosts(codex, served, provider, tmp_path, 2)
    done = one.codex("logout")
    assert done.returncode == 0, done.stderr
    assert not one.auth_file.exists()
    assert provider.revoked == []
    assert [row["fqdn"] for row in logs(served, "oauth.revoke")] == ["host0.example.net"]
    assert two.say_hi().returncode == 0
    assert provider.is_alive(login["tokens"]["refresh_token"])


@pytest.mark.parametrize("what", ["disabled", "rotated", "address"])
def test_what_codex_makes_of_a_refusal(
    codex: RealCodex, served: Fleet, provider: Provider, tmp_path: Path, what: str
) -> None:
    """It ends soon, and says that one is to log in; the file stays."""
    served.upload(provider.login())
    [one] = hosts(codex, served, provider, tmp_path, 1)
    one.expire()
    before = one.auth()
    if what == "disabled":
        served.cli("hosts", "disable", one.fqdn)
    elif what == "rotated":
        served.key(one.fqdn)
    else:
        served.execute("UPDATE hosts SET ip = '192.0.2.7'")
    done = one.say_hi()
    print(what, done.returncode, done.stderr[-1500:])
    assert done.returncode != 0
    assert one.auth() == before
    asked = [line for line in served.output if "POST /oauth/token" in line]
    assert len(asked) <= 4, asked
