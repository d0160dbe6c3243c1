#!/usr/bin/env python3
"""A stand-in for Codex that starts fast: what the real one does with auth.json, and nothing else.

    codex --version | exec … | login [--device-auth | --with-api-key | --with-access-token | status] | logout

`exec` asks the provider for a message with the bearer of `$CODEX_HOME/auth.json`. It refreshes an access token that has
under STANDIN_MARGIN seconds to go, and one that was refused. Before it does, it reads the file again: another token of
the same account is used without a refresh. A dead login ends it with 1. `login` and `logout` revoke the refresh token
of the file and delete it before anything else, as Codex does.

STANDIN_PROVIDER is the provider's address. Codex's own variables count: CODEX_HOME, CODEX_REFRESH_TOKEN_URL_OVERRIDE,
CODEX_REVOKE_TOKEN_URL_OVERRIDE, CODEX_CA_CERTIFICATE.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = "codex-cli 0.171.0"
CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
PROVIDER = os.environ.get("STANDIN_PROVIDER", "")
MARGIN = float(os.environ.get("STANDIN_MARGIN", "300"))
TURNS = int(os.environ.get("STANDIN_TURNS", "1"))
"""How many messages `exec` asks for, STANDIN_PAUSE seconds apart."""
PAUSE = float(os.environ.get("STANDIN_PAUSE", "0"))
CLOCK_AHEAD = float(os.environ.get("STANDIN_CLOCK_AHEAD", "0"))
"""Seconds by which the dates that it writes are wrong."""
GIVES_UP = bool(os.environ.get("STANDIN_GIVES_UP"))
"""Set: the person closes the page of the new login."""
ACCOUNT = os.environ.get("STANDIN_ACCOUNT", "acc-1")
LIFE = os.environ.get("STANDIN_LIFE", "")
"""Whose login a person makes, and how many seconds its access tokens live; empty is the provider's choice."""
TRIES = 14
RECOVERIES = 6
HOME = os.environ.get("CODEX_HOME") or os.path.expanduser("~/.codex")
FILE = os.path.join(HOME, "auth.json")


class Stop(Exception):
    """Ends the program with 1; the text says why."""


class Dead(Stop):
    """The token endpoint says that the login has ended."""


class Away(Stop):
    """The token endpoint cannot answer now."""


def call(url: str, body: dict[str, Any], bearer: str = "") -> tuple[int, dict[str, Any]]:
    """POST JSON; returns (status, object). Raises OSError without an answer."""
    scheme, _, rest = url.partition("://")
    place, _, path = rest.partition("/")
    host, _, port = place.rpartition(":") if ":" in place.rpartition("]")[2] else (place, "", "")
    host = host.strip("[]")
    data = json.dumps(body).encode()
    lines = [f"POST /{path} HTTP/1.1", f"Host: {place}", "Connection: close", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(data)}", "User-Agent: codex-stand-in"]
    lines += [f"Authorization: Bearer {bearer}"] if bearer else []
    connection = socket.create_connection((host, int(port or (443 if scheme == "https" else 80))), 30)
    try:
        if scheme == "https":
            connection = secured(connection, host)
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + data)
        received = b""
        while block := connection.recv(65536):
            received += block
    finally:
        connection.close()
    head, _, text = received.partition(b"\r\n\r\n")
    if len(head.split()) < 2:
        raise OSError("no answer")
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {}
    return int(head.split()[1]), answer if isinstance(answer, dict) else {}


def secured(connection: socket.socket, host: str) -> socket.socket:
    """TLS. The real one adds the file to the system's roots, which take long to load and have no part in tests."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    own = os.environ.get("CODEX_CA_CERTIFICATE")
    if own:
        context.load_verify_locations(own)
    else:
        context.load_default_certs()
    return context.wrap_socket(connection, server_hostname=host)


def read() -> dict[str, Any] | None:
    """The content of auth.json, None when there is none that could be used.

    Another Codex may be just writing it, and so an unreadable one is read again.
    """
    for _ in range(5):
        try:
            with open(FILE, "rb") as file:
                found = json.loads(file.read())
        except OSError:
            return None
        except ValueError:
            time.sleep(0.01)
        else:
            return found if isinstance(found, dict) else None
    return None


def write(content: dict[str, Any]) -> None:
    """Write auth.json as Codex does: over the old one, indented, private."""
    descriptor = os.open(FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(content, indent=2))


def delete() -> None:
    """Remove auth.json."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(FILE)


def tokens_of(content: dict[str, Any] | None) -> dict[str, Any]:
    """The tokens of a ChatGPT login; empty for another one."""
    found = (content or {}).get("tokens")
    return found if isinstance(found, dict) else {}


def bearer_of(content: dict[str, Any]) -> str:
    """What goes with a request; a ChatGPT login without the member `refresh_token` has none."""
    tokens = tokens_of(content)
    if tokens:
        return str(tokens.get("access_token") or "") if "refresh_token" in tokens else ""
    return str(content.get("personal_access_token") or content.get("OPENAI_API_KEY") or "")


def account_of(content: dict[str, Any]) -> object:
    """What must be the same after the file was read again."""
    tokens = tokens_of(content)
    return tokens.get("account_id") if tokens else bearer_of(content)


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT; empty for another token."""
    parts = token.split(".")
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))) if len(parts) == 3 else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def date() -> str:
    """Now, as Codex writes it: UTC, nine digits."""
    whole, nanoseconds = divmod(time.time_ns() + int(CLOCK_AHEAD * 1e9), 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{nanoseconds:09}Z"


def token_url() -> str:
    """Where tokens are refreshed."""
    return os.environ.get("CODEX_REFRESH_TOKEN_URL_OVERRIDE") or PROVIDER + "/oauth/token"


def revoke_url() -> str:
    """Where they are revoked: at the same origin."""
    scheme, _, rest = token_url().partition("://")
    own = os.environ.get("CODEX_REVOKE_TOKEN_URL_OVERRIDE")
    return own or f"{scheme}://{rest.partition('/')[0]}/oauth/revoke"


class Session:
    """A run of `exec`, which holds what it has read of auth.json."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    def ask(self) -> None:
        """Ask for one message. Raises Stop."""
        expires = claims_of(bearer_of(self.content)).get("exp")
        if tokens_of(self.content).get("refresh_token") and expires is not None and expires - time.time() < MARGIN:
            try:
                self.renew("proactive_expiry")
            except (Dead, Away) as error:
                print(f"stand-in: {error}; going on with the old access token", file=sys.stderr)
        for _ in range(RECOVERIES):
            status, _answer = call(PROVIDER + "/v1/responses", {"input": "say hi"}, bearer_of(self.content))
            if status == 200:
                return
            if status != 401:
                raise Stop(f"the API answered {status}")
            if not tokens_of(self.content).get("refresh_token"):
                break
            self.renew("unauthorized_recovery")
        raise Stop("unauthorized")

    def renew(self, reason: str) -> None:
        """Have another access token: the one of the file, or one from the token endpoint. Raises Stop."""
        again = read()
        if again is None or account_of(again) != account_of(self.content):
            raise Stop("the file is gone, or another account's")
        if bearer_of(again) != bearer_of(self.content):
            self.content = again
            return
        asked = {
            "client_id": CLIENT_ID,
            "grant_type": "refresh_token",
            "refresh_token": tokens_of(again)["refresh_token"],
            "refresh_reason": reason,
        }
        self.take(again, exchange(asked))

    def take(self, before: dict[str, Any], answer: dict[str, Any]) -> None:
        """Keep the tokens of an answer; what it leaves out stays."""
        given = {name: answer[name] for name in ("id_token", "access_token", "refresh_token") if answer.get(name)}
        self.content = {
            "auth_mode": before.get("auth_mode"),
            "OPENAI_API_KEY": before.get("OPENAI_API_KEY"),
            "tokens": dict(tokens_of(before), **given),
            "last_refresh": date(),
        }
        write(self.content)


def exchange(asked: dict[str, Any]) -> dict[str, Any]:
    """What the token endpoint gives. Raises Dead or Away."""
    said = "no answer"
    for turn in range(TRIES):
        if turn:
            time.sleep(min(0.05 * 2**turn, 0.5))
        try:
            status, answer = call(token_url(), asked)
        except OSError as problem:
            said = type(problem).__name__
            continue
        error = answer.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        if status == 200 and answer.get("access_token"):
            return answer
        if 400 <= status < 500 and status != 429:
            raise Dead(f"dead login: {code}")
        said = f"{status} {code}"
    raise Away(f"the token endpoint is away: {said}")


def revoke() -> None:
    """Log out, as both `logout` and `login` begin: the token of the file ends, and the file is deleted."""
    token = tokens_of(read()).get("refresh_token")
    if token:
        with contextlib.suppress(OSError):
            call(revoke_url(), {"token": token, "token_type_hint": "refresh_token", "client_id": CLIENT_ID})
    delete()


def log_in(arguments: list[str]) -> None:
    """`login` in its forms."""
    if "status" in arguments:
        print("Logged in" if read() else "Not logged in")
    elif "--with-api-key" in arguments:
        write({"auth_mode": "apikey", "OPENAI_API_KEY": sys.stdin.read().strip()})
    elif "--with-access-token" in arguments:
        write({"OPENAI_API_KEY": None, "personal_access_token": sys.stdin.read().strip()})
    else:
        revoke()
        time.sleep(PAUSE)
        if GIVES_UP:
            raise Stop("the login was given up")
        wanted = {"account": ACCOUNT, "life": int(LIFE) if LIFE else None}
        write(dict(call(PROVIDER + "/login", wanted)[1], last_refresh=date()))
        print("Successfully logged in")


def execute() -> None:
    """`exec`: asks for messages, and prints the last."""
    content = read()
    if content is None:
        raise Stop("not logged in")
    session = Session(content)
    for turn in range(TURNS):
        time.sleep(PAUSE if turn else 0)
        session.ask()
    print("hi there")


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    command = arguments[0] if arguments else ""
    try:
        if command == "--version":
            print(VERSION)
        elif command == "login":
            log_in(arguments[1:])
        elif command == "logout":
            revoke()
        else:
            execute()
    except (Stop, OSError) as error:
        print(f"stand-in: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
