"""`cdx --status`: what is known of this host."""

from __future__ import annotations

import contextlib
import os
import ssl
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.accounts import expiry_of, holds_grant, tokens_of
from cdxsync.wrapper.src.baked import WRAPPER_VERSION
from cdxsync.wrapper.src.codex import Build
from cdxsync.wrapper.src.codex_package import fetched_daemon_version
from cdxsync.wrapper.src.codex_settings import other_logins
from cdxsync.wrapper.src.context import Context, own_fqdn
from cdxsync.wrapper.src.document import LocalDocument, parse_time
from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.file_trouble import Unreadable
from cdxsync.wrapper.src.files import read_json
from cdxsync.wrapper.src.messages import show
from cdxsync.wrapper.src.quota import quota_lines, shown_time, span
from cdxsync.wrapper.src.server import Server
from cdxsync.wrapper.src.spool import Spool
from cdxsync.wrapper.src.sync import Sync
from cdxsync.wrapper.src.watch import watch_state

if TYPE_CHECKING:
    from typing import Any


def certificate_expiry(server: Server) -> float | None:
    """When the server's certificate ends, in seconds since the epoch, or None over plain HTTP. Raises OSError."""
    connection = server.connect()
    try:
        certificate = connection.sock.getpeercert() if isinstance(connection.sock, ssl.SSLSocket) else None
        return ssl.cert_time_to_seconds(str(certificate["notAfter"])) if certificate else None
    finally:
        connection.close()


def expiry_text(server: Server) -> str:
    """The server certificate's end for people."""
    try:
        expiry = certificate_expiry(server)
    except (OSError, SyncError) as error:
        return "not known (%s)" % error
    if expiry is None:
        return "none: plain HTTP"
    return "expires %s (in %s)" % (shown_time(expiry), span(max(0, expiry - time.time())))


def document_text(sync: Sync, answered: str | None) -> str:
    """What can be said of auth.json for people."""
    try:
        local = LocalDocument(sync.path)
    except Unreadable as error:
        return str(error)
    if local.document is None:
        return "unreadable" if local.unreadable else "none"
    states = {
        "valid": "in sync with the server",
        "outdated": "older than the server's",
        "upload_required": "newer than the server's",
        "missing": "the server has none yet",
    }
    state = states.get(answered or "", "not compared")
    if sync.note.own and answered in ("outdated", "upload_required"):
        state = "another login than the server's"
    date = parse_time(local.document["last_refresh"])
    return "%s, refreshed %s" % (state, shown_time(date)) if local.dated else "%s, without a date" % state


def overdue_text(document: dict[str, Any]) -> str:
    """That the server, which refreshes this login, has no access token that is good; empty where it has."""
    ends = expiry_of(document)
    if ends is None or ends > time.time() or not holds_grant(document):
        return ""
    return "the access token expired at %s, and the server has no newer one" % shown_time(ends)


def login_text(sync: Sync) -> str:
    """Whose login this host uses, for people."""
    note = sync.note
    note.load()
    try:
        document = LocalDocument(sync.path).document
    except Unreadable:
        return "not known: auth.json cannot be read"
    if document is None:
        if note.logged_out:
            return "logged out on this host, until: cdx login   or: cdx --wrapper-sync"
        return "none" if note.keeps else "none between runs: this host keeps no credentials"
    if note.brings(document):
        return "made here, and not sent to the server yet: the next run does"
    if note.own:
        return "of this host alone: %s" % note.own.get("text")
    if not note.synced:
        return "not compared with the fleet's yet"
    if sync.login.get("state") == "dead":
        return str(sync.login.get("message") or "the fleet's has ended")
    overdue = overdue_text(document)
    if overdue:
        return "the fleet's; %s. An admin runs on the server: cdxsync doctor" % overdue
    who = "the server refreshes it" if holds_grant(document) else "each host refreshes it"
    if not tokens_of(document).get("refresh_token"):
        who = "a key or token that is not refreshed"
    return "the fleet's; %s" % who


def show_status() -> int:
    """`--status`; returns the exit code: 1 when the server does not answer well."""
    context = Context()
    problem = None
    try:
        answered = context.sync.look()
        context.note_contact()
    except SyncError as error:
        answered, problem = None, error
    versions = context.sync.versions()
    wrapper = versions.get("wrapper_version") or "not known"
    rows = [
        ("host", own_fqdn()),
        ("server", context.server.base_url),
        ("certificate", expiry_text(context.server)),
        ("last sync", shown_time(read_json(context.contact_path).get("synced_at"))),
        ("answer", str(problem) if problem else "good"),
        ("login", login_text(context.sync)),
        ("auth.json", "%s (%s)" % (document_text(context.sync, answered), context.sync.path)),
        ("cdx", "%s (server: %s) %s" % (WRAPPER_VERSION, wrapper, os.path.realpath(__file__))),
        ("codex", codex_text(context.home, context.build, versions)),
        ("prompts", "%d in %s" % (len(context.prompts.local()), context.prompts.folder)),
        ("spool", spool_text(context.spool)),
        ("background", watch_state(context.home)[1]),
    ]
    month = context.sync.answer.get("token_usage_month")
    if isinstance(month, dict):
        rows.append(("this month", "%s tokens of this host" % "{:,}".format(month.get("total") or 0)))
    rows += [("note", text) for text, _ in other_logins(context.home, context.sync.note.file_store)]
    for name, text in rows:
        show("%-12s %s\n" % (name, text))
    for line in quota_lines(context.sync.answer.get("chatgpt_usage"), time.time(), False):
        show(line + "\n")
    return 1 if problem else 0


def codex_text(home: str, build: Build, versions: dict[str, Any]) -> str:
    """Which Codex is here, for people, and which its own updater has for its daemon when that is another."""
    named = versions.get("client_version") or "not known"
    if not build.program:
        return "not installed (server: %s)" % named
    text = "%s (server: %s) %s" % (build.version or "unknown version", named, build.program)
    daemon = fetched_daemon_version(home)
    return text if daemon in ("", build.version) else "%s; its daemon, outside cdx: %s" % (text, daemon)


def spool_text(spool: Spool) -> str:
    """What waits to be sent, for people."""
    count = len(spool.paths())
    kept = 0
    with contextlib.suppress(OSError):
        kept = len([name for name in os.listdir(spool.folder) if not name.endswith(".json")])
    return "%d runs to report%s" % (count, ", %d rejected by the server in %s" % (kept, spool.folder) if kept else "")
