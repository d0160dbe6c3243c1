"""The canonical document: present, usable, and not too old; and its access token."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cdxsync.auth import canonical, refresh
from cdxsync.auth.account import static_kind
from cdxsync.auth.documents import AuthDocument
from cdxsync.base import clock
from cdxsync.base.errors import CdxsyncError
from cdxsync.ops.doctor.model import Finding, Subject, fail, ok, warn
from cdxsync.ops.doctor.storage import fleet_of
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import AuthPayload

OLD_DAYS = 30
LOGIN = "cdx login   on a host, or: cdxsync auth upload FILE"


def canonical_document(subject: Subject) -> Iterator[Finding]:
    """It exists, it passes the rules, and its date is neither in the future nor long ago."""
    fleet = fleet_of(subject)
    row = canonical.pointed_payload()
    if row is None:
        yield warn("the fleet has no auth.json yet", LOGIN)
        return
    try:
        document = _document(fleet, row)
    except CdxsyncError as error:
        yield fail(
            f"document {row.id} is not served: {error.explain()}", f"cdxsync auth rollback previous   or {LOGIN}"
        )
        return
    dated = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=document.instant.microseconds)
    age = subject.at - dated
    static = static_kind(document.content)
    text = f"document {row.id} was refreshed at {document.last_refresh}"
    if static is not None:
        text = f"document {row.id} has {static} of {document.last_refresh}"
    if age < -timedelta(seconds=clock.FUTURE_TOLERANCE_SECONDS):
        yield fail(f"{text}, in the future: the server refuses hosts that hold it", "timedatectl set-ntp true")
    elif static is None and age > timedelta(days=OLD_DAYS):
        yield warn(f"{text}, {age.days} days old: no host has refreshed it since", "run cdx on a host")
    else:
        yield ok(text)


def access_token(subject: Subject) -> Iterator[Finding]:
    """It has not expired, if it can; the server, or Codex on a host, refreshes it while its refresh token is good."""
    row = canonical.pointed_payload()
    if row is None:
        return
    document = _document(fleet_of(subject), row)
    known = [expiry for expiry in map(refresh.expiry_of, _tokens(document)) if expiry is not None]
    if not known:
        yield ok("no token has an expiry date")
        return
    first = min(known)
    if first <= subject.at:
        yield warn(
            f"it expired at {clock.stamp(first)}",
            "cdxsync jobs run refresh, which says why it fails"
            if subject.settings.server_refreshes and refresh.has_refresh_token(document.content)
            else "run cdx on a host, which refreshes it; if that fails: cdx login",
        )
    else:
        yield ok(f"it expires at {clock.stamp(first)}")


def _document(fleet: Fleet, row: canonical.Pointed) -> AuthDocument:
    return canonical.open_payload(fleet, AuthPayload.get_by_id(row.id))


def _tokens(document: AuthDocument) -> list[str]:
    """The access token that Codex uses, or else those of the entries."""
    tokens = document.content.get("tokens")
    own = tokens.get("access_token") if isinstance(tokens, dict) else None
    return [own] if isinstance(own, str) and own else [str(entry["token"]) for entry in document.entries.values()]
