"""`cdxsync overview`: the fleet at a glance."""

from typing import Any

import typer

from cdxsync.cli import output
from cdxsync.cli.state import AsJson, state_of


def overview(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show the fleet at a glance: hosts by state, the canonical document, versions and tokens."""
    from cdxsync.views import overview as report

    state = state_of(ctx)
    data = report.build(state.fleet(), None)
    if state.json:
        output.json_data(data)
        return
    output.fields(_lines(data))
    for warning in data["warnings"]:
        output.line(f"Warning: {warning['message']}")


def _lines(data: dict[str, Any]) -> list[tuple[str, object]]:
    totals, document, versions = data["totals"], data["canonical"], data["versions"]
    states = ", ".join(f"{totals[name]} {name.replace('_', ' ')}" for name in totals if name != "hosts")
    age, top = data["avg_refresh_age_days"], data["tokens"]["top_host"]
    return [
        ("Hosts", f"{totals['hosts']} ({states})"),
        ("Canonical", f"{document['last_refresh']} from {document['source']}" if document else "none yet"),
        ("Mean age", None if age is None else f"{age} days"),
        ("Codex", versions["client_version"] or versions["reported_client_version"]),
        ("Wrapper", versions["wrapper_version"]),
        ("Tokens, this month", f"{data['tokens_month']['total']:,}"),
        ("Cost, this month", cost_words(data)),
        ("Tokens, all time", f"{data['tokens']['total']:,}"),
        ("Most tokens", f"{top['fqdn']} ({top['total']:,})" if top else None),
        ("5-hour quota", _quota(data["chatgpt_usage"], "primary")),
        ("Weekly quota", _quota(data["chatgpt_usage"], "secondary")),
        ("API", "marked as disabled" if data["api_disabled"] else "enabled"),
        ("Last log entry", data["latest_log_at"]),
    ]


def cost_words(data: dict[str, Any]) -> str:
    """What the month has cost, by currency, and which models have no price."""
    sums = ", ".join(f"{total:,.2f} {currency}" for currency, total in data["pricing_month_costs"].items())
    unpriced = data["pricing_unpriced_models"]
    return (sums or "nothing") + (f"; no price is known of {', '.join(unpriced)}" if unpriced else "")


def _quota(snapshot: dict[str, Any] | None, window: str) -> str | None:
    if snapshot is None or snapshot[f"{window}_used_percent"] is None:
        return None
    return f"{snapshot[f'{window}_used_percent']} % used, read at {snapshot['fetched_at']}"
