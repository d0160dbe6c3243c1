"""The dashboard's page and files, from the package, as they are sent.

All files are read when the server starts, and only those have an address: no path of a request ever becomes one of
the file system. The page is shown for a certificate alone, as a browser cannot send the admin key with a navigation;
the page sends it with its calls of the API.
"""

import base64
import hashlib
import html
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from string import Template

from bottle import HTTPResponse, request

from cdxsync.api import conditional
from cdxsync.base.errors import CdxsyncError

PAGE = "/admin"
FILES = "/admin/static/"
PATH_AS_SENT = "cdxsync.path_as_sent"
"""The request's path with the trailing slash that routes do without (`api.app`)."""
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src {style}; img-src 'self'; connect-src 'self'; font-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), clipboard-write=(self)",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class File:
    """A file as it is sent."""

    content: bytes
    content_type: str
    tag: str


def is_own(path: str) -> bool:
    """Whether a path, without a trailing slash, is of the dashboard's page or files, and not of the API."""
    return path == PAGE or path.startswith(FILES)


def read_files() -> dict[str, File]:
    """The files that are served, by their paths below `FILES`."""
    return dict(_read(resources.files("cdxsync.dashboard") / "static"))


def refusal(error: CdxsyncError, status: int) -> HTTPResponse | None:
    """A page which says how to get a certificate, for a browser that navigates to the dashboard; None for others."""
    if request.path != PAGE or "text/html" not in request.environ.get("HTTP_ACCEPT", ""):
        return None
    text = (resources.files("cdxsync.dashboard") / "certificate.html").read_text(encoding="utf-8")
    style = text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    body = Template(text).substitute(message=html.escape(error.message)).encode()
    headers = {
        "Content-Type": _TYPES[".html"],
        "Cache-Control": "no-store",
        "Content-Security-Policy": _POLICY.format(style=f"'sha256-{digest}'"),
    }
    return HTTPResponse(body, status, SECURITY | headers)


def _read(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, File]]:
    """The files that browsers need, by their paths; licences and notes are not sent."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _read(entry, f"{prefix}{entry.name}/")
            continue
        content_type = _TYPES.get("." + entry.name.rpartition(".")[2])
        if content_type is not None:
            content = entry.read_bytes()
            yield prefix + entry.name, File(content, content_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def send(file: File) -> HTTPResponse:
    """The answer with a file, unless the browser has it."""
    if conditional.is_current(file.tag):
        return conditional.not_modified(file.tag)
    headers = {
        "Content-Type": file.content_type,
        "Cache-Control": "no-cache",
        "ETag": file.tag,
        "Content-Security-Policy": _POLICY.format(style="'self'"),
    }
    return HTTPResponse(file.content, 200, SECURITY | headers)
