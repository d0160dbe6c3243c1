#!/usr/bin/env python3
"""A local stand-in for the services that the real Codex CLI and cdxsync call, for tests without a network.

    python3 codex_upstream.py PORT          # binds 127.0.0.1 only; port 0 takes a free one and prints it

POST /v1/responses        one assistant message, server-sent events, fixed token usage
POST /oauth/token         rotates the refresh token: each is good once; a used one gets 401 refresh_token_reused
GET  /wham/usage          a ChatGPT quota snapshot
GET  /repos/openai/codex/releases/latest   a GitHub release
GET  /pricing.json        prices per 1,000 tokens
GET  /log                 what was called so far, as a JSON list
POST /fail {"path": "/oauth/token", "status": 500, "times": 2, "delay": 0.0}   makes the next calls of a path fail
"""

import base64
import http.server
import json
import sys
import threading
import time

LOCK, LOG, FAIL, LIVE = threading.Lock(), [], {}, {"rt-old"}


def jwt(lifetime=3600):
    """An unsigned token of the shape that Codex parses, expiring `lifetime` seconds from now."""

    def part(o):
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


def window(pct, secs):
    return {
        "used_percent": pct,
        "limit_window_seconds": secs,
        "reset_after_seconds": secs // 2,
        "reset_at": int(time.time()) + secs // 2,
    }


GETS = {
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

    def log_message(self, *args):
        pass

    def send(self, status, body, kind="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def planned_failure(self, path):
        with LOCK:
            plan = FAIL.get(path)
            if not plan:
                return False
            plan["times"] -= 1
            if plan["times"] <= 0:
                FAIL.pop(path)
        time.sleep(plan.get("delay", 0))
        if plan.get("status"):
            self.send(plan["status"], {"error": {"message": "planned failure"}})
            return True
        return False

    def do_GET(self):
        path = self.path.split("?")[0]
        if path != "/log":
            LOG.append(["GET", path])
        if self.planned_failure(path):
            return
        self.send(200, GETS[path]()) if path in GETS else self.send(404, {"error": {"message": "not here"}})

    def do_POST(self):
        path = self.path.split("?")[0]
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if path == "/fail":
            with LOCK:
                FAIL[body["path"]] = body | {"times": body.get("times", 1)}
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
