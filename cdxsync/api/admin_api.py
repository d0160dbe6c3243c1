"""The API that admins call with a client certificate: the fleet as a whole, its log and usage, and uploads.

The gate stands in `cdxsync.api.app`, before every route under `/admin`.
"""

from typing import Any

from bottle import Bottle, HTTPResponse

from cdxsync.api import access, bodies, envelope, params
from cdxsync.auth import exchange
from cdxsync.base import jsontext
from cdxsync.base.errors import Invalid, Malformed
from cdxsync.hosts import api_state, registry
from cdxsync.store import audit
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Host
from cdxsync.usage import pricing, reports, summaries
from cdxsync.views import overview


def mount(app: Bottle, fleet: Fleet) -> None:
    """Add the routes to `app`."""
    limit = fleet.settings.max_body_bytes

    @app.get("/admin/overview")
    def show_overview() -> HTTPResponse:
        return envelope.answer(overview.build(fleet, access.mtls()))

    @app.post("/admin/auth/upload")
    def upload() -> HTTPResponse:
        body = bodies.body_or_form(limit)
        document = body.get("auth")
        if isinstance(document, str):
            document = _decode_text(document)
        host, force = _named_host(body.get("host_id")), params.boolean(body, "force", default=False)
        return envelope.answer(exchange.upload(fleet, document, host=host, actor=access.actor(), force=force))

    @app.get("/admin/api/state")
    def show_state() -> HTTPResponse:
        return envelope.answer(api_state.get())

    @app.post("/admin/api/state")
    def set_state() -> HTTPResponse:
        disabled = params.boolean(bodies.body_object(limit), "disabled")
        return envelope.answer(api_state.put(disabled, actor=access.actor()))

    @app.get("/admin/logs")
    def list_logs() -> HTTPResponse:
        wanted = audit.Wanted(
            host=params.host_filter(),
            action=params.text("action") or "",
            actor=params.text("actor") or "",
            text=params.text("q") or "",
        )
        after, before = params.whole_number("after"), params.cursor()
        return envelope.answer(audit.recent(params.limit(audit.MAX_ROWS), wanted, before=before, after=after))

    @app.get("/admin/usage")
    def list_usage() -> HTTPResponse:
        count = params.limit(reports.MAX_ROWS)
        return envelope.answer(reports.recent(count, host=params.host_filter(), before=params.cursor()))

    @app.get("/admin/usage/month")
    def usage_month() -> HTTPResponse:
        month = reports.check_month(params.text("month"))
        return envelope.answer(pricing.month_report(fleet.settings, month, params.host_filter()))

    @app.get("/admin/usage/summary")
    def usage_summary() -> HTTPResponse:
        month = reports.check_month(params.text("month"))
        return envelope.answer(summaries.month_summary(fleet.settings, month, params.host_filter()))

    @app.get("/admin/tokens")
    def list_tokens() -> HTTPResponse:
        return envelope.answer(reports.lines(params.limit(reports.MAX_LINES)))


def _decode_text(text: str) -> Any:
    try:
        return jsontext.decode(text.encode())
    except Malformed as error:
        raise Invalid({"auth": [f"is {error.message}"]}) from None


def _named_host(value: object) -> Host | None:
    """The host of an upload; null, "", "system" and 0 mean the whole fleet (`docs/protocol.md 11.5`)."""
    if value in (None, "", "system", 0, "0") and not isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Invalid({"host_id": ['must be a host\'s id, or "system"']})
    return registry.by_id(value)
