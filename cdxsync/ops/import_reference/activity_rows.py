"""Token usage with its roll-ups, prompts, the audit log, and the flag of the API."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from cdxsync.base import clock
from cdxsync.base.errors import Invalid
from cdxsync.hosts import api_state
from cdxsync.ops.import_reference import values
from cdxsync.ops.import_reference.dump import Row
from cdxsync.ops.import_reference.stage import Report, Stage
from cdxsync.prompts import catalog
from cdxsync.security import apikeys
from cdxsync.store import named_values, rights
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Host, LogEntry, SlashCommand, TokenUsage, UsageDay, UsageFleetDay, UsageLine
from cdxsync.usage import entries, recording
from cdxsync.usage.schemas import Entry

ACTOR = "import"
REMOVED = "(removed)"
_BATCH = 500
# With or without a point: a token has one, and what has none is looked through once.
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]++(?:\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?)?")
_TOKEN_OF_OPENAI = re.compile(r"\b(?:sk|rt)[-_][A-Za-z0-9_-]{16,}")
_HEX_KEY = re.compile(r"(?:cdx_)?[0-9a-fA-F]{64}")
_SECRET_NAME = re.compile(
    r"token|key|secret|password|authorization|cookie|^auth$|updated_auth|auth_json", re.IGNORECASE
)
_LONGEST_HINT = 12
"""The log shortens tokens to 8 characters and an ellipsis; a longer text is a token."""

Tick = Callable[[], None]


def import_usage(stage: Stage, report: Report, names: dict[int, str], tick: Tick) -> None:
    """Usage rows by id, with all their totals."""
    batch: list[dict[str, Any]] = []
    last = 0
    for row in stage.rows("token_usages"):
        tick()
        try:
            usage_id = values.row_id(row)
            if usage_id == last:
                raise ValueError("another row has its id")
            entry, at = _entry(row), values.stamp(row, "created_at")
        except ValueError as error:
            report.skip(row, str(error))
            continue
        host_id = row.values.get("host_id")
        known = host_id if isinstance(host_id, int) and host_id in names else None
        numbers = {recording.COLUMNS[name]: count for name, count in entry.numbers().items()}
        shown = {"id": usage_id, "host": known, "model": entry.model, "line": entry.line, "created_at": at}
        batch.append(shown | numbers)
        _sum_up(stage, known, usage_id, at, entry)
        last = usage_id
        report.imported["token_usages"] += 1
        if len(batch) >= _BATCH:
            TokenUsage.insert_many(batch).execute()
            batch.clear()
    if batch:
        TokenUsage.insert_many(batch).execute()
    _store_totals(stage)


def _sum_up(stage: Stage, host_id: int | None, usage_id: int, at: str, entry: Entry) -> None:
    """Add to separate sums: one write per total at the end, instead of several per row."""
    numbers = (*(count or 0 for count in entry.numbers().values()), 1)
    for table, place in _totals_of(host_id, at[:10], entry):
        stage.add_to_total(table._meta.table_name, json.dumps(place), at, numbers)
    if host_id is not None:
        # The texts have one length, so the greatest id is the greatest text.
        stage.add_to_total("hosts", str(host_id), f"{usage_id:010}", numbers)


def _totals_of(host_id: int | None, day: str, entry: Entry) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The totals that `usage.roll_up` adds an entry to: tables and keys."""
    model = entry.model or ""
    yield UsageDay, {"host": host_id, "day": day, "model": model}
    yield UsageFleetDay, {"day": day, "model": model}
    if entry.line:
        yield UsageLine, {"line_sha256": hashlib.sha256(entry.line.encode()).hexdigest(), "line": entry.line}


def _store_totals(stage: Stage) -> None:
    columns = [*recording.COLUMNS.values(), "events"]
    for table in (UsageDay, UsageFleetDay, UsageLine):
        batch: list[dict[str, Any]] = []
        for place, last, numbers in stage.totals(table._meta.table_name):
            extra = {"last_used_at": last} if table is UsageLine else {}
            batch.append(json.loads(place) | extra | dict(zip(columns, numbers, strict=True)))
            if len(batch) >= _BATCH:
                table.insert_many(batch).execute()
                batch.clear()
        if batch:
            table.insert_many(batch).execute()
    for place, last, numbers in stage.totals("hosts"):
        changes = {"latest_usage_id": int(last), "usage_total": numbers[0]}
        Host.update(changes).where(Host.id == int(place)).execute()


def _entry(row: Row) -> Entry:
    columns = {name: row.values.get(column) for name, column in recording.COLUMNS.items()}
    errors: dict[str, list[str]] = {}
    entry = entries.read_entry(
        {**columns, "model": row.values.get("model"), "line": row.values.get("line")}, "", errors
    )
    if errors:
        name, texts = next(iter(errors.items()))
        raise ValueError(f"{name} {texts[0]}")
    return entry


def import_prompts(fleet: Fleet, stage: Stage, report: Report, names: dict[int, str]) -> None:
    """Prompts, with new digests."""
    seen: set[str] = set()
    ids: set[int] = set()
    for row in stage.rows("slash_commands"):
        shown = values.optional_text(row, "filename", 255) or ""
        try:
            if row.values.get("deleted_at") is not None:
                raise ValueError("deleted")
            body = {name: row.values.get(name) for name in ("filename", "prompt", "description", "argument_hint")}
            text = body["prompt"]
            has_nul = isinstance(text, str) and "\0" in text
            if has_nul:
                body["prompt"] = str(text).replace("\0", "")
                report.notes.append(f"prompt {shown} had the character U+0000, which was removed")
            prompt = catalog.read_prompt(body, fleet.settings.max_prompt_bytes)
            prompt_id = values.row_id(row)
            created, updated = values.stamp(row, "created_at"), values.stamp(row, "updated_at")
        except Invalid as error:
            report.skip(row, error.explain().partition(": ")[2], shown)
            continue
        except ValueError as error:
            report.skip(row, str(error), shown)
            continue
        key = prompt.filename.lower()
        if key in seen or prompt_id in ids:
            report.skip(row, "another prompt has its name or id", shown)
            continue
        if not has_nul and prompt.sha256 != str(row.values.get("sha256")).lower():
            report.notes.append(f"prompt {prompt.filename} did not match its digest; it has a new one")
        source = row.values.get("source_host_id")
        rights.insert(
            SlashCommand,
            id=prompt_id,
            filename=prompt.filename,
            filename_key=key,
            sha256=prompt.sha256,
            description=prompt.description,
            argument_hint=prompt.argument_hint,
            prompt=prompt.prompt,
            source_host=source if isinstance(source, int) and source in names else None,
            created_at=created,
            updated_at=updated,
        )
        seen.add(key)
        ids.add(prompt_id)
        report.imported["slash_commands"] += 1
    catalog.note_changed()


def import_logs(fleet: Fleet, stage: Stage, report: Report, names: dict[int, str], tick: Tick) -> None:
    """Audit rows, oldest first, after the present ones; secrets in their details are removed."""
    days = fleet.settings.keep_log_days
    oldest = clock.stamp(clock.now() - timedelta(days=days)) if days else ""
    batch: list[dict[str, Any]] = []
    for row in stage.rows("logs"):
        tick()
        try:
            action, at = values.optional_text(row, "action", 64), values.stamp(row, "created_at")
            if action is None:
                raise ValueError("action is missing")
        except ValueError as error:
            report.skip(row, str(error))
            continue
        if at < oldest:
            report.skip(row, f"older than {days} days (setting keep_log_days)")
            continue
        host_id = row.values.get("host_id")
        known = host_id if isinstance(host_id, int) and host_id in names else None
        batch.append(
            {
                "host": known,
                "actor": ACTOR,
                "action": action,
                "details": details(row.values.get("details")),
                "created_at": at,
            }
        )
        if len(batch) >= _BATCH:
            LogEntry.insert_many(batch).execute()
            batch.clear()
        report.imported["logs"] += 1
    if batch:
        LogEntry.insert_many(batch).execute()


def details(value: object) -> str | None:
    """The details of an audit row as JSON text without secrets; None without details."""
    if not isinstance(value, str) or not value.strip():
        return None
    try:
        return json.dumps(_without_secrets(json.loads(value)), ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


def _without_secrets(value: Any, name: str = "") -> Any:
    if _SECRET_NAME.search(name) and (isinstance(value, dict | list) or len(str(value)) > _LONGEST_HINT):
        return REMOVED
    if isinstance(value, dict):
        return {_without_texts(key): _without_secrets(member, key) for key, member in value.items()}
    if isinstance(value, list):
        return [_without_secrets(member, name) for member in value]
    return _without_texts(value) if isinstance(value, str) else value


def _without_texts(text: str) -> str:
    text = _JWT.sub(lambda match: REMOVED if "." in match[0] else match[0], text)
    text = _TOKEN_OF_OPENAI.sub(REMOVED, text)
    return _HEX_KEY.sub(lambda match: REMOVED if _is_key(match[0]) else match[0], text)


def _is_key(text: str) -> bool:
    """Whether 64 hex digits are a host's API key, and not a digest."""
    return Host.get_or_none(Host.api_key_sha256 == apikeys.fingerprint(text)) is not None


def import_flag(stage: Stage, report: Report) -> None:
    """The flag `api_disabled`; the rest of `versions` is found again, or of the old server only."""
    for row in stage.rows("versions"):
        name = values.optional_text(row, "name", 191) or ""
        if name == api_state.NAME:
            named_values.put(api_state.NAME, "1" if str(row.values.get("version")) == "1" else "0")
            report.imported["versions"] += 1
        elif name != "canonical_payload_id":
            report.skip(row, "this server finds it again", name)
