"""A strict provider of logins, in this process: a refresh token that is used twice ends its login for good.

    provider = Provider(life=3600)
    login = provider.login()            # a document as `codex login` writes it
    provider.refreshes                  # how many refresh tokens were taken

`/oauth/token` and `/oauth/revoke` as OpenAI has them, `/login` in place of its pages, and `/v1/responses` with one
short message for a live access token. What the next calls of the token endpoint get is planned with `plan`.
"""

import contextlib
import itertools
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdxsync.base import clock
from cdxsync.security import pki
from tests.support.codex_upstream import USAGE
from tests.support.documents import unsigned
from tests.support.quiet_http import QuietHandler, QuietServer

CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
_MESSAGE = {"type": "message", "role": "assistant", "id": "m", "content": [{"type": "output_text", "text": "hi there"}]}
_OWNER = {
    "email": "a@example.net",
    "chatgpt_user_id": "u1",
    "chatgpt_account_id": "acc-1",
    "chatgpt_plan_type": "pro",
    "chatgpt_account_is_fedramp": False,
}


@dataclass
class Plan:
    """What a call gets instead of an answer, or before it.

    `taken` spends the token first. With `hold` it waits until `release` is set. `status` None hangs up.
    """

    status: int | None = 500
    body: str = '{"error": {"message": "planned"}}'
    headers: dict[str, str] = field(default_factory=dict)
    taken: bool = False
    passes: bool = False
    hold: bool = False
    times: int = 1


@dataclass(frozen=True)
class Refresh:
    """A refresh token that was taken: of which login, why, and how long its access token had to go, in seconds."""

    login: int
    reason: str
    left: float
    life: float


@dataclass(frozen=True)
class Ended:
    """A login that has ended for good, and how."""

    login: int
    account: str
    how: str


class _Server(QuietServer):
    request_queue_size = 128


class Provider:
    """The provider; `stop` ends it.

    With `grace`, in seconds, an access token that expired longer ago is refused. Without, expiry does not count.
    """

    def __init__(self, life: int = 3600, *, grace: float | None = None) -> None:
        self.life = life
        self.grace = grace
        self.taken: list[Refresh] = []
        self.ended: list[Ended] = []
        self.dead_requests: list[str] = []
        """What came with a token of a login that has ended: `login N: path`."""
        self.refreshes = 0
        self.calls = 0
        """Of the token endpoint, whatever they got."""
        self.asked: list[dict[str, Any]] = []
        self.planned: list[dict[str, Any]] = []
        """The bodies of calls of the token endpoint that got what was planned; `asked` has the others."""
        self.revoked: list[dict[str, Any]] = []
        """The bodies of revocations."""
        self.revoke_status = 200
        self.requests = 0
        self.bearers: list[str] = []
        """The tokens that came with requests to the model, in order; empty for none."""
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        """The requests to the model, each with its token."""
        self.also: set[str] = set()
        """Keys and tokens that the model takes as well."""
        self.refused_requests = 0
        self.refuse_requests = False
        self.reply: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None
        """What the model says to a request's body, where that is not None."""
        self.script: list[dict[str, Any]] = []
        """What the model says next in place of its message; the access token that asked ends with it."""
        self.rotates = True
        self.delay = 0.0
        self.entered, self.released = threading.Event(), threading.Event()
        self._numbers = itertools.count(1)
        self._logins: dict[str, int] = {}
        self._live: dict[int, str] = {}
        self._ended: dict[int, str] = {}
        self._accounts: dict[int, str] = {}
        self._expires: dict[int, tuple[float, float]] = {}
        self._access: dict[str, tuple[int, float]] = {}
        self._plans: list[Plan] = []
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"provider": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.token_url = f"{self.url}/oauth/token"

    def stop(self) -> None:
        """End it."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def speak_tls(self, folder: Path) -> Path:
        """Speak TLS as `localhost` from now on, by certificates that are made in a folder; returns their CA's file."""
        pki.create(folder, ["localhost"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_port}"
        self.token_url = f"{self.url}/oauth/token"
        return folder / "ca.pem"

    def environment(self) -> dict[str, str]:
        """The settings of a server that refreshes here."""
        return {"CDXSYNC_REFRESH": "server", "CDXSYNC_TOKEN_URL": self.token_url}

    def login(
        self, *, life: int | None = None, last_refresh: str = "", account: str = "acc-1", age: int = 0
    ) -> dict[str, Any]:
        """A new login, as `codex login` writes it; its access token lives `life` seconds from now, and is so old."""
        with self._lock:
            number = next(self._numbers)
            self._accounts[number] = account
            tokens = self._issue(number, life, age)
        return {
            "auth_mode": "chatgpt",
            "OPENAI_API_KEY": None,
            "tokens": {**tokens, "account_id": account},
            "last_refresh": last_refresh or clock.rfc3339(clock.Instant.of(clock.now())),
        }

    def plan(self, **plan: Any) -> None:
        """Plan what the next calls of the token endpoint get (`Plan`)."""
        self.entered.clear()
        self.released.clear()
        with self._lock:
            self._plans.append(Plan(**plan))

    @property
    def logins(self) -> list[str]:
        """All refresh tokens that were ever given."""
        with self._lock:
            return list(self._logins)

    def is_alive(self, refresh_token: str) -> bool:
        """Whether a refresh token is good."""
        with self._lock:
            return refresh_token in self._live.values() and self._logins[refresh_token] not in self._ended

    def end_access(self, access_token: str) -> None:
        """Take an access token no more, as after a login elsewhere."""
        with self._lock:
            self._access.pop(access_token)

    def left(self, access_token: str) -> float:
        """How many seconds an access token has to go."""
        with self._lock:
            return self._access[access_token][1] - time.time()

    def accounts(self) -> list[dict[str, Any]]:
        """The accounts of all logins, as `accounts/check` tells them."""
        with self._lock:
            names = sorted(set(self._accounts.values()))
        same = {"structure": "personal", "plan_type": "pro", "is_deactivated": False, "account_routing_override": "us"}
        return [
            {"id": name, "account_id": name, "name": name, "workspace_backend_origin": "https://chatgpt.com", **same}
            for name in names
        ]

    def _issue(self, number: int, life: int | None = None, age: int = 0) -> dict[str, str]:
        seed, account = next(self._numbers), self._accounts[number]
        seconds = (self.life if life is None else life) + age
        begun = int(time.time()) - age
        tokens = {
            "id_token": self._jwt(f"id{seed}", account, begun, seconds),
            "access_token": self._jwt(f"access{seed}", account, begun, seconds),
            "refresh_token": f"rt-{number}-{seed}",
        }
        self._logins[tokens["refresh_token"]] = number
        self._live[number] = tokens["refresh_token"]
        self._expires[number] = (begun + seconds, seconds)
        self._access[tokens["access_token"]] = (number, begun + seconds)
        return tokens

    def _end(self, number: int, how: str) -> None:
        if number not in self._ended:
            self._ended[number] = "refresh_token_invalidated"
            self.ended.append(Ended(number, self._accounts[number], how))

    def _jwt(self, seed: str, account_id: str, begun: int, life: int) -> str:
        user = "u" + account_id.removeprefix("acc-")
        account = {"chatgpt_plan_type": "pro", "chatgpt_account_id": account_id, "chatgpt_user_id": user}
        claims = {
            "iat": begun,
            "exp": begun + life,
            "jti": seed,
            "client_id": CLIENT_ID,
            "email": "a@example.net",
            "https://api.openai.com/auth": account,
        }
        return unsigned(claims)

    def take_plan(self) -> Plan | None:
        """The next plan, if there is one."""
        with self._lock:
            if not self._plans:
                return None
            plan = self._plans[0]
            plan.times -= 1
            if plan.times <= 0:
                self._plans.pop(0)
            return plan

    def exchange(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Take a refresh token; the status and the body of the answer."""
        token = str(body.get("refresh_token"))
        with self._lock:
            self.asked.append(body)
            if body.get("client_id") != CLIENT_ID or body.get("grant_type") != "refresh_token":
                return 400, {"error": {"code": "invalid_request", "message": "not as Codex asks"}}
            number = self._logins.get(token)
            if number is None:
                return 401, {"error": {"code": "refresh_token_invalidated", "message": f"unknown {token}"}}
            if number in self._ended:
                self.dead_requests.append(f"login {number}: /oauth/token")
                return 401, {"error": {"code": self._ended[number], "message": "has ended"}}
            if self._live[number] != token:
                self._end(number, "its refresh token was used again")
                return 401, {"error": {"code": "refresh_token_reused", "message": f"{token} was used"}}
            self.refreshes += 1
            expires, life = self._expires[number]
            self.taken.append(Refresh(number, str(body.get("refresh_reason")), expires - time.time(), life))
            tokens = self._issue(number)
            if not self.rotates:
                tokens.pop("refresh_token")
                self._live[number] = token
            return 200, tokens

    def revoke(self, body: dict[str, Any]) -> None:
        """End the login of a token."""
        token = str(body.get("token"))
        with self._lock:
            self.revoked.append(body)
            if token in self._logins and self.revoke_status == 200:
                self._end(self._logins[token], "it was revoked")

    def next_item(self, authorization: str, body: dict[str, Any]) -> dict[str, Any]:
        """What the model says to a request with this header and body."""
        if self.reply and (item := self.reply(body)):
            return item
        with self._lock:
            if not self.script:
                return _MESSAGE
            self._access.pop(authorization.removeprefix("Bearer "), None)
            return self.script.pop(0)

    def takes(self, authorization: str) -> bool:
        """Whether a request with this header is answered."""
        with self._lock:
            self.requests += 1
            self.bearers.append(authorization.removeprefix("Bearer "))
            if self.bearers[-1] in self.also:
                return True
            number, expires = self._access.get(authorization.removeprefix("Bearer "), (0, 0.0))
            if number in self._ended:
                self.dead_requests.append(f"login {number}: /v1/responses")
            over = self.grace is not None and time.time() > expires + self.grace
            good = not self.refuse_requests and number != 0 and not over
            self.refused_requests += not good
            return good


class _Handler(QuietHandler):
    protocol_version = "HTTP/1.1"
    provider: Provider

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.endswith("/wham/accounts/check"):
            # The full-screen program asks for this before it begins.
            self._send(200, json.dumps({"accounts": self.provider.accounts(), "account_ordering": []}).encode())
        elif path.endswith("/whoami"):
            # So is an access token, before it is used.
            self._send(200, json.dumps(_OWNER).encode())
        else:
            self._send(404, b'{"error": {"message": "not here"}}')

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(raw or b"{}")
        if self.path == "/oauth/token":
            self._token(body)
        elif self.path == "/oauth/revoke":
            self.provider.revoke(body)
            self._send(self.provider.revoke_status, b"{}")
        elif self.path == "/login":
            account = str(body["account"])
            self._send(200, json.dumps(self.provider.login(account=account, life=body.get("life"))).encode())
        elif self.path == "/v1/responses":
            self._respond(body)
        else:
            self._send(404, b'{"error": {"message": "not here"}}')

    def _token(self, body: dict[str, Any]) -> None:
        plan = self.provider.take_plan()
        self.provider.calls += 1
        answer = None
        if plan is None or plan.taken or plan.passes:
            answer = self.provider.exchange(body)
        if plan is not None:
            self.provider.planned.append(body)
            self.provider.entered.set()
            if plan.hold:
                self.provider.released.wait(60)
            if not plan.passes:
                if plan.status is None:
                    self.close_connection = True
                    return
                self._send(plan.status, plan.body.encode(), plan.headers)
                return
        assert answer is not None
        time.sleep(self.provider.delay)
        self._send(answer[0], json.dumps(answer[1]).encode())

    def _respond(self, body: dict[str, Any]) -> None:
        authorization = self.headers.get("Authorization", "")
        self.provider.bodies.append((authorization.removeprefix("Bearer "), body))
        if not self.provider.takes(authorization):
            self._send(401, b'{"error": {"message": "not taken", "code": "token_expired"}}')
            return
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": {"id": "r"}},
            {"type": "response.output_item.done", "item": self.provider.next_item(authorization, body)},
            {"type": "response.completed", "response": {"id": "r", "usage": USAGE}},
        ]
        text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        self._send(200, text.encode(), {"Content-Type": "text/event-stream"})


@contextlib.contextmanager
def running_provider(life: int = 3600, *, grace: float | None = None) -> Iterator[Provider]:
    """A provider, stopped at the end."""
    provider = Provider(life, grace=grace)
    try:
        yield provider
    finally:
        provider.stop()
