"""Answers that a client may keep and ask for again with `If-None-Match` (RFC 9110, section 13.1.2)."""

from bottle import HTTPResponse, request


def is_current(tag: str) -> bool:
    """Whether the client holds what the entity tag `tag`, with its quotes, stands for."""
    given = request.environ.get("HTTP_IF_NONE_MATCH", "")
    return tag in [part.strip().removeprefix("W/") for part in given.split(",")]


def not_modified(tag: str) -> HTTPResponse:
    """The answer to a client that holds it."""
    return HTTPResponse(b"", 304, {"ETag": tag, "Cache-Control": "no-cache"})


def tagged(response: HTTPResponse, tag: str) -> HTTPResponse:
    """`response`, which a client may keep as what `tag` stands for."""
    response.set_header("ETag", tag)
    response.set_header("Cache-Control", "no-cache")
    return response
