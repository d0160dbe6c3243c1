"""The HTTP client for services outside: bounded in time, size and redirects; it reveals no secrets.

Proxies and CA bundles come from the environment (`HTTPS_PROXY`, `NO_PROXY`, `REQUESTS_CA_BUNDLE`), as `requests` reads
them. An error names the host and what went wrong; it never holds a header, a query, or a body.
"""

import email.utils
import json
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

import cdxsync
from cdxsync.base import clock, jsontext
from cdxsync.base.errors import Malformed, ServiceError

CONNECT_SECONDS = 5.0
ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.5
MAX_REDIRECTS = 3
MAX_BYTES = 2 << 20
MAX_WAIT_SECONDS = 86400.0
USER_AGENT = f"cdxsync/{cdxsync.__version__}"
_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = (500, 502, 503, 504)
_CHUNK = 64 * 1024


@dataclass(frozen=True)
class Answer:
    """An answer: its status, headers (names in any case) and whole body."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """The body decoded. Raises `ServiceError`."""
        try:
            return jsontext.decode(self.body)
        except Malformed:
            raise ServiceError(f"{place(self.url)} sent an answer that is not JSON", status=self.status) from None


class _Again(Exception):
    """The attempt failed, and another may succeed; `error` is what to raise after the last."""

    def __init__(self, error: ServiceError) -> None:
        super().__init__(error.message)
        self.error = error


def get(url: str, *, timeout: float, headers: Mapping[str, str] | None = None, secret: bool = False) -> Answer:
    """GET `url` within `timeout` seconds in total, tried up to three times.

    With `secret` the headers carry one: redirects are then followed on the same origin only. Returns any answer that
    is no error of the service (2xx, 304). Raises `ServiceError`.
    """
    deadline = time.monotonic() + timeout
    attempt = 0
    while True:
        attempt += 1
        try:
            return _follow(url, headers or {}, deadline, secret)
        except _Again as again:
            pause = FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * (1 + random.random())  # noqa: S311 - jitter
            if attempt == ATTEMPTS or time.monotonic() + pause >= deadline:
                raise again.error from None
            time.sleep(pause)


def post_json(url: str, content: Any, *, timeout: float, headers: Mapping[str, str]) -> Answer:
    """POST `content` as JSON, once: what it does may not be repeatable. Redirects are errors. Raises `ServiceError`."""
    body = json.dumps(content).encode()
    headers = {**headers, "Content-Type": "application/json"}
    try:
        answer = _once("POST", url, headers, time.monotonic() + timeout, body)
    except _Again as again:
        raise again.error from None
    if answer.status in _REDIRECTS:
        raise ServiceError(f"{place(url)} sent a redirect, which is not followed here", status=answer.status)
    return answer


def place(url: str) -> str:
    """`url` without query and user, for messages."""
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"[:300]
    except ValueError:
        return "an invalid address"


def _follow(url: str, headers: Mapping[str, str], deadline: float, secret: bool) -> Answer:
    here = url
    for _ in range(MAX_REDIRECTS + 1):
        answer = _once("GET", here, headers, deadline, None)
        if answer.status not in _REDIRECTS:
            return _checked(answer)
        try:
            target = urljoin(here, answer.headers.get("Location", ""))
            before, after = urlsplit(here), urlsplit(target)
        except ValueError:
            raise ServiceError(f"{place(here)} redirects to an invalid address", status=answer.status) from None
        if after.scheme not in ("http", "https") or (before.scheme, after.scheme) == ("https", "http"):
            raise ServiceError(f"{place(here)} redirects to an address without TLS", status=answer.status)
        if secret and (before.scheme, before.netloc) != (after.scheme, after.netloc):
            raise ServiceError(
                f"{place(here)} redirects to another server, which must not see the credentials", status=answer.status
            )
        here = target
    raise ServiceError(f"{place(url)} redirects more than {MAX_REDIRECTS} times")


def _checked(answer: Answer) -> Answer:
    if 200 <= answer.status < 300 or answer.status == 304:
        return answer
    error = ServiceError(
        f"{place(answer.url)} answered HTTP {answer.status}",
        status=answer.status,
        wait=wait_of(answer.status, answer.headers),
    )
    raise _Again(error) if answer.status in _AGAIN and error.wait is None else error


def wait_of(status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds that a service asks us to wait, at most a day; None when it does not.

    By `Retry-After` on 429, 503 and 403; by `X-RateLimit-Reset` on 429 and 403 when `X-RateLimit-Remaining` is 0, as
    GitHub does. A plain 429 means a minute.
    """
    if status not in (403, 429, 503):
        return None
    wait = _seconds(headers.get("Retry-After"), clock.now().timestamp())
    if wait is None and status != 503 and headers.get("X-RateLimit-Remaining") == "0":
        reset = headers.get("X-RateLimit-Reset", "")
        wait = float(reset) - clock.now().timestamp() if reset.isascii() and reset.isdigit() else None
    if wait is None:
        return 60.0 if status == 429 else None
    return min(max(wait, 1.0), MAX_WAIT_SECONDS)


def _seconds(text: str | None, now: float) -> float | None:
    if text is None:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return float(text)
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None


def _once(method: str, url: str, headers: Mapping[str, str], deadline: float, body: bytes | None) -> Answer:
    """One request, no redirects. Raises `_Again` for what may succeed later, `ServiceError` for the rest."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise ServiceError(f"{place(url)} did not answer in time")
    # Identity: a small answer must not unpack into a large one.
    sent = {"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity", **headers}
    with _Session() as session:
        try:
            with session.request(
                method,
                url,
                headers=sent,
                data=body,
                timeout=(min(CONNECT_SECONDS, left), left),
                allow_redirects=False,
                stream=True,
            ) as response:
                content = _read(response, url, deadline)
                return Answer(url, response.status_code, dict_of(response.headers), content)
        except requests.exceptions.RequestException as error:
            raise _explained(error, url) from None


def dict_of(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Headers with names in any case."""
    return requests.structures.CaseInsensitiveDict(headers)


class _Session(requests.Session):
    """A session that follows no redirect and adds no credentials."""

    def __init__(self) -> None:
        super().__init__()
        # Or a .netrc of the server's user would replace the Authorization header.
        self.auth = lambda request: request

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: `requests` would read the whole body of a redirect, however large, also when it does not follow it."""
        return None


def _read(response: requests.Response, url: str, deadline: float) -> bytes:
    if response.headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
        raise ServiceError(f"{place(url)} sent an encoding that was not requested")
    content = bytearray()
    # One read takes what has arrived, so that the deadline is checked between pieces of a slow answer.
    try:
        while chunk := response.raw.read1(_CHUNK):
            content += chunk
            if len(content) > MAX_BYTES:
                raise ServiceError(f"{place(url)} sent more than {MAX_BYTES} bytes", status=response.status_code)
            if time.monotonic() > deadline:
                raise ServiceError(f"{place(url)} did not answer in time", status=response.status_code)
    except (OSError, urllib3.exceptions.HTTPError) as error:
        raise _explained(error, url) from None
    return bytes(content)


def _explained(error: Exception, url: str) -> Exception:
    """What went wrong, in our words: the library's texts quote URLs and headers."""
    where = place(url)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        text = f"{where} cannot be reached: no connection within {CONNECT_SECONDS:.0f} s"
        return _Again(ServiceError(text, sent=False))
    if isinstance(error, requests.exceptions.Timeout):
        return ServiceError(f"{where} did not answer in time")
    if isinstance(error, requests.exceptions.ProxyError):
        return _Again(
            ServiceError(
                f"{where} cannot be reached through the proxy of the environment (HTTPS_PROXY)",
                sent=False,
            )
        )
    if isinstance(error, requests.exceptions.SSLError):
        return ServiceError(f"{where} has a certificate that is not trusted, or TLS that is too old", sent=False)
    causes = list(_causes(error))
    # In urllib3 a refused connection is a kind of time-out, so it comes first.
    refused = any(isinstance(cause, urllib3.exceptions.NewConnectionError) for cause in causes)
    if not refused and any(isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError) for cause in causes):
        return ServiceError(f"{where} did not answer in time")
    words = next((str(cause.strerror) for cause in causes if isinstance(cause, OSError) and cause.strerror), None)
    if refused or words or isinstance(error, requests.exceptions.ConnectionError):
        text = f"{where} cannot be reached: {words or 'the connection broke'}"
        return _Again(ServiceError(text, sent=not refused))
    return ServiceError(f"{where} sent an answer that cannot be read")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, which the libraries nest in arguments, reasons and contexts."""
    seen: set[int] = set()
    queue = [error]
    while queue:
        found = queue.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        nested = (*found.args, getattr(found, "reason", None), found.__cause__, found.__context__)
        queue += [item for item in nested if isinstance(item, BaseException)]
