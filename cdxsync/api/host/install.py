"""`/install/{token}`: the single-use installer. Its errors are shell text that prints and fails."""

from collections.abc import Callable

from bottle import HTTPError, HTTPResponse, request

from cdxsync.api.host.wrapper import SCRIPT
from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.base import clock
from cdxsync.base.errors import CdxsyncError, NotFound, TooManyRequests, code_of_status
from cdxsync.hosts import installers
from cdxsync.hosts.installers import Script
from cdxsync.store.driver_errors import translated
from cdxsync.store.fleet import Fleet

ROUTES = Routes(Group.HOSTS, Caller.ANYONE)
_HEADERS = {
    "Content-Type": f"{SCRIPT}; charset=utf-8",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store, must-revalidate",
}


@ROUTES.get(
    "/install/<token>",
    "The single-use installer; its errors are shell text that prints and fails",
    content=SCRIPT,
    errors=(404, 406, 410),
)
def install(context: Context, token: str) -> HTTPResponse:
    """The script, once; to HEAD, whether it could be had."""
    return _answer(context, token, installers.consume)


@ROUTES.get(
    "/install/<token>/begin",
    "What checks a host and then fetches its installer, which it does not use up",
    content=SCRIPT,
    errors=(404, 406, 410),
)
def begin(context: Context, token: str) -> HTTPResponse:
    """A script without a key, as long as the installer is good."""
    return _answer(context, token, installers.begin)


def _answer(context: Context, token: str, make: Callable[[Fleet, str], Script]) -> HTTPResponse:
    if not installers.TOKEN.fullmatch(token):
        raise HTTPError(404)
    try:
        with translated():
            return _script_of(context, token, make)
    except NotFound as error:
        return _failure(context.guard.failed(error))
    except CdxsyncError as error:
        return _failure(error)


def _script_of(context: Context, token: str, make: Callable[[Fleet, str], Script]) -> HTTPResponse:
    if request.method == "HEAD":
        return _script(200, b"", installers.check(token, clock.now()).expires_at)
    if installers.is_preview(_headers()):
        message = "This address is for curl: paste the installer command into a shell of the host."
        return _script(406, installers.error_script(message, code_of_status(406)))
    script = make(context.fleet, token)
    return _script(200, script.body, script.expires_at)


def _headers() -> dict[str, str]:
    """The request's headers by lower-case name, as they came: Bottle's own view fails on those that are not UTF-8."""
    named = ((name.removeprefix("HTTP_"), value) for name, value in request.environ.items() if name.startswith("HTTP_"))
    return {name.replace("_", "-").lower(): value for name, value in named}


def _failure(error: CdxsyncError) -> HTTPResponse:
    response = _script(error.http_status, installers.error_script(error.message, error.code))
    if isinstance(error, TooManyRequests):
        response.set_header("Retry-After", str(error.retry_after))
    return response


def _script(status: int, body: bytes, expires_at: str | None = None) -> HTTPResponse:
    expiry = {"X-Installer-Expires-At": expires_at} if expires_at else {}
    return HTTPResponse(body, status, _HEADERS | expiry)
