"""`/admin/`: the dashboard's page and files."""

from bottle import HTTPResponse, request

from cdxsync.api import dashboard
from cdxsync.api.routes import Caller, Context, Group, Routes
from cdxsync.base.errors import NotFound

ROUTES = Routes(Group.OPERATION, Caller.ADMIN)


@ROUTES.get(dashboard.PAGE, "The dashboard", content="text/html")
def page(context: Context) -> HTTPResponse:
    """The page, whose address ends with a slash."""
    if not request.environ[dashboard.PATH_AS_SENT].endswith("/"):
        # Relative: a proxy may add a prefix.
        return HTTPResponse(b"", 308, dashboard.SECURITY | {"Location": "admin/"})
    return dashboard.send(context.dashboard["index.html"])


@ROUTES.get(dashboard.FILES + "<path:path>", "A file of the dashboard", content="text/javascript", errors=(404,))
def file(context: Context, path: str) -> HTTPResponse:
    """A file of the page."""
    found = context.dashboard.get(path)
    if found is None or request.environ[dashboard.PATH_AS_SENT].endswith("/"):
        raise NotFound(f"The dashboard has no such file; it starts at {dashboard.PAGE}")
    return dashboard.send(found)
