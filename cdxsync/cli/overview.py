"""`cdxsync overview`: the fleet at a glance."""

from typing import Any

import typer

from cdxsync.cli import output
from cdxsync.cli.state import AsJson, state_of


def overview(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show the fleet at a glance: hosts by state, the canonical document, versions and tokens."""
    from cdxsync.domain import overview as report

    state = state_of(ctx)
    data = report.build(state.fleet(), None)
    if state.json:
        output.json_data(data)
        return
    output.fields(_lines(data))


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
        ("Tokens, all time", f"{data['tokens']['total']:,}"),
        ("Most tokens", f"{top['fqdn']} ({top['total']:,})" if top else None),
        ("API", "marked as disabled" if data["api_disabled"] else "enabled"),
        ("Last log entry", data["latest_log_at"]),
    ]
