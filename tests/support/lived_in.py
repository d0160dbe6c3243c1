"""A fleet that has been in use for a while: hosts in all states, a month of usage, documents, prompts, a log."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.documents import make_auth, plain_digest, with_auths
from tests.support.fleet import Fleet

HOSTS = ("build1", "build2", "web1", "web2", "db1", "laptop-anna", "laptop-bo", "gpu1")
PROMPTS = {
    "review.md": "---\ndescription: Review the staged change\nargument-hint: [FILE]\n---\nReview $1 with care.\n",
    "plan.md": "---\ndescription: Plan before writing code\n---\nWrite a plan first.\n",
}


def name(host: str) -> str:
    """A host's whole name."""
    return f"{host}.example.net"


def fill(fleet: Fleet) -> None:
    """Use the API as hosts and admins do; the days before today are written into the totals."""
    now = datetime.now(UTC).replace(microsecond=0)
    documents = [make_auth((now - timedelta(days=days)).isoformat(), f"seed {days}") for days in (9, 4, 1)]
    keys = {host: fleet.key(name(host)) for host in HOSTS}
    for document in documents:
        fleet.upload(document)
    for index, host in enumerate(HOSTS[:-1]):
        _call(fleet, keys[host], documents[1] if index == 3 else documents[-1], index)
    fleet.execute("UPDATE hosts SET ip = '192.0.2.7' WHERE fqdn = ?", name("db1"))
    with fleet.client(keys["db1"]) as client:
        client.call("GET", "/wrapper")
    for filename, prompt in PROMPTS.items():
        fleet.admin_call("POST", "/admin/slash-commands/store", json={"filename": filename, "prompt": "First try.\n"})
        fleet.admin_call("POST", "/admin/slash-commands/store", json={"filename": filename, "prompt": prompt})
    fleet.admin_call("POST", "/admin/hosts/7/disable")
    _earlier_days(fleet, now)


def _call(fleet: Fleet, key: str, document: dict[str, Any], index: int) -> None:
    with fleet.client(key) as host:
        digest = plain_digest(with_auths(document))
        body = {
            "client_version": f"0.169.{index % 2}",
            "wrapper_version": "0.1.0",
            "last_refresh": document["last_refresh"],
            "digest": digest,
        }
        host.auth(**body)
        parts = {"input": 40_000 + 9_000 * index, "cached": 21_000, "output": 6_500 + 700 * index}
        used = {**parts, "reasoning": 1_200, "total": sum(parts.values())}
        host.call("POST", "/usage", json={"usages": [used]})
        if index % 2:
            host.call("POST", "/usage", json={"usages": [{"total": 9_100, "input": 9_100, "model": "gpt-5.1-mini"}]})


def _earlier_days(fleet: Fleet, now: datetime) -> None:
    columns = "day, model, total, input_tokens, output_tokens, cached_tokens, reasoning_tokens, events"
    for day in range(1, now.day):
        stamp = f"{now:%Y-%m}-{day:02d}"
        busy = 0.25 if datetime(now.year, now.month, day, tzinfo=UTC).weekday() >= 5 else 1.0
        sums = [0] * 6
        for host in range(1, 8):
            scale = busy * (0.6 + 0.11 * ((day * 7 + host * 3) % 9))
            parts = [int(scale * base) for base in (52_000, 9_000, 30_000, 2_000)]
            counts = [sum(parts[:3]), *parts, max(1, int(scale * 9))]
            sums = [a + b for a, b in zip(sums, counts, strict=True)]
            values = ", ".join(["?"] * 9)
            fleet.execute(f"INSERT INTO usage_days (host_id, {columns}) VALUES ({values})", host, stamp, "", *counts)
        places = ", ".join(["?"] * 8)
        fleet.execute(f"INSERT INTO usage_fleet_days ({columns}) VALUES ({places})", stamp, "", *sums)


def crowd(fleet: Fleet, number: int) -> None:
    """Add so many further hosts, which have never called."""
    fleet.execute(
        """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
        INSERT INTO hosts (fqdn, api_key_sha256, status, allow_roaming_ips, api_calls, created_at, updated_at)
        SELECT printf('crowd%05d.example.org', i), printf('%064d', i), 'active', 0, 0, ?, ? FROM n""",
        number,
        *[datetime.now(UTC).isoformat(timespec="seconds")] * 2,
    )


def disperse(fleet: Fleet) -> None:
    """Take them away again."""
    fleet.execute("DELETE FROM hosts WHERE fqdn LIKE 'crowd%'")
