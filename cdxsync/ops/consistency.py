"""Checks of stored data: structure, digests, seals, and daily totals against their rows."""

import functools
import hashlib
import hmac
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import peewee
from peewee import SQL, fn

from cdxsync.auth import canonical
from cdxsync.base.errors import CdxsyncError
from cdxsync.ops.schemas import Checked, ConsistencyReport, Damage
from cdxsync.store import audit, audit_chain, audit_check, named_values, rights, sealed_values
from cdxsync.store.audit_chain import Head
from cdxsync.store.database import current, is_writing, snapshot
from cdxsync.store.fleet import Fleet
from cdxsync.store.sealing import UnknownKey
from cdxsync.store.tables import (
    AuthEntry,
    AuthPayload,
    InstallToken,
    SlashCommand,
    SlashCommandVersion,
    TokenUsage,
    UsageDay,
)

_TOTALS = ("total", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "events")
_NOTHING = (0,) * len(_TOTALS)


def check(fleet: Fleet) -> ConsistencyReport:
    """Check everything, in one state of the database; changes nothing. Secrets are opened, and not shown."""
    findings: list[Damage] = []
    checked = Checked()
    # Data that earlier, looser rules accepted is no damage.
    fleet = replace(fleet, settings=replace(fleet.settings, token_min_length=8))
    known = audit_chain.witnessed(fleet.database)  # before the state that is read
    with snapshot():
        for name, run in (CHECKS | {"audit": functools.partial(_audit, known)}).items():
            try:
                findings += [Damage(check=name, problem=problem) for problem in run(fleet, checked)]
            except (peewee.DatabaseError, CdxsyncError) as error:
                findings.append(Damage(check=name, problem=f"the check failed: {error}"))
    return ConsistencyReport(ok=not findings, findings=findings, checked=checked)


def _structure(fleet: Fleet, checked: Checked) -> Iterator[str]:
    # Within write work (an import) no other connection may look at the tables.
    database = current()
    yield from database.engine.damage(database.peewee, quick=is_writing())


def _documents(fleet: Fleet, checked: Checked) -> Iterator[str]:
    """Each document opens and matches its digest, and its entries hold its tokens."""
    ids = [row.id for row in AuthPayload.select(AuthPayload.id).order_by(AuthPayload.id)]
    checked.documents = len(ids)
    for payload_id in ids:
        row = AuthPayload.get_by_id(payload_id)
        try:
            document = canonical.open_payload(fleet, row)
        except CdxsyncError as error:
            yield _unless_named(error, f"document {payload_id}")
            continue
        stored = {entry.target: entry for entry in AuthEntry.select().where(AuthEntry.payload == payload_id)}
        if stored.keys() != document.entries.keys():
            yield f"document {payload_id}: its entries do not match its content"
        for target in sorted(stored.keys() & document.entries.keys()):
            context = sealed_values.entry_token(payload_id, target)
            try:
                token = fleet.keyring.open(stored[target].token, context)
            except CdxsyncError as error:
                yield error.explain()
                continue
            if not hmac.compare_digest(token, document.entries[target]["token"].encode()):
                yield f"{context}: not the token of the document"


def _unless_named(error: CdxsyncError, name: str) -> str:
    text = error.explain()
    return text if text.startswith("auth_") else f"{name}: {text}"


def _pointer(fleet: Fleet, checked: Checked) -> Iterator[str]:
    pointer = named_values.get(canonical.POINTER)
    if pointer is None:
        if AuthPayload.select().exists():
            yield "no document is marked as canonical"
    elif AuthPayload.get_or_none(AuthPayload.id == canonical.id_in(pointer)) is None:
        yield f"the canonical document {pointer!r} is missing"


def _installers(fleet: Fleet, checked: Checked) -> Iterator[str]:
    rows = InstallToken.select().where(InstallToken.api_key.is_null(False))
    checked.installers = 0
    for row in rows:
        checked.installers += 1
        try:
            fleet.keyring.open(str(row.api_key), sealed_values.installer_key(row.token_sha256))
        except UnknownKey as error:
            yield f"installer of {row.fqdn}: {error.explain().partition(': ')[2]}"
        except CdxsyncError:
            yield f"installer of {row.fqdn}: its API key cannot be opened"


def _rights(fleet: Fleet, checked: Checked) -> Iterator[str]:
    """Each row that gives rights is as it was written, by its MAC."""
    checked.rows = sum(int(table.select().count()) for table in rights.tables())
    if rights.is_required():
        for row in rights.altered():
            yield f"{row.shown}: changed past cdxsync"


def _prompts(fleet: Fleet, checked: Checked) -> Iterator[str]:
    checked.prompts = 0
    for row in SlashCommand.select(SlashCommand.filename, SlashCommand.prompt, SlashCommand.sha256).iterator():
        checked.prompts += 1
        if hashlib.sha256(row.prompt.encode()).hexdigest() != row.sha256:
            yield f"prompt {row.filename}: its text does not match its digest"
    columns = (SlashCommandVersion.id, SlashCommandVersion.filename, SlashCommandVersion.prompt)
    for row in SlashCommandVersion.select(*columns, SlashCommandVersion.sha256).iterator():
        if hashlib.sha256(row.prompt.encode()).hexdigest() != row.sha256:
            yield f"prompt {row.filename}, earlier text {row.id}: it does not match its digest"


def _totals(fleet: Fleet, checked: Checked) -> Iterator[str]:
    """Daily totals are the sums of their rows.

    Pruning deletes the oldest rows and leaves the totals. So days before the oldest row are not checked, and on its
    day, which may be incomplete, the rows must not exceed the totals.
    """
    oldest = TokenUsage.select(fn.MIN(TokenUsage.created_at)).scalar()
    first_day = str(oldest)[:10] if oldest is not None else None
    checked.usage_days_since = first_day
    checked.usage_days = 0
    if first_day is None:
        return
    row_day = fn.SUBSTR(TokenUsage.created_at, 1, 10)
    listed = _first_column(TokenUsage.select(row_day).distinct())
    listed |= _first_column(UsageDay.select(UsageDay.day).where(UsageDay.day >= first_day).distinct())
    for day in sorted(listed):
        checked.usage_days += 1
        pruned = day == first_day
        relation = "is less than" if pruned else "is not"
        rows, totals = _sums_of_rows(day), _sums_of_totals(day)
        for place in sorted(rows.keys() | totals.keys(), key=str):
            pairs = zip(_TOTALS, rows.get(place, _NOTHING), totals.get(place, _NOTHING), strict=True)
            wrong = [name for name, count, total in pairs if (count > total if pruned else count != total)]
            if wrong:
                where = f"usage of {day}, host {place[0] or 'deleted'}, model {place[1] or 'none'}"
                yield f"{where}: {', '.join(wrong)} of the daily total {relation} the sum of its rows"


def _first_column(query: Any) -> set[str]:
    return {str(row[0]) for row in query.tuples()}


_Sums = dict[tuple[int | None, str], tuple[int, ...]]


def _sums_of_rows(day: str) -> _Sums:
    # Strict engines take two expressions with the same bound value for different ones.
    model = fn.COALESCE(TokenUsage.model, SQL("''"))
    sums = [fn.COALESCE(fn.SUM(getattr(TokenUsage, name)), 0) for name in _TOTALS[:-1]]
    # Stamps of a day sort between its text and its text with a character that sorts after every digit and `T`.
    in_day = (TokenUsage.created_at >= day) & (TokenUsage.created_at < f"{day}~")
    query: Any = TokenUsage.select(TokenUsage.host, model, *sums, fn.COUNT(TokenUsage.id)).where(in_day)
    return {(row[0], row[1]): tuple(row[2:]) for row in query.group_by(TokenUsage.host, model).tuples()}


def _sums_of_totals(day: str) -> _Sums:
    sums = [fn.SUM(getattr(UsageDay, name)) for name in _TOTALS]
    query: Any = UsageDay.select(UsageDay.host, UsageDay.model, *sums).where(UsageDay.day == day)
    # Deleted hosts may have several totals for one day and model.
    return {(row[0], row[1]): tuple(row[2:]) for row in query.group_by(UsageDay.host, UsageDay.model).tuples()}


def _audit(known: Head | None, fleet: Fleet, checked: Checked) -> Iterator[str]:
    """The audit log is as it was written."""
    if not audit.has_chain():
        return
    found = audit_check.verify(fleet.keyring, known)
    checked.audit_rows = found.checked
    yield from (problem.problem for problem in found.problems)
    if found.more:
        yield f"and {found.more} more problems of the audit log"


CHECKS: dict[str, Callable[[Fleet, Checked], Iterator[str]]] = {
    "structure": _structure,
    "documents": _documents,
    "canonical": _pointer,
    "installers": _installers,
    "rights": _rights,
    "prompts": _prompts,
    "usage": _totals,
}
