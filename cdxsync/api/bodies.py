"""Reading what a request carries in its body, within the limit: JSON, or an admin's form."""

import io
from typing import Any

from bottle import HTTPError, request

from cdxsync.base import jsontext
from cdxsync.base.errors import Invalid, Malformed, TooLarge, UnsupportedMedia

_NOT_JSON = ("multipart/", "image/", "audio/", "video/", "font/")
_NOT_JSON_TYPES = ("text/html", "text/xml", "text/csv", "application/xml", "application/zip", "application/gzip")


def body_object(limit: int) -> dict[str, Any]:
    """The request's JSON body; empty, scalar and array bodies act like an empty object (`docs/protocol.md 1.4`).

    Raises `TooLarge` before more than `limit` bytes are read, `UnsupportedMedia`, `Malformed`.
    """
    return object_of(body_bytes(limit))


def body_or_form(limit: int) -> dict[str, Any]:
    """The request's JSON body, or the fields of a multipart form, in which the part `file` is the field `auth`.

    Raises as `body_object` does.
    """
    environ = request.environ
    if not environ.get("CONTENT_TYPE", "").strip().lower().startswith("multipart/form-data"):
        return body_object(limit)
    body = _read_body(limit)
    environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    try:
        fields: dict[str, Any] = dict(request.forms.decode())
        upload = request.files.get("file")
    except (HTTPError, UnicodeError, ValueError):
        raise Malformed(
            "The body is not a multipart form; send JSON, or a form with the document in the field file"
        ) from None
    if upload is not None:
        fields["auth"] = _text_of(upload.file.read())
    return fields


def _text_of(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Invalid({"auth": ["is not UTF-8 text"]}) from None


def object_of(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`, as `body_object` reads it. Raises `Malformed`."""
    if not body.strip():
        return {}
    try:
        value = jsontext.decode(body)
    except Malformed as error:
        raise Malformed(f"The body is {error.message}") from None
    return value if isinstance(value, dict) else {}


def body_bytes(limit: int) -> bytes:
    """The request's body, at most `limit` bytes.

    Raises `UnsupportedMedia` for what is plainly not JSON, `TooLarge`, and `Malformed` when it does not come whole.
    """
    environ = request.environ
    media_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if media_type.startswith(_NOT_JSON) or media_type in _NOT_JSON_TYPES:
        raise UnsupportedMedia(f"The body must be JSON, not {media_type}")
    if environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMedia("The body must be sent without Content-Encoding")
    return _read_body(limit)


def _read_body(limit: int) -> bytes:
    environ = request.environ
    refuse_large_body(limit)
    length = environ.get("CONTENT_LENGTH", "")
    try:
        body: bytes = environ["wsgi.input"].read(int(length) if length else limit + 1)
    except ValueError as error:
        raise Malformed(f"The body is not chunked as it says: {error}", code="body_incomplete") from None
    except OSError as error:
        raise Malformed(f"The body could not be read to its end: {error}", code="body_incomplete") from None
    if length and len(body) < int(length):
        raise Malformed("The body is shorter than its Content-Length", code="body_incomplete")
    if len(body) > limit:
        raise _too_large(limit)
    return body


def refuse_large_body(limit: int) -> None:
    """Raise `TooLarge` when the request announces a body above `limit`, before any of it is read."""
    length = request.environ.get("CONTENT_LENGTH", "")
    if length and int(length) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit} bytes (setting max_body_bytes)")
