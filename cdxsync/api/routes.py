"""Routes: each is declared once, with what serves it and with what documents say of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar, get_type_hints

from bottle import Bottle, HTTPResponse

from cdxsync.api import access, bodies, dashboard, envelope
from cdxsync.api.job_runs import JobRuns
from cdxsync.auth.giving import Repeats
from cdxsync.background.refresh_waits import RefreshWaits
from cdxsync.store.fleet import Fleet

JSON = "application/json"
SMALL_BODY_BYTES = 64 * 1024
"""The most of a body that is read before it is known who calls."""


class Caller(StrEnum):
    """Who may call a route."""

    HOST = "host"
    ADMIN = "admin"
    METRICS = "metrics"
    """An admin's certificate, or an address in `metrics_allow`."""
    ANYONE = "anyone"


class Group(StrEnum):
    """The chapters of the documents."""

    HOSTS = "Hosts"
    OPERATION = "Operation"
    FLEET = "Fleet"
    CREDENTIALS = "Credentials"
    REPORTS = "Reports"
    BACKGROUND = "Background"
    PROMPTS = "Prompts"


@dataclass(frozen=True)
class Parameter:
    """A query parameter or a header, all of which may be missing; `kind` is the type of its value."""

    name: str
    kind: Any
    text: str = ""


@dataclass(frozen=True)
class Context:
    """What the handlers of one application share."""

    fleet: Fleet
    guard: access.Guard
    hosts: access.HostGate
    admins: access.AdminGate
    is_draining: Callable[[], bool]
    jobs: JobRuns
    refreshes: RefreshWaits
    repeats: Repeats
    dashboard: Mapping[str, dashboard.File]

    @property
    def body_limit(self) -> int:
        """The most bytes that a body may have."""
        return self.fleet.settings.max_body_bytes

    def body(self) -> dict[str, Any]:
        """The request's JSON object (`bodies.body_object`)."""
        return bodies.body_object(self.body_limit)

    def small_body(self) -> dict[str, Any]:
        """The same of a call that shows who it is in its body: it has few and short fields."""
        return bodies.body_object(min(self.body_limit, SMALL_BODY_BYTES))


@dataclass(frozen=True)
class Route:
    """One method of one path. `path` is Bottle's rule; `answer` the type of `data`, where `content` is JSON.

    `body` is the Struct of the body, or a union of several; `errors` the statuses that only this route has.
    """

    method: str
    path: str
    handler: Callable[..., Any]
    group: Group
    caller: Caller
    summary: str
    query: tuple[Parameter, ...]
    headers: tuple[Parameter, ...]
    body: Any
    answer: Any
    content: str
    errors: tuple[int, ...]
    bare: bool
    """The answer is the Struct itself, without the envelope."""

    @property
    def statuses(self) -> list[int]:
        """With which errors a call may be answered."""
        found = {*self.errors, 503}
        if self.caller is not Caller.ANYONE:
            found |= {401, 403, 429}
        if self.body is not None:
            found |= {400, 413, 415}
        return sorted(found)


Handler = TypeVar("Handler", bound=Callable[..., Any])


class Routes:
    """The routes of one resource, in the order in which they are declared.

    A handler gets the `Context` and the parts of the path, and returns `data` as a Struct, or a whole response.
    """

    def __init__(self, group: Group, caller: Caller) -> None:
        self._group = group
        self._caller = caller
        self._routes: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def get(self, path: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
        """Declare what answers GET, and HEAD; `more` as `add` has it."""
        return self.add("GET", path, summary, **more)

    def post(self, path: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
        """Declare what answers POST; `more` as `add` has it."""
        return self.add("POST", path, summary, **more)

    def delete(self, path: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
        """Declare what answers DELETE; `more` as `add` has it."""
        return self.add("DELETE", path, summary, **more)

    def add(
        self,
        method: str,
        path: str,
        summary: str,
        *,
        query: tuple[Parameter, ...] = (),
        headers: tuple[Parameter, ...] = (),
        body: Any = None,
        answer: Any = None,
        content: str = JSON,
        errors: tuple[int, ...] = (),
        bare: bool = False,
        caller: Caller | None = None,
    ) -> Callable[[Handler], Handler]:
        """Declare a route. The type of `data` is what the handler returns, where `answer` does not say it."""

        def declare(handler: Handler) -> Handler:
            data = answer if answer is not None or content != JSON else get_type_hints(handler)["return"]
            self._routes.append(
                Route(
                    method=method,
                    path=path,
                    handler=handler,
                    group=self._group,
                    caller=caller or self._caller,
                    summary=summary,
                    query=query,
                    headers=headers,
                    body=body,
                    answer=data,
                    content=content,
                    errors=errors,
                    bare=bare,
                )
            )
            return handler

        return declare


def mount(app: Bottle, route: Route, context: Context) -> None:
    """Serve a route; the one place where what a handler returns becomes an answer."""
    handler = route.handler

    def serve(**parts: Any) -> HTTPResponse:
        given = handler(context, **parts)
        return given if isinstance(given, HTTPResponse) else envelope.answer(given)

    app.route(route.path, route.method, serve)
