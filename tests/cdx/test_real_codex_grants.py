"""The real Codex with grants for refresh tokens, and this server as its token endpoint."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.calls import logs
from tests.support.codex_home import CodexHome
from tests.support.documents import jwt
from tests.support.fleet import Fleet
from tests.support.grants import fetch
from tests.support.provider import Provider
from tests.support.real_codex import RealCodex

pytestmark = pytest.mark.codex


class Host(CodexHome):
    """A home of Codex with a document as the server gives it to a host that accepts a grant."""

    def __init__(self, codex: RealCodex, fleet: Fleet, provider: Provider, folder: Path, fqdn: str) -> None:
        super().__init__(codex, folder / fqdn, provider)
        self.fqdn = fqdn
        self.env |= {
            "CODEX_REFRESH_TOKEN_URL_OVERRIDE": f"{fleet.url}/oauth/token",
            "CODEX_CA_CERTIFICATE": str(fleet.ca_file),
        }
        with fleet.client(fleet.key(fqdn)) as host:
            self.given: dict[str, Any] = fetch(host)["auth"]
        self.put_auth(self.given)

    def expire(self) -> None:
        """As after a token life: the host has an access token that is over."""
        tokens = {**self.given["tokens"], "access_token": jwt("expired", expires=1_700_000_000)}
        self.put_auth({name: value for name, value in self.given.items() if name != "auths"} | {"tokens": tokens})


def test_codex_logs_out_and_nothing_ends(codex: RealCodex, served: Fleet, provider: Provider, tmp_path: Path) -> None:
    login = provider.login()
    served.upload(login)
    one, two = (Host(codex, served, provider, tmp_path, f"host{number}.example.net") for number in range(2))
    done = one.run("logout")
    assert done.returncode == 0, done.stderr
    assert not one.auth_file.exists()
    assert provider.revoked == []
    assert [row["fqdn"] for row in logs(served, "oauth.revoke")] == ["host0.example.net"]
    assert two.exec().returncode == 0
    assert provider.is_alive(login["tokens"]["refresh_token"])


@pytest.mark.parametrize("what", ["disabled", "rotated", "address"])
def test_what_codex_makes_of_a_refusal(
    codex: RealCodex, served: Fleet, provider: Provider, tmp_path: Path, what: str
) -> None:
    """It ends soon, and says that one is to log in; the file stays."""
    served.upload(provider.login())
    one = Host(codex, served, provider, tmp_path, "host0.example.net")
    one.expire()
    before = one.auth()
    if what == "disabled":
        served.cli("hosts", "disable", one.fqdn)
    elif what == "rotated":
        served.key(one.fqdn)
    else:
        served.execute("UPDATE hosts SET ip = '192.0.2.7'")
    done = one.exec()
    assert done.returncode != 0
    assert one.auth() == before
    asked = [line for line in served.output if "POST /oauth/token" in line]
    assert len(asked) <= 4, asked
