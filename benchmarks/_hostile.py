"""Hostile inputs: for each reader of what hosts send, texts of any length that were chosen to cost most."""

import contextlib
import io
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from bottle import request

from benchmarks import _servers
from cdxsync.api import bodies, conditional
from cdxsync.auth import documents
from cdxsync.base import clock, jsontext, texts
from cdxsync.base.errors import CdxsyncError
from cdxsync.hosts import installers
from cdxsync.prompts import catalog
from cdxsync.security import addresses
from cdxsync.server import framing, streams
from cdxsync.usage import entries

_AT = datetime(2026, 11, 25, tzinfo=UTC)
_TOKEN = "a-token-0123456789abcdefghijklmnop"
_DOCUMENT = f'{{"last_refresh":"2026-01-01T00:00:00Z","OPENAI_API_KEY":"{_TOKEN}","x":'


@dataclass(frozen=True)
class Case:
    """A reader, and what makes an input of about so many bytes for it; `size` is the smallest one to try."""

    make: Callable[[int], Any]
    read: Callable[[Any], object]
    size: int

    def seconds(self, size: int) -> float:
        """Processor time of one reading."""
        given = self.make(size)
        begun = time.process_time()
        with contextlib.suppress(CdxsyncError, ValueError):  # most are refused
            self.read(given)
        return time.process_time() - begun


def _document(body: bytes) -> object:
    found = documents.canonicalise(jsontext.decode(body), at=_AT, token_min_length=24)
    return documents.names_of(found.content)


def _usage(line: str) -> object:
    return entries.read_body({"usages": [{"line": line}]})


def _usages(body: bytes) -> object:
    return entries.read_body(jsontext.decode(body))


def _prompt(text: str) -> object:
    return catalog.read_prompt({"filename": "a.md", "prompt": text}, 1 << 24)


def _head(head: bytes) -> object:
    """A request's head, as it came in one piece."""
    parsed: dict[bytes, bytes] = {}
    given = SimpleNamespace(response_protocol="HTTP/1.1")
    framing.Request.header_reader(given, io.BytesIO(head), parsed)  # type: ignore[arg-type]
    return parsed


def _slowly(head: bytes) -> object:
    """A request's head, byte by byte."""
    reader = _reader(b"")
    for place in range(len(head)):
        reader.feed(head[place : place + 1])
        if reader.holds(framing.END_OF_HEAD):
            break
    return reader.unread()


def _chunks(body: bytes) -> object:
    return framing._Chunks(_reader(body), 0).read(1 << 20)


def _reader(content: bytes) -> Any:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        reader = streams.Reader(ours, io.DEFAULT_BUFFER_SIZE)
    reader.feed(content)
    return reader


def _form(body: bytes) -> object:
    request.bind({"CONTENT_TYPE": "multipart/form-data; boundary=b", "CONTENT_LENGTH": str(len(body))})
    request.environ |= {"wsgi.input": io.BytesIO(body), "REQUEST_METHOD": "POST"}
    return bodies.body_or_form(1 << 30)


def _query(query: str) -> object:
    request.bind({"QUERY_STRING": query})
    return request.query.get("limit")


def _tags(header: str) -> object:
    request.bind({"HTTP_IF_NONE_MATCH": header})
    return conditional.is_current('"x"')


def _forwarded(header: str) -> object:
    return addresses.client_address("10.0.0.1", header, [ipaddress.ip_network("10.0.0.0/8")])


def _repeat(piece: str, before: str = "", after: str = "") -> Callable[[int], str]:
    return lambda size: before + piece * (size // len(piece)) + after


def _bytes(piece: bytes, before: bytes = b"", after: bytes = b"") -> Callable[[int], bytes]:
    return lambda size: before + piece * (size // len(piece)) + after


def _members(before: str, member: str, after: str) -> Callable[[int], bytes]:
    return lambda size: (before + ",".join(member % number for number in range(size // len(member))) + after).encode()


CASES: dict[str, Case] = {
    "JSON: strings that are not closed": Case(_bytes(b'\\"[', b'"'), jsontext.decode, 100_000),
    "JSON: quotes behind brackets": Case(_bytes(b'"', b"[" * 600), jsontext.decode, 100_000),
    "JSON: members": Case(_members("{", '"%d":0', "}"), jsontext.decode, 100_000),
    "JSON: one member again and again": Case(_members("{", '"a":%d', "}"), jsontext.decode, 100_000),
    "JSON: digits": Case(_bytes(b"9", b"[", b"]"), jsontext.decode, 100_000),
    "JSON: digits of a fraction": Case(_bytes(b"1", b"[1.", b"e9]"), jsontext.decode, 100_000),
    "JSON: integers out of range": Case(_members("[", "9" * 300 + "%d", "]"), jsontext.decode, 100_000),
    "document: items": Case(_bytes(b"0,", _DOCUMENT.encode() + b"[", b"0]}"), _document, 4_000),
    "document: far too many items": Case(_bytes(b"0,", _DOCUMENT.encode() + b"[", b"0]}"), _document, 200_000),
    "document: objects": Case(_bytes(b"{},", _DOCUMENT.encode() + b"[", b"0]}"), _document, 6_000),
    "document: characters in two forms": Case(
        lambda size: _DOCUMENT.encode() + b'"' + "\u2028".encode() * (size // 3) + b'"}', _document, 100_000
    ),
    "document: targets": Case(
        _members('{"last_refresh":"2026-01-01T00:00:00Z","auths":{', f'"t%d":{{"token":"{_TOKEN}"}}', "}}"),
        _document,
        30_000,
    ),
    "document: targets that are refused": Case(
        _members('{"last_refresh":"2026-01-01T00:00:00Z","auths":{', '"%d":0', "}}"), _document, 10_000
    ),
    "date: digits of the fraction": Case(_repeat("0", "2026-01-01T00:00:00.", "Z"), clock.parse_rfc3339, 100_000),
    "usage: entries": Case(_members('{"usages":[', '{"total":%d}', "]}"), _usages, 3_000),
    "usage: entries that are refused": Case(_members('{"usages":[', '{"total":-%d}', "]}"), _usages, 3_000),
    "usage: blanks behind a word": Case(_repeat(" ", "total", "x"), _usage, 16_000),
    "usage: blanks behind many words": Case(_repeat("total \t ", "", "x"), _usage, 16_000),
    "usage: commas in a number": Case(_repeat(",", "(+ 1", " x"), _usage, 16_000),
    "usage: a word again and again": Case(_repeat("total=1 "), _usage, 16_000),
    "text: escapes that do not end": Case(_repeat("\x1b["), texts.clean, 100_000),
    "text: an escape of digits": Case(_repeat("0", "\x1b["), texts.clean, 100_000),
    "text: an escape of digits and blanks": Case(
        lambda n: "\x1b[" + "0" * (n // 2) + " " * (n // 2), texts.clean, 100_000
    ),
    "text: titles that do not end": Case(_repeat("\x1b]0;a"), texts.clean, 100_000),
    "prompt: brackets": Case(_repeat("[", "---\ndescription: ", "\n---\n"), _prompt, 100_000),
    "prompt: quotes": Case(_repeat("''", "---\ndescription: '", "\n---\n"), _prompt, 4_000),
    "prompt: lines of one text": Case(_repeat("  a\n", '---\ndescription: "\n', "---\n"), _prompt, 200),
    "prompt: backslashes": Case(_repeat("\\", '---\ndescription: "', "\n---\n"), _prompt, 4_000),
    "prompt: comments": Case(_repeat(" #", "---\ndescription: x", "\n---\n"), _prompt, 4_000),
    "prompt: lines": Case(_repeat("a: b\n", "---\n", "---\n"), _prompt, 100_000),
    "head: headers": Case(lambda n: b"".join(b"A%d:\r\n" % i for i in range(n // 7)) + b"\r\n", _head, 8_000),
    "head: one header again and again": Case(_bytes(b"A:b\r\n", b"", b"\r\n"), _head, 8_000),
    "head: byte by byte": Case(_bytes(b"a", b"GET / HTTP/1.1\r\nA: "), _slowly, 8_000),
    "head: line ends byte by byte": Case(_bytes(b"A:\r\n", b"GET / HTTP/1.1\r\n"), _slowly, 8_000),
    "body: chunks of a byte": Case(_bytes(b"1\r\na\r\n", b"", b"0\r\n\r\n"), _chunks, 20_000),
    "body: far too many chunks": Case(_bytes(b"1\r\na\r\n", b"", b"0\r\n\r\n"), _chunks, 400_000),
    "form: parts": Case(
        _bytes(b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n', b"", b"--b--\r\n"), _form, 50_000
    ),
    "form: headers of a part": Case(_bytes(b"A: b\r\n", b"--b\r\n", b"\r\n1\r\n--b--\r\n"), _form, 50_000),
    "form: lines of a header": Case(_bytes(b" a\r\n", b"--b\r\nA: b\r\n", b"\r\n1\r\n--b--\r\n"), _form, 50_000),
    "query: parameters": Case(_repeat("a=1&"), _query, 8_000),
    "header If-None-Match": Case(_repeat(","), _tags, 8_000),
    "header X-Forwarded-For": Case(_repeat("10.0.0.1,"), _forwarded, 8_000),
    "header User-Agent": Case(
        _repeat("bo slac whatsap "), lambda text: installers.is_preview({"user-agent": text}), 8_000
    ),
}


def _pipelined(count: int) -> Iterator[bytes]:
    yield b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n" * (count - 1)


def _heads_of_many_headers(count: int) -> Iterator[bytes]:
    for _ in range(50):  # the system counts processor time in hundredths of a second
        yield b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * count * 4 + b"\r\n"


REQUESTS: dict[str, Callable[[int], Iterator[bytes]]] = {
    "server: pipelined requests": _pipelined,
    "server: headers of 50 requests": _heads_of_many_headers,
}
"""What is sent on one connection; a last request, which ends it, follows."""


def server_seconds(server: _servers.Running, send: Callable[[int], Iterator[bytes]], size: int) -> float:
    """Processor time that a server takes for what is sent on one connection, until it ends."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # what is measured is our own
    before = _servers.processor_seconds(server.pid)
    with socket.create_connection(("127.0.0.1", server.port)) as plain, context.wrap_socket(plain) as connection:
        for part in send(size):
            connection.sendall(part)
        connection.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while connection.recv(65536):
            pass
    return _servers.processor_seconds(server.pid) - before
