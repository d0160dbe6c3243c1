"""A server on loopback that answers as a test says, where the real one does not give an answer, and counts calls."""

import functools
import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from cdxsync.security import signing
from cdxsync.security.signing import Content
from tests.support.quiet_http import QuietHandler, QuietServer

Answer = tuple[int, bytes]


@functools.cache
def stub_keys() -> Content:
    """The signing keys of all stubs."""
    return signing.first()


@functools.cache
def _opened() -> rsa.RSAPrivateKey:
    key = signing.opened(stub_keys().keys[0])
    assert key is not None
    return key


def signature(text: bytes) -> str:
    """A signature as servers send them, by the stub's key."""
    return f"{stub_keys().ids[0]}:{signing.signature(_opened(), text)}"


def with_stub_keys(env: Mapping[str, str]) -> dict[str, str]:
    """An environment for a fleet's `cdx`, which is given the keys of a stub where that is its server."""
    if "CODEX_SYNC_SIGNING_KEYS" in env or not env.get("CODEX_SYNC_BASE_URL", "").startswith("http://127.0.0.1:"):
        return dict(env)
    return {**env, "CODEX_SYNC_SIGNING_KEYS": stub_keys().public}


def signed(body: bytes, sequence: int) -> bytes:
    """An answer with a list of prompts, signed by the stub; other answers as they are."""
    answer = json.loads(body)
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, dict) or not isinstance(data.get("commands"), list):
        return body
    listed = [(command["filename"], command["sha256"]) for command in data["commands"]]
    data |= {"sequence": sequence, "signature": signature(signing.prompts_text(sequence, listed))}
    return json.dumps(answer).encode()


class StubServer:
    """`answers` by method and path come first, then `otherwise`. An answer is (status, body), or a function of the
    request's body that makes one. `redirects` by path, to an address, come before all."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.answers: dict[tuple[str, str], Answer | Callable[[bytes], Answer]] = {}
        self.redirects: dict[str, str] = {}
        self.otherwise: Answer = (404, b'{"status":"error","message":"Route not found"}')
        self.calls: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.connections: set[Any] = set()
        self.signs = True
        sequences = itertools.count()
        stub = self

        class Handler(QuietHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                stub.calls.append((self.command, self.path))
                stub.headers.append(dict(self.headers.items()))
                stub.bodies.append(body)
                stub.connections.add(self.client_address)
                found = stub.answers.get((self.command, self.path), stub.otherwise)
                status, text = found(body) if callable(found) else found
                if stub.signs and status == 200 and self.command == "GET" and self.path.endswith("/slash-commands"):
                    text = signed(text, next(sequences))
                target = stub.redirects.get(self.path)
                self.send_response(status if target is None else 302)
                if target is not None:
                    self.send_header("Location", target)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = answer

        self.server = QuietServer((host, 0), Handler)
        self.url = f"http://{host}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method: str, path: str, data: Any) -> None:
        """Answer a call with `data` in the usual envelope."""
        self.answers[method, path] = (200, json.dumps({"status": "ok", "data": data}).encode())

    def valid(self, **more: Any) -> None:
        """Say that every host's auth.json is in step, and that there are no prompts."""
        self.answer("POST", "/auth", {"status": "valid", "api_calls": 1, **more})
        self.answer("GET", "/slash-commands", {"commands": []})

    def serves_wrapper(self, body: bytes, version: str, *, sha256: str | None = None) -> None:
        """Offer a cdx."""
        sha256 = sha256 or hashlib.sha256(body).hexdigest()
        self.valid(versions={"wrapper_version": version, "wrapper_sha256": sha256, "client_version": None})
        self.answers["GET", "/wrapper/download"] = (200, body)
