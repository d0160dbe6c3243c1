"""Sends audit rows on as they are committed, and writes the row about refused calls that have none of their own.

A thread of the server reads new rows from the database, so that those of all its processes, of other servers and of
commands are among them, and no request waits for it. Up to where each sink has them stands in the home: what could not
be sent, or was written while no server ran, is sent later, for as long as `keep_log_days` keeps it. Rows have their
number in the chain, so that the receiver sees when some are missing.
"""

import contextlib
import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from peewee import JOIN

from cdxsync.background import audit_sinks
from cdxsync.background.audit_sinks import Sink
from cdxsync.base import clock
from cdxsync.base.errors import CdxsyncError
from cdxsync.base.files import write_private
from cdxsync.security.throttle import Throttle
from cdxsync.store import audit
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Host, LogEntry

LOOK_SECONDS = 1.0
LEFT_OUT_SECONDS = 60.0
STOP_SECONDS = 10.0
STATE_NAME = "audit-sent.json"
_LOCK_NAME = "audit-sent.lock"
_BATCH = 200
_LISTED = 10
_log = logging.getLogger("cdxsync.audit")


class Sent(TypedDict):
    """How far a sink is, and what is wrong with it since when."""

    id: int
    error: str | None
    since: str | None


class Sender:
    """The thread of one process; of the processes of a home one sends."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._stop = threading.Event()
        self._lock: int | None = None
        self._sinks: list[Sink] = []
        self._of: Any = None
        self._throttle = Throttle(fleet.settings.home / "throttle.db", failures_per_minute=0, calls_per_minute=0)
        self._thread = threading.Thread(target=self._loop, name="audit", daemon=True)

    def use(self, fleet: Fleet) -> None:
        """Use the settings of `fleet` from now on."""
        self._fleet = fleet

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Send what is there, and end."""
        self._stop.set()
        self._thread.join(STOP_SECONDS)

    def _loop(self) -> None:
        told_at = time.monotonic()
        while True:
            ends = self._stop.wait(LOOK_SECONDS)
            with contextlib.ExitStack() as stack:
                stack.enter_context(self._fleet.database.scope())
                try:
                    if ends or time.monotonic() - told_at > LEFT_OUT_SECONDS:
                        told_at = time.monotonic()
                        note_left_out(self._throttle)
                    self._send()
                except CdxsyncError as error:
                    _log.error("audit rows cannot be read: %s", error.explain())
                except Exception:
                    _log.exception("audit rows cannot be sent")
            if ends:
                break
        for sink in self._sinks:
            sink.close()
        if self._lock is not None:
            os.close(self._lock)
        self._fleet.database.disconnect()

    def _send(self) -> None:
        settings = self._fleet.settings
        wanted = (settings.audit_file, settings.audit_syslog)
        if wanted != self._of:
            for sink in self._sinks:
                sink.close()
            self._sinks, self._of = audit_sinks.of(settings), wanted
        if self._sinks and self._is_mine():
            send_new(settings.home, self._sinks)

    def _is_mine(self) -> bool:
        if self._lock is None:
            descriptor = os.open(self._fleet.settings.home / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                return False
            self._lock = descriptor
        return True


def note_left_out(throttle: Throttle) -> None:
    """Write a row about the refused calls that have none, if there were some."""
    found = throttle.left_out()
    if found:
        most = sorted(found.items(), key=lambda item: -item[1])[:_LISTED]
        audit.note("access.left_out", actor="server", calls=sum(found.values()), most=dict(most))


def state_of(home: Path) -> dict[str, Sent]:
    """How far each sink is, by its name."""
    try:
        found: dict[str, Sent] = json.loads((home / STATE_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def send_new(home: Path, sinks: list[Sink]) -> None:
    """Send each sink what it has not got. One in the place of another of its kind goes on where that has come to; a new
    one begins with the next row.
    """
    before, after = state_of(home), {}
    newest = _newest_id()
    for sink in sinks:
        sent = before.get(sink.name) or _of_kind(before, sink)
        if sent is None:
            sent = Sent(id=newest, error=None, since=None)
        elif sent["id"] > newest:
            _log.warning("%s has audit rows up to %s, and the newest is %s", sink.name, sent["id"], newest)
            sent = Sent(id=newest, error=None, since=None)
        after[sink.name] = _send_to(sink, sent)
    if after != before:
        write_private(home / STATE_NAME, json.dumps(after).encode())


def _of_kind(before: Mapping[str, Sent], sink: Sink) -> Sent | None:
    """How far the sink had come that another setting has named, such as one with a mistyped path."""
    kind = sink.name.partition(" ")[0]
    return next((sent for name, sent in before.items() if name.partition(" ")[0] == kind), None)


def _newest_id() -> int:
    row = LogEntry.select(LogEntry.id).order_by(LogEntry.id.desc()).first()
    return 0 if row is None else int(row.id)


def _send_to(sink: Sink, sent: Sent) -> Sent:
    last = sent["id"]
    while rows := _rows_after(last):
        try:
            sink.send(rows)
        except OSError as error:
            text = error.strerror or str(error)
            if text != sent["error"]:
                _log.error("audit rows from %s on wait: %s: %s", last + 1, sink.name, text)
            return Sent(id=last, error=text, since=sent["since"] or clock.stamp(clock.now()))
        last = int(rows[-1]["id"])
    if sent["error"] is not None:
        _log.warning("%s has all audit rows again", sink.name)
    return Sent(id=last, error=None, since=None)


def _rows_after(last: int) -> list[dict[str, Any]]:
    query: Any = LogEntry.select(LogEntry, Host.id, Host.fqdn).join(Host, JOIN.LEFT_OUTER).where(LogEntry.id > last)
    return [
        {
            "id": row.id,
            "seq": row.seq,
            "created_at": row.created_at,
            "actor": row.actor,
            "ip": row.ip,
            "action": row.action,
            "host": getattr(row.host, "fqdn", None) if row.host_id is not None else None,
            "request_id": row.request_id,
            "details": _read_details(row.details),
            "hash": row.hash,
        }
        for row in query.order_by(LogEntry.id).limit(_BATCH)
    ]


def _read_details(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:  # written past cdxsync
        return text


def waiting(home: Path, sink: str) -> int:
    """How many rows a sink has not got."""
    sent = state_of(home).get(sink)
    return 0 if sent is None else int(LogEntry.select().where(LogEntry.id > sent["id"]).count())
