"""Hosts, the fleet's documents, and which host holds which."""

import itertools
import re
from datetime import timedelta
from typing import Any

from cdxsync.auth import canonical, documents
from cdxsync.auth.documents import AuthDocument
from cdxsync.base import clock, jsontext, texts
from cdxsync.base.errors import Failed, Invalid, Malformed
from cdxsync.codex import versions
from cdxsync.hosts import registry
from cdxsync.ops.import_reference import values
from cdxsync.ops.import_reference.dump import Row
from cdxsync.ops.import_reference.secretbox import CannotOpen, SecretBox
from cdxsync.ops.import_reference.stage import Report, Stage
from cdxsync.security import addresses, apikeys
from cdxsync.store import named_values, rights, sealed_values
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import AuthPayload, Host, HostAuthDigest, HostAuthState, InstallToken

_API_KEY = re.compile(r"[A-Za-z0-9_-]{16,256}")
_TOKEN = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def import_hosts(stage: Stage, report: Report) -> dict[int, str]:
    """Hosts with their keys hashed; returns the names of imported ones, by id."""
    names: dict[int, str] = {}
    taken: set[str] = set()
    for row in stage.rows("hosts"):
        shown = values.optional_text(row, "fqdn", 253) or ""
        try:
            host = _host(row)
        except ValueError as error:
            report.skip(row, str(error), shown)
            continue
        if host["id"] in names or {host["fqdn"], host["api_key_sha256"]} & taken:
            report.skip(row, "another host has its id, name or API key", shown)
            continue
        rights.insert(Host, **host)
        versions.note_reported(None, host["client_version"])
        names[host["id"]] = host["fqdn"]
        taken |= {host["fqdn"], host["api_key_sha256"]}
        report.imported["hosts"] += 1
    return names


def _host(row: Row) -> dict[str, Any]:
    api_key = row.values.get("api_key")
    if not isinstance(api_key, str) or not _API_KEY.fullmatch(api_key):
        raise ValueError("has no readable API key; register it again")
    try:
        fqdn = registry.check_fqdn(row.values.get("fqdn"))
    except ValueError as error:
        raise ValueError(f"fqdn {error}; register it under another name") from None
    created = values.stamp(row, "created_at")
    updated = values.stamp(row, "updated_at") if row.values.get("updated_at") is not None else created
    calls = values.whole(row, "api_calls") if row.values.get("api_calls") is not None else 0
    return {
        "id": values.row_id(row),
        "fqdn": fqdn,
        "api_key_sha256": apikeys.fingerprint(api_key),
        "status": registry.ACTIVE if row.values.get("status") in (None, registry.ACTIVE) else registry.DISABLED,
        "allow_roaming_ips": str(row.values.get("allow_roaming_ips") or 0) == "1",
        "last_refresh": _date(row.values.get("last_refresh")),
        "auth_digest": _digest(row.values.get("auth_digest")),
        "ip": _address(row.values.get("ip")),
        "client_version": values.optional_text(row, "client_version", versions.MAX_LENGTH),
        "wrapper_version": values.optional_text(row, "wrapper_version", versions.MAX_LENGTH),
        "api_calls": calls,
        "last_seen_at": updated if calls else None,
        "created_at": created,
        "updated_at": updated,
    }


def _date(value: object) -> str | None:
    try:
        clock.parse_rfc3339(str(value))
        return str(value)
    except ValueError:
        return None


def _digest(value: object) -> str | None:
    text = str(value).strip().lower()
    return text if texts.DIGEST.fullmatch(text) else None


def _address(value: object) -> str | None:
    """The address of the host; an invalid one is dropped, and the next call binds the host."""
    try:
        return str(addresses.parse(str(value or "")))
    except ValueError:
        return None


def import_documents(fleet: Fleet, stage: Stage, report: Report, box: SecretBox, names: dict[int, str]) -> set[int]:
    """The newest documents, sealed with our key, and which is canonical; returns the ids of imported ones.

    Raises `Failed` when the key opens none of the encrypted ones.
    """
    pointer = _pointer(stage)
    kept: set[int] = set()
    left = fleet.settings.payload_history
    closed = 0
    for row in stage.rows("auth_payloads", newest_first=True):
        shown = f"document {row.values.get('id')}"
        try:
            payload_id = values.row_id(row)
            if payload_id in kept:
                raise ValueError("another document has its id")
            if left < 1 and payload_id != pointer:
                report.skip(row, f"beyond the newest {fleet.settings.payload_history} (setting payload_history)", shown)
                continue
            document, at = _document(stage, row, box)
            source = row.values.get("source_host_id")
            host_id = source if isinstance(source, int) and source in names else None
            canonical.insert(
                fleet,
                document,
                source="host" if source is not None else "admin",
                source_host=host_id,
                at=at,
                payload_id=payload_id,
            )
        except CannotOpen:
            closed += 1
            report.skip(row, "the key does not open it", shown)
            continue
        except ValueError as error:
            report.skip(row, str(error), shown)
            continue
        left -= 1
        kept.add(payload_id)
        report.imported["auth_payloads"] += 1
        report.imported["auth_entries"] += len(document.entries)
    if closed and not box.opened:
        raise Failed(
            "The key of --encryption-key-file opens none of the encrypted documents. Nothing was imported. Give the"
            " AUTH_ENCRYPTION_KEY of the old server's .env",
            code="encryption_key_unusable",
        )
    _point(report, pointer, kept)
    return kept


def _pointer(stage: Stage) -> int | None:
    for row in stage.rows("versions"):
        value = str(row.values.get("version"))
        if row.values.get("name") == canonical.POINTER and value.isdigit() and len(value) < 19:
            return int(value)
    return None


def _point(report: Report, pointer: int | None, kept: set[int]) -> None:
    if not kept:
        return
    chosen = pointer
    if pointer not in kept:
        newest = AuthPayload.select().order_by(AuthPayload.last_refresh_us.desc(), AuthPayload.id.desc()).first()
        chosen = newest.id
        named = f"document {pointer} was canonical, but was not imported" if pointer else "no document was canonical"
        report.notes.append(f"{named}; document {chosen}, the newest, is now")
    named_values.put(canonical.POINTER, str(chosen))
    report.imported["versions"] += 1


def _document(stage: Stage, row: Row, box: SecretBox) -> tuple[AuthDocument, str]:
    """A payload's document, checked like a new one, and when it was stored. Raises `CannotOpen` and ValueError."""
    at = values.stamp(row, "created_at")
    body = row.values.get("body")
    try:
        if isinstance(body, str) and body.strip():
            content = jsontext.decode(box.open(body).encode())
        else:
            content = {"last_refresh": values.text(row, "last_refresh"), "auths": _entries(stage, row, box)}
        accepted = clock.read_stamp(at) + timedelta(seconds=1)
        document = documents.canonicalise(content, at=accepted, token_min_length=8)
    except Malformed:
        raise ValueError("its body is not JSON") from None
    except Invalid as error:
        raise ValueError(f"not a valid document: {error.explain().partition(': ')[2]}") from None
    if document.digest != _digest(row.values.get("sha256")):
        raise ValueError("its content does not match its digest")
    return document, at


def _entries(stage: Stage, row: Row, box: SecretBox) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in stage.rows("auth_entries", values.row_id(row)):
        shown: dict[str, Any] = {}
        meta = entry.values.get("meta")
        if isinstance(meta, str):
            extra = jsontext.decode(meta.encode())
            shown |= extra if isinstance(extra, dict) else {}
        for name in ("token_type", "organization", "project", "api_base"):
            if entry.values.get(name) is not None:
                shown[name] = str(entry.values[name])
        found[values.text(entry, "target")] = shown | {"token": box.open(values.text(entry, "token"))}
    if not found:
        raise ValueError("has neither a body nor entries")
    return found


def import_states(stage: Stage, report: Report, names: dict[int, str], kept: set[int]) -> None:
    """Which document each host held."""
    done: set[int] = set()
    for row in stage.rows("host_auth_states"):
        try:
            host_id, payload_id = values.row_id(row, "host_id"), values.row_id(row, "payload_id")
            seen, at = _digest(row.values.get("seen_digest")), values.stamp(row, "seen_at")
        except ValueError as error:
            report.skip(row, str(error))
            continue
        if host_id not in names or payload_id not in kept or seen is None or host_id in done:
            report.skip(row, "its host or its document is not imported")
            continue
        HostAuthState.insert(host=host_id, payload=payload_id, seen_digest=seen, seen_at=at).execute()
        done.add(host_id)
        report.imported["host_auth_states"] += 1


def import_digests(stage: Stage, report: Report, names: dict[int, str]) -> None:
    """The newest digests of each host (`docs/protocol.md 2.8`)."""
    for host_id, mine in itertools.groupby(stage.rows("host_auth_digests"), lambda row: row.values.get("host_id")):
        dated = []
        for row in mine:
            digest = _digest(row.values.get("digest"))
            if digest is None or not isinstance(host_id, int) or host_id not in names:
                report.skip(row, "not a digest, or its host is not imported")
                continue
            try:
                dated.append((values.stamp(row, "last_seen"), values.stamp(row, "created_at"), digest, row))
            except ValueError as error:
                report.skip(row, str(error))
        seen: set[str] = set()
        for at, created, digest, row in sorted(dated, key=lambda one: one[:3], reverse=True):
            if len(seen) >= registry.RECENT_DIGESTS or digest in seen:
                report.skip(row, f"beyond the newest {registry.RECENT_DIGESTS} of its host")
                continue
            HostAuthDigest.insert(host=host_id, digest=digest, last_seen=at, created_at=created).execute()
            seen.add(digest)
            report.imported["host_auth_digests"] += 1


def import_installers(fleet: Fleet, stage: Stage, report: Report, names: dict[int, str]) -> None:
    """Valid installers; they lead hosts to this server's `public_url`."""
    now = clock.stamp(clock.now())
    for row in stage.rows("install_tokens"):
        shown = values.optional_text(row, "fqdn", 253) or ""
        token, api_key = row.values.get("token"), row.values.get("api_key")
        try:
            host_id, expires = values.row_id(row, "host_id"), values.stamp(row, "expires_at")
            created = values.stamp(row, "created_at")
        except ValueError as error:
            report.skip(row, str(error), shown)
            continue
        if row.values.get("used_at") is not None or expires <= now:
            report.skip(row, "used or expired", shown)
            continue
        host = Host.get_or_none(Host.id == host_id) if host_id in names else None
        good = isinstance(token, str) and _TOKEN.fullmatch(token) and isinstance(api_key, str)
        if host is None or not good or host.api_key_sha256 != apikeys.fingerprint(str(api_key)):
            report.skip(row, "its host is not imported, or has another key", shown)
            continue
        token_sha256 = apikeys.fingerprint(str(token).lower())
        if InstallToken.get_or_none(InstallToken.token_sha256 == token_sha256) is not None:
            report.skip(row, "another one has its token", shown)
            continue
        rights.insert(
            InstallToken,
            token_sha256=token_sha256,
            host=host_id,
            fqdn=host.fqdn,
            api_key=fleet.keyring.seal(str(api_key).encode(), sealed_values.installer_key(token_sha256)),
            base_url=fleet.settings.public_url,
            expires_at=expires,
            created_at=created,
        )
        report.imported["install_tokens"] += 1
