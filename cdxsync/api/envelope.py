"""The shape of every JSON answer: `{"status":"ok","data":…}` and `{"status":"error","code":…,"message":…}`."""

import re

import msgspec
from bottle import HTTPResponse
from msgspec import UNSET, UnsetType

from cdxsync.api.schemas import Failure, ProviderError, Success
from cdxsync.base.errors import CdxsyncError, Invalid, TooManyRequests

_NON_ASCII = re.compile(r"[^\x00-\x7f]")
_ENCODER = msgspec.json.Encoder()
HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def encode(value: object) -> bytes:
    """`value` as JSON: `/` literal, non-ASCII as `\\uXXXX` (`docs/protocol.md 1.2`). `msgspec.Raw` goes in as is."""
    body = _ENCODER.encode(value)
    return body if body.isascii() else _NON_ASCII.sub(_escape, body.decode()).encode()


def _escape(match: re.Match[str]) -> str:
    # Outside strings JSON has ASCII only, so any other character may be escaped where it stands.
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def answer(data: object) -> HTTPResponse:
    """A success with its `data`."""
    return bare(Success(data=data))


def bare(body: object) -> HTTPResponse:
    """A success that is `body` alone, as programs of others need it."""
    return HTTPResponse(encode(body), 200, HEADERS)


def failure(
    status: int,
    code: str,
    message: str,
    request_id: str,
    errors: dict[str, list[str]] | None = None,
    error: ProviderError | UnsetType = UNSET,
) -> HTTPResponse:
    """An error with its code for programs, its message for people, and the request's id."""
    wrong = UNSET if errors is None else errors
    body = Failure(code=code, message=message, errors=wrong, error=error, request_id=request_id)
    headers = dict(HEADERS)
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="cdxsync"'
    if status == 503:
        headers["Retry-After"] = "5"
    return HTTPResponse(encode(body), status, headers)


def failure_of(error: CdxsyncError, request_id: str) -> HTTPResponse:
    """The answer that a domain error gets."""
    errors = error.errors if isinstance(error, Invalid) else None
    response = failure(error.http_status, error.code, error.message, request_id, errors)
    if isinstance(error, TooManyRequests):
        response.set_header("Retry-After", str(error.retry_after))
    return response
