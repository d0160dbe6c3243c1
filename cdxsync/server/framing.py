"""The framing of requests (RFC 9112, 6.3): whatever a proxy in front may read in another way is refused."""

import io
import json
import logging
import re
import secrets
import sys
from typing import Any

from cdxsync.base.errors import code_of_status
from cdxsync.server.cheroot_internals import ChunkedBody, HTTPRequest, KnownLengthRFile

MAX_HEADER_BYTES = 32 * 1024
END_OF_HEAD = re.compile(rb"\r\n\r\n|(?<!\r)\n")  # or a line that the parser will not take
_CHUNK_BYTES = 64 * 1024
MAX_CHUNKS = 16 * 1024
"""Of a body. A client chooses their number, and each costs some time: senders of files take chunks of some KiB."""
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*+)\r\n")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;[^\r\n]*)?\r\n")
_log = logging.getLogger("cdxsync.server")


class _Chunks(ChunkedBody):
    """A chunked body, read piece by piece: Cheroot's own takes a whole chunk into memory, however large."""

    _left = 0
    _count = 0

    def read(self, size: int | None = None) -> bytes:
        """Up to `size` bytes, or the whole body. Raises ValueError when the framing is broken."""
        # Cheroot's own adds up the pieces one by one, which takes quadratic time.
        parts, left = [], sys.maxsize if size is None else size
        while left > 0:
            if not self.buffer:
                self.fetch()
                if not self.buffer:
                    break
            part, self.buffer = self.buffer[:left], self.buffer[left:]
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def fetch(self) -> None:
        """Read a piece. Raises ValueError when the framing is broken."""
        if self.closed:
            return
        if not self._left:
            self._count += 1
            if self._count > MAX_CHUNKS:
                raise ValueError(f"there are more than {MAX_CHUNKS} chunks")
            match = _CHUNK.fullmatch(self.rfile.readline(256))
            if not match:
                raise ValueError("the size of a chunk is malformed")
            self._left = int(match[1], 16)
            if not self._left:
                self.closed = True
                return
        data = self.rfile.read(min(self._left, _CHUNK_BYTES))
        self.buffer += data
        self._left -= len(data)
        if not data or (not self._left and self.rfile.read(2) != b"\r\n"):
            raise ValueError("a chunk does not end where it should")


class Request(HTTPRequest):
    """A request that can be read in one way only."""

    method = b""

    def parse_request(self) -> None:
        """Read the head, which the connection has collected: from memory, not line by line from the socket."""
        head = self.conn.take_head()
        self.rfile = io.BytesIO(head)
        if len(head) > MAX_HEADER_BYTES and b"\n" not in head[:MAX_HEADER_BYTES]:
            self.simple_response("414 Request-URI Too Long", "The request line is too long")
        elif self.read_request_line():
            if len(head) > MAX_HEADER_BYTES:
                self.simple_response("413 Request Entity Too Large", f"The headers exceed {MAX_HEADER_BYTES} bytes")
            else:
                self.ready = self.read_request_headers()

    def read_request_line(self) -> bool:
        """Read the request line. Cheroot lets some malformed ones through, and takes some for its own failure."""
        try:
            if not super().read_request_line():
                return False
        except ValueError:
            self.simple_response("400 Bad Request", "Malformed Request-URI")
            return False
        if re.search(rb"[\x00-\x20\x7f]", self.uri):
            self.simple_response("400 Bad Request", "Malformed Request-URI")
            return False
        return True

    def header_reader(self, rfile: Any, headers: dict[bytes, bytes]) -> None:
        """Read the headers. ValueError, which Cheroot answers with 400, for what can be read in two ways.

        Headers with an underscore in their name are left out: `X_Forwarded_For` would become the same WSGI name as
        `X-Forwarded-For`, past a proxy that strips the latter. (Cheroot 11.1's own DropUnderscoreHeaderReader fails
        on every header: it looks for a text in bytes.)
        """
        found: dict[bytes, list[bytes]] = {}
        while (line := rfile.readline()) != b"\r\n":
            match = _FIELD.fullmatch(line)
            if not match:  # among others a folded line, and a blank before the colon
                raise ValueError("A header line is malformed")
            name, value = match[1].title(), match[2].strip(b" \t")
            if b"_" in name:
                continue
            if name in found and name in (b"Content-Length", b"Transfer-Encoding", b"Host"):
                raise ValueError(f"The header {name.decode()} is repeated")
            found.setdefault(name, []).append(value)
        headers |= {name: (b"; " if name == b"Cookie" else b", ").join(values) for name, values in found.items()}
        length, coding = headers.get(b"Content-Length"), headers.get(b"Transfer-Encoding")
        if length is not None and (coding is not None or not length.isdigit()):
            raise ValueError("The length of the body is ambiguous")
        if coding is not None:
            codings = [item.strip().lower() for item in coding.split(b",")]
            # HTTP/1.0 has no chunks: Cheroot would read the body as further requests.
            if self.response_protocol != "HTTP/1.1" or b"" in codings or codings.count(b"chunked") > 1:
                raise ValueError("The Transfer-Encoding is ambiguous")

    def read_request_headers(self) -> bool:
        """Read the headers. A connection ends with a chunked body, so what was left of it is never a request."""
        if not super().read_request_headers():
            return False
        options = [item.strip().lower() for item in self.inheaders.get(b"Connection", b"").split(b",")]
        self.close_connection = self.close_connection or self.chunked_read or b"close" in options
        return True

    def respond(self) -> None:
        """Answer through the application."""
        if self.chunked_read:
            self.rfile = _Chunks(self.conn.rfile, 0)
        else:
            self.rfile = KnownLengthRFile(self.conn.rfile, int(self.inheaders.get(b"Content-Length", b"0")))
        self.server.gateway(self).respond()
        self.ensure_headers_sent()
        if self.chunked_write:
            self.conn.wfile.write(b"0\r\n\r\n")
        self.conn.wfile.flush()
        self.conn.answered_early = self._unread_body()

    def _unread_body(self) -> bool:
        return self.chunked_read or self.rfile.remaining > 0  # of chunks, the trailer may still come

    def send_headers(self) -> None:
        """Send the headers. A body that is still to come ends the connection: Cheroot would take it into memory."""
        if not self.chunked_read and self.rfile.remaining > self.conn.rfile.buffered():
            self.close_connection = True
        self.conn.wfile.held = True
        try:
            super().send_headers()
        finally:
            self.conn.wfile.held = False

    def write(self, chunk: bytes) -> None:
        """Send a part of the body, which HEAD has none of."""
        if self.method != b"HEAD":
            super().write(chunk)

    def simple_response(self, status: Any, msg: str = "") -> None:
        """Answer for the server itself, before the application sees the request; the connection ends with it."""
        self.close_connection = True
        self.sent_headers = True
        self.conn.answered_early = True
        text, request_id = msg or str(status).partition(" ")[2], secrets.token_hex(8)
        number = int(str(status)[:3])
        self.server.on_refusal(self.conn.remote_addr, number, request_id)
        error = {"status": "error", "code": code_of_status(number), "message": text, "request_id": request_id}
        body = json.dumps(error).encode()
        head = (
            f"{self.server.protocol} {status}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        try:
            self.conn.wfile.write(head.encode("latin-1") + (b"" if self.method == b"HEAD" else body))
        except OSError as problem:
            _log.debug("%s to %s was not taken: %s", status, self.conn.remote_addr, problem)
