#!/usr/bin/env python3
"""A local stand-in for the services that the real Codex CLI and cdxsync call, for tests without a network.

    python3 codex_upstream.py PORT          # binds 127.0.0.1 only; port 0 takes a free one and prints it

POST /v1/responses        one assistant message, server-sent events, fixed token usage
POST /oauth/token         rotates the refresh token: each is good once; a used one gets 401 refresh_token_reused
GET  /wham/usage          a ChatGPT quota snapshot
GET  /repos/openai/codex/releases/latest   a GitHub release
GET  /pricing.json        prices per 1,000 tokens
POST /verify              a remote runner: takes any document that comes with the secret
GET  /log                 what was called so far, as a JSON list
POST /fail {"path": "/oauth/token", "status": 500, "times": 2, "delay": 0.0}   makes the next calls of a path fail
     also "headers" {…}, "body" text and "repeat" how many times that is sent; "hold": true waits for POST /release
POST /release             lets the calls that wait go on, and ends all planned failures
"""

import base64
import http.server
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

LOCK = threading.Lock()
LOG: list[list[str]] = []
FAIL: dict[str, dict[str, Any]] = {}
LIVE = {"rt-old"}
RELEASED = threading.Event()
RUNNER_SECRET = "runner-secret"
RELEASE_ETAG = '"release-1"'


def jwt(lifetime: int = 3600) -> str:
    """An unsigned token of the shape that Codex parses, expiring `lifetime` seconds from now."""

    def part(o: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(o).encode()).decode().rstrip("=")

    claims = {
        "exp": int(time.time()) + lifetime,
        "email": "a@example.net",
        "https://api.openai.com/auth": {
            "chatgpt_plan_type": "pro",
            "chatgpt_account_id": "acc-1",
            "chatgpt_user_id": "u1",
        },
    }
    return f"{part({'alg': 'none'})}.{part(claims)}.c2ln"


USAGE = {
    "input_tokens": 4320,
    "input_tokens_details": {"cached_tokens": 120},
    "output_tokens": 560,
    "output_tokens_details": {"reasoning_tokens": 160},
    "total_tokens": 4880,
}
"""What the model says that each answer has used."""


def window(pct: int, secs: int) -> dict[str, int]:
    return {
        "used_percent": pct,
        "limit_window_seconds": secs,
        "reset_after_seconds": secs // 2,
        "reset_at": int(time.time()) + secs // 2,
    }


GETS: dict[str, Callable[[], Any]] = {
    "/wham/usage": lambda: {
        "plan_type": "pro",
        "rate_limit": {
            "allowed": True,
            "limit_reached": False,
            "primary_window": window(37, 18000),
            "secondary_window": window(81, 604800),
        },
        "credits": {"has_credits": False, "unlimited": False, "balance": "0"},
    },
    "/repos/openai/codex/releases/latest": lambda: {
        "tag_name": "rust-v0.169.0",
        "name": "0.169.0",
        "prerelease": False,
        "assets": [],
    },
    "/pricing.json": lambda: {
        "gpt-5.1": {"input_per_1k": 0.00125, "output_per_1k": 0.01, "cached_per_1k": 0.000125, "currency": "USD"}
    },
    "/v1/models": lambda: {"models": [], "data": []},
    "/log": lambda: LOG,
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def send(
        self, status: int, body: Any, kind: str = "application/json", headers: Mapping[str, str] | None = None
    ) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            self.close_connection = True  # the client has had enough

    def planned_failure(self, path: str) -> bool:
        with LOCK:
            plan = FAIL.get(path)
            if not plan:
                return False
            plan["times"] -= 1
            if plan["times"] <= 0:
                FAIL.pop(path)
        if plan.get("hold"):
            RELEASED.wait(60)
        time.sleep(plan.get("delay", 0))
        if plan.get("status"):
            text = plan.get("body", '{"error": {"message": "planned failure"}}') * plan.get("repeat", 1)
            self.send(plan["status"], text.encode(), headers=plan.get("headers", {}))
            return True
        return False

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path != "/log":
            LOG.append(["GET", path])
        if self.planned_failure(path):
            return
        if path.endswith("/releases/latest"):
            if self.headers.get("If-None-Match") == RELEASE_ETAG:
                return self.send(304, b"")
            return self.send(200, GETS[path](), headers={"ETag": RELEASE_ETAG})
        self.send(200, GETS[path]()) if path in GETS else self.send(404, {"error": {"message": "not here"}})

    def do_POST(self) -> None:
        path = self.path.split("?")[0]
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if path == "/fail":
            RELEASED.clear()
            with LOCK:
                FAIL[body["path"]] = body | {"times": body.get("times", 1)}
            return self.send(200, {})
        if path == "/release":
            with LOCK:
                FAIL.clear()
            RELEASED.set()
            return self.send(200, {})
        LOG.append(["POST", path])
        if self.planned_failure(path):
            return
        if path == "/v1/responses":
            events = [
                {"type": "response.created", "response": {"id": "resp_1"}},
                {
                    "type": "response.output_item.done",
                    "item": {
                        "type": "message",
                        "role": "assistant",
                        "id": "msg_1",
                        "content": [{"type": "output_text", "text": "hi there"}],
                    },
                },
                {"type": "response.completed", "response": {"id": "resp_1", "usage": USAGE}},
            ]
            self.send(
                200,
                "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode(),
                "text/event-stream",
            )
        elif path == "/verify":
            known = self.headers.get("Authorization") == f"Bearer {RUNNER_SECRET}"
            if known and isinstance(body.get("auth_json"), dict) and "api_key" not in body:
                return self.send(200, {"status": "ok", "latency_ms": 5, "wrapper_version": "unknown"})
            self.send(401 if not known else 422, {"detail": "not taken"})
        elif path == "/oauth/token":
            with LOCK:
                if body.get("refresh_token") not in LIVE:
                    return self.send(401, {"error": {"code": "refresh_token_reused", "message": "already used"}})
                fresh = f"rt-{time.time_ns()}"
                LIVE.clear()
                LIVE.add(fresh)
            self.send(200, {"id_token": jwt(), "access_token": jwt(), "refresh_token": fresh})
        else:
            self.send(404, {"error": {"message": "not here"}})


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
