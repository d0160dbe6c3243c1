"""The baseline: a bare Cheroot + Bottle server that reads the body and returns a constant; run as a program."""

import argparse
import sys
from typing import Any

from bottle import Bottle, HTTPResponse, request
from cheroot.ssl.builtin import BuiltinSSLAdapter
from cheroot.wsgi import Server


def application(size: int) -> Bottle:
    """Answers every request with `size` bytes of JSON."""
    app = Bottle()
    body = b'{"status":"ok","data":"' + b"x" * max(0, size - 25) + b'"}'

    def constant(path: str) -> Any:
        request.environ["wsgi.input"].read(int(request.environ.get("CONTENT_LENGTH") or 0))
        return HTTPResponse(body, 200, {"Content-Type": "application/json", "Cache-Control": "no-store"})

    app.route("/<path:path>", method=["GET", "POST"], callback=constant)
    return app


def main() -> None:
    """Serve on a free port, which is printed, until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    given = parser.parse_args()
    server = Server(
        ("127.0.0.1", 0),
        application(given.size),
        numthreads=given.threads,
        max=given.threads,
        request_queue_size=256,
    )
    server.ssl_adapter = BuiltinSSLAdapter(given.certificate, given.key)
    server.keep_alive_conn_limit = 1000
    server.prepare()
    print(server.bind_addr[1], flush=True)
    try:
        server.serve()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
